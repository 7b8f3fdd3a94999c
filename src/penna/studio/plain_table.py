"""A table of texts as HTML has them: a header that names columns, and rows that scroll sideways if need be."""

from __future__ import annotations

from collections.abc import Sequence

from nicegui import ui

from penna.report.html_page import escape_html


def plain_table(
    title: str, header: Sequence[str], rows: Sequence[Sequence[str]], *, of_figures: bool = True
) -> ui.element:
    """A table called ``title``; its first column names the rows, the others are set right where they are figures."""
    number = ' class="number" style="white-space: nowrap"' if of_figures else ""
    head = "".join(
        f'<th scope="col"{number if place else ""}>{escape_html(cell)}</th>' for place, cell in enumerate(header)
    )
    body = "".join(f"<tr>{_cells(row, number)}</tr>" for row in rows)
    region = ui.element("div").classes("scrolls").props("role=region tabindex=0")
    region.props["aria-label"] = title
    with region:
        ui.html(f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>", sanitize=False, tag="table").classes("plain")
    return region


def _cells(row: Sequence[str], number: str) -> str:
    first, *others = row
    rest = "".join(f"<td{number}>{escape_html(cell)}</td>" for cell in others)
    return f'<th scope="row">{escape_html(first)}</th>{rest}'
