"""HTML tables whose cells may be colored by a score: blue for, orange against, purple for an amount.

The colors are those of ``penna.report.explanations``, for light and dark pages. Every text is escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from nicegui import ui

from penna.report.explanations.colors import level, level_rules, strength

_STYLE = """
.shaded{--for:43 108 176;--against:217 115 13;--amount:107 63 160;min-width:0;overflow-wrap:anywhere}
.body--dark .shaded{--for:66 140 230;--against:214 110 10;--amount:150 100 220}
.shaded .text{white-space:pre-wrap;max-height:22rem;overflow:auto;margin:0}
.shaded mark{color:inherit;border-radius:.15rem;padding:0 .1rem}
.shaded mark.odd{background:rgb(var(--for)/.25)}.shaded mark.even{background:rgb(var(--amount)/.25)}
table.plain tr.chosen td,table.plain tr.chosen th{font-weight:700}
table.plain td.wrap{text-align:left;white-space:normal;min-width:14rem}
"""


@dataclass(frozen=True)
class Cell:
    """A cell with a CSS class."""

    text: str
    css: str = ""


def score_cell(text: str, score: float, largest: float, *, signed: bool) -> Cell:
    """A number in a cell that is colored by its score, relative to the largest."""
    return Cell(text, level(strength(score, largest), signed))


def add_table_style() -> None:
    """Add the colors to a page."""
    ui.add_css(_STYLE + "".join(level_rules(".shaded ")))


def show_table(
    title: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str | Cell]],
    *,
    is_numeric: bool = True,
    chosen: int | None = None,
) -> ui.element:
    """A table that scrolls sideways; its first column names the rows.

    Args:
        title: The table's name for screen readers.
        header: The names of the columns.
        rows: The cells of each row.
        is_numeric: Whether the other columns hold numbers, which are aligned right.
        chosen: The row in bold.
    """
    kind = "number" if is_numeric else ""
    head = "".join(_html("th", Cell(name, kind if place else ""), "col") for place, name in enumerate(header))
    body = "".join(
        f"<tr{' class=chosen' if number == chosen else ''}>{_row_html(row, kind)}</tr>"
        for number, row in enumerate(rows)
    )
    region = ui.element("div").classes("scrolls shaded").props("role=region tabindex=0")
    region.props["aria-label"] = title
    with region:
        ui.html(f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>", sanitize=False, tag="table").classes("plain")
    return region


def _row_html(row: Sequence[str | Cell], kind: str) -> str:
    first, *others = (cell if isinstance(cell, Cell) else Cell(cell) for cell in row)
    cells = (
        _html("td", Cell(cell.text, f"{'' if cell.css == 'wrap' else kind} {cell.css}".strip())) for cell in others
    )
    return _html("th", first, "row") + "".join(cells)


def _html(tag: str, cell: Cell, scope: str = "") -> str:
    if scope == "col" and not cell.text:
        return "<td></td>"  # an empty header names nothing
    attributes = (f' scope="{scope}"' if scope else "") + (f' class="{cell.css}"' if cell.css else "")
    return f"<{tag}{attributes}><bdi>{escape(cell.text)}</bdi></{tag}>"


def show_marked_text(content: str) -> None:
    """A scrolling text with marked spans, as escaped HTML."""
    ui.html(f'<p class="text" dir="auto" tabindex="0">{content}</p>', sanitize=False).classes("shaded")
