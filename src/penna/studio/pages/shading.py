"""The colours of scores on the studio's pages: blue for an answer, orange against it, purple for how much.

They are the levels of an explanation's own page (`penna.report.explanations.page.level`), light and dark. Whoever
writes HTML here escapes every text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from nicegui import ui

from penna.report.explanations.page import level
from penna.report.explanations.shades import strength

_LEVELS = 10
_STRONGEST = 0.62  # of a colour, so that text stays readable on it
_COLORS = {"f": "for", "a": "against", "p": "amount"}

_STYLE = """
.shaded{--for:43 108 176;--against:217 115 13;--amount:107 63 160;width:100%;min-width:0;overflow-wrap:anywhere}
.body--dark .shaded{--for:66 140 230;--against:214 110 10;--amount:150 100 220}
.shaded .words{line-height:1.3;padding:.4rem 0;margin:0}
.shaded .w{display:inline-block;text-align:center;vertical-align:top;border-radius:.2rem;padding:.1rem .2rem;
margin:0 0 .3rem}
.shaded .w small{display:block;direction:ltr;unicode-bidi:isolate;font-size:.68rem;line-height:1.2;
font-variant-numeric:tabular-nums}
.shaded .scroll{overflow-x:auto;max-width:100%}
.shaded table{border-collapse:collapse;font-size:.875rem;font-variant-numeric:tabular-nums}
.shaded th,.shaded td{padding:.15rem .45rem;text-align:end;border-bottom:1px solid var(--line);white-space:nowrap}
.shaded th{font-weight:600}
.shaded th[scope=row]{text-align:start;max-width:16rem;overflow:hidden;text-overflow:ellipsis}
.shaded td.left{text-align:start}.shaded td.wrap{text-align:start;white-space:normal;min-width:14rem}
.shaded tr.chosen td,.shaded tr.chosen th{font-weight:700}
.shaded .heat td{padding:0;min-width:1.2rem;height:1.4rem}
.shaded .heat thead th{writing-mode:vertical-rl;text-align:end;font-weight:400;padding:.3rem 0;border:0;
max-height:9rem;overflow:hidden}
.shaded .text{white-space:pre-wrap;max-height:22rem;overflow:auto;margin:0}
.shaded mark{color:inherit;border-radius:.15rem;padding:0 .1rem}
.shaded mark.odd{background:rgb(var(--for)/.25)}.shaded mark.even{background:rgb(var(--amount)/.25)}
.results{display:flex;flex-direction:column;gap:12px;min-width:0}.wide{width:100%}
.figure.map{height:auto;aspect-ratio:1}
.maps{display:flex;flex-wrap:wrap;gap:.4rem}
.maps button{padding:.2rem;font-size:.75rem;text-align:center;border-radius:.3rem;border:2px solid transparent;
background:none;color:inherit;cursor:pointer}
.maps button[aria-pressed=true]{border-color:rgb(139 92 214)}
.maps button:focus-visible{outline:3px solid rgb(66 140 230);outline-offset:1px}
.maps img{display:block;width:64px;height:64px;image-rendering:pixelated;border:1px solid #8886}
"""


def add_shading() -> None:
    """Give a page the colours."""
    ui.add_css(_STYLE + "".join(_levels()))


def shaded(content: str) -> None:
    """Show HTML whose texts are escaped."""
    ui.html(content, sanitize=False).classes("shaded")


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, chosen: int | None = None) -> str:
    """A table of cells; the first of a row names it. ``chosen`` is the row that stands out."""
    names = "".join(f'<th scope="col"><bdi>{escape(name)}</bdi></th>' for name in head[1:])
    first = f'<th scope="row">{escape(head[0])}</th>' if head[0] else "<td></td>"
    lines = [
        f'<tr{" class=chosen" if number == chosen else ""}><th scope="row"><bdi>{escape(row[0])}</bdi></th>'
        f"{''.join(row[1:])}</tr>"
        for number, row in enumerate(rows)
    ]
    return (
        f'<div class="scroll" tabindex="0"><table><thead><tr>{first}{names}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def cell(text: str, kind: str = "") -> str:
    """A cell with a text; ``kind`` is left, wrap, or a level's class."""
    classes = f' class="{kind}"' if kind else ""
    return f"<td{classes}><bdi>{escape(text)}</bdi></td>"


def shaded_cell(text: str, value: float, most: float, *, signed: bool) -> str:
    """A cell with a number, coloured by a value."""
    return cell(text, level(strength(value, most), signed))


def _levels() -> Iterator[str]:
    for kind, color in _COLORS.items():
        for number in range(1, _LEVELS + 1):
            yield f".shaded .{kind}{number}{{background:rgb(var(--{color})/{number / _LEVELS * _STRONGEST:.3f})}}"
