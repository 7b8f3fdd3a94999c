"""A comparison as files: Markdown, CSV, LaTeX (booktabs) and JSON.

CSV holds figures as they are (shares, not percent), a row for each run and then the arm's mean, standard deviation,
difference from the baseline and the ends of its interval, told apart by the column ``what``.
"""

from __future__ import annotations

import csv
import io
import json
import re

from penna.report.decoding_tables import spelled_out
from penna.report.experiments.comparison import Comparison
from penna.report.experiments.tables import ComparisonTable, all_tables, legend

_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "±": r"$\pm$", "–": "--", "→": r"$\rightarrow$",
}  # fmt: skip


def markdown(comparison: Comparison) -> str:
    """All tables, warnings and texts."""
    lines = [f"# {_md(comparison.title)}", ""]
    if comparison.description:
        lines += [_md(comparison.description), ""]
    if comparison.warnings:
        lines += ["## Warnings", "", *(f"- {_md(warning.text)}" for warning in comparison.warnings), ""]
    for table in all_tables(comparison):
        lines += [f"## {_md(table.title)}", "", *_md_table(table), ""]
    lines += [_md(legend(comparison)), ""]
    if comparison.identical:
        lines += ["## What is the same in all arms", "", *(f"- {_md(line)}" for line in comparison.identical), ""]
    if comparison.texts:
        lines += ["## Texts", ""]
    for texts in comparison.texts:
        lines += [f"### {_md(texts.prompt) or '(start of a document)'}", ""]
        for text in texts.texts:
            note = f" ({_md(text.note)})" if text.note else ""
            lines += [f"**{_md(text.arm)}**{note}", ""]
            lines += [] if text.text is None else [*_fenced(text.text), ""]
    made = comparison.made
    lines += ["## How it was made", "", f"- {made.date}, Penna {made.penna}", f"- `{_code(made.command)}`"]
    return "\n".join(lines) + "\n"


def comparison_csv(comparison: Comparison) -> str:
    """All figures of runs and arms."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    columns = comparison.columns
    writer.writerow(["arm", "what", "run", "seed", *(column.key for column in columns)])
    for arm in comparison.arms:
        for run in arm.runs:
            values = [run.finals.get((column.group, column.name), "") for column in columns]
            writer.writerow([arm.name, "run", run.name, run.seed, *values])
        spreads = [arm.spread(column) for column in columns]
        writer.writerow([arm.name, "mean", "", "", *("" if own is None else own.mean for own in spreads)])
        writer.writerow([arm.name, "sd", "", "", *("" if own is None or own.sd is None else own.sd for own in spreads)])
        if arm is comparison.baseline:
            continue
        found = [comparison.difference(arm, column) for column in columns]
        writer.writerow([arm.name, "difference", "", "", *("" if own is None else own.mean for own in found)])
        for what in ("low", "high"):
            ends = [None if own is None else getattr(own, what) for own in found]
            writer.writerow([arm.name, what, "", "", *("" if end is None else end for end in ends)])
    return out.getvalue()


def latex(comparison: Comparison) -> str:
    """All tables as ``table`` environments; they need the package booktabs and, for other scripts, XeLaTeX."""
    parts = [
        f"% {_one_line(comparison.title)}; made by: {_one_line(comparison.made.command)}",
        r"% \usepackage{booktabs}",
    ]
    for table in all_tables(comparison):
        alignment = "l" + ("r" if table.is_of_figures else "l") * (len(table.header) - 1)
        parts += [
            "",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{latex_escaped(table.title)}}}",
            rf"\begin{{tabular}}{{{alignment}}}",
            r"\toprule",
            _latex_row(table.header),
            r"\midrule",
            *(_latex_row(row) for row in table.rows),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    parts += ["", f"% {_one_line(legend(comparison))}"]
    return "\n".join(parts) + "\n"


def comparison_json(comparison: Comparison) -> str:
    """All that is known, as JSON."""
    return json.dumps(comparison.as_json(), ensure_ascii=False, indent=2, allow_nan=False) + "\n"


def latex_escaped(text: str) -> str:
    """A text in which LaTeX finds no command."""
    return "".join(_LATEX.get(char, char) for char in _one_line(text))


def _latex_row(cells: tuple[str, ...]) -> str:
    escaped = [re.sub(r"(?<!\S)-(?=\d)", "$-$", latex_escaped(cell)) for cell in cells]
    # A row that begins with "[" would be read as what \\ of the row above takes.
    return " & ".join(f"{{{cell}}}" if cell.startswith("[") else cell for cell in escaped) + r" \\"


def _one_line(text: str) -> str:
    return spelled_out(text).replace("⏎\n", " ")


def _md_table(table: ComparisonTable) -> list[str]:
    rule = "---:|" if table.is_of_figures else "---|"
    return [
        "| " + " | ".join(map(_md, table.header)) + " |",
        "|---|" + rule * (len(table.header) - 1),
        *("| " + " | ".join(map(_md, row)) + " |" for row in table.rows),
    ]


def _md(text: str) -> str:
    """A text on one line that is no Markdown."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", _one_line(text))


def _code(text: str) -> str:
    return _one_line(text).replace("`", "'")


def _fenced(text: str) -> list[str]:
    spelled = spelled_out(text)
    fence = "```"
    while fence in spelled:
        fence += "`"
    return [f"{fence}text", spelled, fence]
