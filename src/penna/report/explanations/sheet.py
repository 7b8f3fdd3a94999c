"""A sheet to draw an explanation's figure on: a matplotlib figure counted in points, from the top left corner.

Text is measured before it is placed, so that boxes hold what they are drawn for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from penna.formatting import truncate_end
from penna.report.explanations.shades import ink, shade, strength
from penna.report.explanations.wording import score_text

MARGIN, LINE = 16.0, 13.0
GREY = "#555555"


class Sheet:
    """A figure of a width, on which things are written from the top down; its height is what was needed."""

    def __init__(self, width: float) -> None:
        from matplotlib.figure import Figure

        self.width = width
        self.at = MARGIN  # how far down things stand by now
        self.figure = Figure()
        self.axes: Any = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set_axis_off()
        self._boxes: list[list[tuple[float, float]]] = []
        self._colors: list[str] = []

    def write(self, x: float, y: float, text: str, size: float = 8, color: str = "black", **looks: Any) -> None:
        """A text, its middle at the height ``y``."""
        looks = {"va": "center", **looks}
        self.axes.text(x, y, text, fontsize=size, color=color, parse_math=False, **looks)

    def paragraph(self, text: str, size: float = 8, color: str = "black", weight: str = "normal") -> None:
        """A text broken to the width, below what is there."""
        letters = max(int((self.width - 2 * MARGIN) / (0.6 * size)), 20)
        for line in _broken(text, letters):
            self.write(MARGIN, self.at + LINE / 2, line, size, color, weight=weight)
            self.at += size * 1.5

    def box(self, place: tuple[float, float], size: tuple[float, float], part: float, signed: bool) -> str:
        """A coloured box, its upper left corner at a place; the colour to write in it with."""
        (x, y), (width, height), color = place, size, shade(part, signed)
        self._boxes.append([(x, y), (x + width, y), (x + width, y + height), (x, y + height)])
        self._colors.append(color)
        return ink(color)

    def scale(self, signed: bool, text: str) -> None:
        """A strip of all colours, with what its ends stand for."""
        steps = range(-10, 11) if signed else range(11)
        for number, step in enumerate(steps):
            self.box((MARGIN + 5 * number, self.at + 2), (5, 8), step / 10, signed)
        self.write(MARGIN + 5 * len(steps) + 6, self.at + 6, text, 7, GREY)
        self.at += LINE

    def done(self) -> Any:
        """The figure, as high as what is on it."""
        from matplotlib.collections import PolyCollection

        height = self.at + MARGIN
        boxes = PolyCollection(self._boxes, facecolors=self._colors, edgecolors="#dddddd", linewidths=0.4, zorder=1)
        self.axes.add_collection(boxes, autolim=False)
        self.figure.set_size_inches(self.width / 72, height / 72)
        self.axes.set(xlim=(0, self.width), ylim=(height, 0))
        return self.figure


def text_width(text: str, size: float) -> float:
    """About how wide a text is, in points."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    width, _, _ = text_to_path.get_text_width_height_descent(text, FontProperties(size=size), ismath=False)
    return max(width, 0.55 * size * cell_len(text))


def lines_of(widths: Sequence[float], room: float, ends: Sequence[bool]) -> Iterator[range]:
    """Boxes side by side, as many in a line as have room, and a new line behind each that ``ends`` one."""
    start, used = 0, 0.0
    for number, width in enumerate(widths):
        if number > start and used + width > room:
            yield range(start, number)
            start, used = number, 0.0
        used += width
        if ends[number]:
            yield range(start, number + 1)
            start, used = number + 1, 0.0
    if start < len(widths):
        yield range(start, len(widths))


def _broken(text: str, cells: int) -> list[str]:
    """Lines of at most so many cells."""
    return [line.plain.rstrip() for line in Text(text).wrap(Console(width=cells), cells)] or [""]


# MERGED report.explanations.heat: A table of scores as a coloured one, on a sheet: rows and columns with names, and
# the scores written where there is
# room.


_WRITTEN = 40  # columns up to which scores are written in the boxes
_LONGEST = 18  # cells of a name


@dataclass(frozen=True)
class Heat:
    """A table of scores that are on one scale."""

    rows: Sequence[str]
    columns: Sequence[str]
    scores: Sequence[Sequence[float | None]]  # None: an empty place
    most: float  # the score of full colour
    signed: bool


def draw_heat(sheet: Sheet, heat: Heat, *, tilted: bool = True, right_to_left: bool = False) -> None:
    """Draw a table below what is on a sheet, its columns' names upright or lying."""
    rows, columns = ([truncate_end(name, _LONGEST) for name in names] for names in (heat.rows, heat.columns))
    left = MARGIN + max(text_width(name, 8) for name in rows) + 8
    width, high = heat_cell(len(columns)), 15.0
    places = [left + width * (len(columns) - 1 - at if right_to_left else at) for at in range(len(columns))]
    if tilted:
        sheet.at += max(text_width(name, 7.5) for name in columns) + 4
    else:
        sheet.at += 12
    for x, name in zip(places, columns, strict=True):
        turned = 90 if tilted else 0
        sheet.write(x + width / 2, sheet.at - 2, name, 7.5, ha="center", va="bottom", rotation=turned)
    for name, line in zip(rows, heat.scores, strict=True):
        sheet.write(left - 6, sheet.at + high / 2, name, 8, ha="right")
        for x, score in zip(places, line, strict=True):
            if score is None:
                continue
            color = sheet.box((x, sheet.at), (width, high), strength(score, heat.most), heat.signed)
            if len(columns) <= _WRITTEN:
                written = score_text(score, heat.most, heat.signed)
                sheet.write(x + width / 2, sheet.at + high / 2, written, 5.5, color, ha="center")
        sheet.at += high
    if len(columns) > _WRITTEN:
        sheet.at += 3
        sheet.write(
            left, sheet.at + 5, "Scores are written where there are 40 columns or fewer; --json has all.", 6.5, GREY
        )
        sheet.at += 12
    sheet.at += 8


def heat_cell(columns: int) -> float:
    """How wide a column is."""
    return 27.0 if columns <= _WRITTEN else 12.0
