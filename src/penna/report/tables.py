"""Tables of text cells, and how Markdown and LaTeX write them.

pandas writes the CSV files. Its ``to_markdown`` and ``to_latex`` are not used: they escape neither names with ``|`` or
backticks nor a row that starts with ``[``, which LaTeX would read as an option of the line break before it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "±": r"$\pm$", "–": "--", "→": r"$\rightarrow$",
}  # fmt: skip


@dataclass(frozen=True)
class TextTable:
    """A table whose first column names the rows."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    is_numeric: bool = True  # cells are aligned to the right


def markdown_table(table: TextTable) -> list[str]:
    """The lines of a Markdown table."""
    rule = "---:|" if table.is_numeric else "---|"
    return [
        "| " + " | ".join(map(escape_markdown, table.header)) + " |",
        "|---|" + rule * (len(table.header) - 1),
        *("| " + " | ".join(map(escape_markdown, row)) + " |" for row in table.rows),
    ]


def latex_table(table: TextTable) -> list[str]:
    """The lines of a LaTeX ``table`` environment; it needs the package booktabs and, for other scripts, XeLaTeX."""
    alignment = "l" + ("r" if table.is_numeric else "l") * (len(table.header) - 1)
    return [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape_latex(table.title)}}}",
        rf"\begin{{tabular}}{{{alignment}}}",
        r"\toprule",
        _latex_row(table.header),
        r"\midrule",
        *(_latex_row(row) for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]


def _latex_row(cells: Sequence[str]) -> str:
    escaped = [re.sub(r"(?<!\S)-(?=\d)", "$-$", escape_latex(cell)) for cell in cells]
    return " & ".join(f"{{{cell}}}" if cell.startswith("[") else cell for cell in escaped) + r" \\"


def escape_latex(text: str) -> str:
    """A text on one line, without LaTeX commands."""
    return "".join(_LATEX.get(char, char) for char in on_one_line(text))


def escape_markdown(text: str) -> str:
    """A text on one line, without Markdown markup."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", on_one_line(text))


def code_span(text: str) -> str:
    """A Markdown code span."""
    return "`" + on_one_line(text).replace("`", "'") + "`"


def code_block(text: str) -> list[str]:
    """The lines of a Markdown code block, fenced with more backticks than the text has."""
    escaped = escape_control_characters(text)
    fence = "```"
    while fence in escaped:
        fence += "`"
    return [f"{fence}text", escaped, fence]


def on_one_line(text: str) -> str:
    """A text with its line ends replaced by spaces and other control characters escaped."""
    return escape_control_characters(text).replace("⏎\n", " ")


def escape_control_characters(text: str) -> str:
    r"""A text with invisible characters as ``\u{1b}``; line ends are marked with ⏎ and kept."""
    visible = {"\n": "⏎\n", "\t": "\t"}
    return "".join(visible.get(char) or (char if char.isprintable() else f"\\u{{{ord(char):x}}}") for char in text)
