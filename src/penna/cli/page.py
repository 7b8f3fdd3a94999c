"""A page on standard output: titles, tables and paragraphs, a step in from the left, in 80 to 100 columns.

Widths are counted in cells, so that columns with Chinese and Korean stand straight; whatever cannot be printed is
spelled out.
"""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from penna.cli.screen import figure_table
from penna.formatting import percent

_WIDTH = 100  # cells, at most


class Page:
    """Prints on standard output."""

    def __init__(self) -> None:
        width = min(Console().width, _WIDTH)
        self.inside = width - 2  # cells of a line behind its step
        self._console = Console(highlight=False, markup=False, width=width)

    def title(self, text: str) -> None:
        """A heading, an empty line above it."""
        self._console.print()
        self._console.print(Text(text, style="bold"), soft_wrap=True)

    def figures(self, rows: Iterable[tuple[str, str, str]]) -> None:
        """Rows of a name, a figure set right, and a remark."""
        self.show(figure_table(rows))

    def wrapped(self, text: str) -> None:
        """A paragraph."""
        self.show(Text(text))

    def lines(self, lines: Iterable[str]) -> None:
        """Lines as they are, however long."""
        for line in lines:
            self._console.print(Text(f"  {line}"), soft_wrap=True)

    def gap(self) -> None:
        """An empty line."""
        self._console.print()

    def show(self, content: Table | Text) -> None:
        """A table or a text, broken to the width."""
        with self._console.capture() as capture:
            self._console.print(content, width=self.inside)
        for line in capture.get().splitlines():
            print(f"  {line}".rstrip())


def share(value: float) -> str:
    """A share for people, "none" where it is one of nothing."""
    return percent(value) if value else "none"
