"""Printing: pages of titles, tables and paragraphs on standard output, notes on standard error.

Widths are counted in terminal cells, so that columns with Chinese and Korean text stay aligned. rich is imported when
something is printed with it, not when the command line starts.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from penna.formatting import percent

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

_WIDTH = 100  # cells, at most
_EXCERPT = 240  # characters
_CONTROLS = {code: "·" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}  # C0, DEL and C1


class Page:
    """Prints on standard output, indented by two cells, in at most 100 columns."""

    def __init__(self) -> None:
        self._console = make_console()
        self.width = min(self._console.width, _WIDTH) - 2  # cells of a line without its indent

    def title(self, text: str) -> None:
        """A heading after an empty line."""
        self._console.print()
        self._console.print(text, style="bold", soft_wrap=True)

    def rows(self, rows: Iterable[tuple[str, str, str]]) -> None:
        """Rows of a name, a value and a remark."""
        self.show(value_table(rows))

    def paragraph(self, text: str) -> None:
        """A wrapped paragraph."""
        self.show(text)

    def lines(self, lines: Iterable[str]) -> None:
        """Lines that are not wrapped."""
        for line in lines:
            self._console.print(f"  {line}", soft_wrap=True)

    def gap(self) -> None:
        """An empty line."""
        self._console.print()

    def show(self, content: RenderableType) -> None:
        """A table or text, wrapped to the page's width."""
        with self._console.capture() as capture:
            self._console.print(content, width=self.width)
        for line in capture.get().splitlines():
            print(f"  {line}".rstrip())

    def wide_table(self, table: Table) -> None:
        """A table that is never wrapped or truncated, however wide."""
        wide = make_console(width=2000)
        with wide.capture() as capture:
            wide.print(table)
        self.lines(line.rstrip() for line in capture.get().splitlines())


def make_console(*, stderr: bool = False, width: int | None = None) -> Console:
    """A rich console that prints strings as they are."""
    from rich.console import Console

    colors = None if width else "auto"
    return Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False, color_system=colors)


def grid(columns: str, *header: Any, padding: int = 2) -> Table:
    """A table without borders, with a dim header if one is given.

    ``columns`` has a letter per column: l (left), r (right), d (left and dim), w (left, wraps).
    """
    from rich.table import Table

    table = Table.grid(padding=(0, padding))
    for letter in columns:
        table.add_column(
            justify="right" if letter == "r" else "left",
            style="dim" if letter == "d" else None,
            no_wrap=letter in "lr",
            overflow="fold" if letter == "w" else "ellipsis",
        )
    if any(header):
        table.add_row(*header, style="dim")
    return table


def value_table(rows: Iterable[tuple[str, str, str]]) -> Table:
    """A table of names, values and remarks."""
    table = grid("wrd")
    for row in rows:
        table.add_row(*row)
    return table


def note(text: str) -> None:
    """Print a line on standard error."""
    print(text, file=sys.stderr)


def print_json(value: Any) -> None:
    """Print a value (see ``penna.storage.to_json``) as JSON, without control characters in a terminal."""
    from penna.storage import to_json

    print(printable(json.dumps(to_json(value), ensure_ascii=False, indent=2, allow_nan=False)))


def printable(text: str) -> str:
    """A text for standard output: if that is a terminal, control characters are replaced by ·"""
    return text.translate(_CONTROLS) if sys.stdout.isatty() else text


def excerpt(text: str) -> str:
    """The first 240 characters of a text, on one line, without control characters."""
    flat = "".join(char if char.isprintable() else "⏎" if char == "\n" else "·" for char in text)
    return flat if len(flat) <= _EXCERPT else flat[:_EXCERPT] + "…"


def missing_characters(parts: Sequence[str], *, has_unknown: bool) -> str:
    """A note about characters or words that the vocabulary lacks."""
    from penna.formatting import one_line, truncate_end

    shown = " ".join(truncate_end(one_line(part), 20) for part in parts[:12])
    more = f" and {len(parts) - 12:,} more" if len(parts) > 12 else ""
    encoded = "encoded as the unknown token" if has_unknown else "encoded byte by byte"
    return f"The vocabulary has no token for {shown}{more}: {encoded}."


def share(value: float) -> str:
    """A share as a percentage; "none" for zero."""
    return percent(value) if value else "none"


def duration(seconds: float) -> str:
    """A time as m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def size(count: int) -> str:
    """A number of bytes in MB or GB."""
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"
