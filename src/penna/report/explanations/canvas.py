"""A matplotlib figure in points, filled from the top: paragraphs, color scales, heat maps and rows of words.

Text is measured before it is placed, so that every box is as wide as its content.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from penna.explain.explanation import Answer
from penna.formatting import truncate_end
from penna.report.explanations.colors import ink, shade, strength
from penna.report.explanations.wording import is_line_end, score_text, word_name
from penna.report.plot_files import Spell

CANVAS_WIDTH = 760.0  # points
MARGIN, LINE = 16.0, 13.0
GRAY = "#555555"

_MAX_NUMBERED_COLUMNS = 40  # of a heat map with its scores in the boxes
_NAME_CELLS = 18  # longest name of a row or column
_WORD_CELLS = 28  # longest word
_WORD_SIZE, _NUMBER_SIZE = 9.0, 6.5  # font sizes
_ROW_HEIGHT, _ROW_GAP = 25.0, 8.0


class Canvas:
    """A figure of fixed width, whose height grows with its content."""

    def __init__(self, width: float) -> None:
        from matplotlib.figure import Figure

        self.width = width
        self.y = MARGIN  # where the next element begins, from the top
        self.figure = Figure()
        self.axes: Any = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set_axis_off()
        self._boxes: list[list[tuple[float, float]]] = []
        self._colors: list[str] = []

    def text(self, x: float, y: float, text: str, size: float = 8, color: str = "black", **style: Any) -> None:
        """Draw a text, vertically centered on ``y``."""
        style = {"va": "center", **style}
        self.axes.text(x, y, text, fontsize=size, color=color, parse_math=False, **style)

    def paragraph(self, text: str, size: float = 8, color: str = "black", weight: str = "normal") -> None:
        """Add a text, wrapped to the width."""
        cells = max(int((self.width - 2 * MARGIN) / (0.6 * size)), 20)
        lines = [line.plain.rstrip() for line in Text(text).wrap(Console(width=cells), cells)]
        for line in lines or [""]:
            self.text(MARGIN, self.y + LINE / 2, line, size, color, weight=weight)
            self.y += size * 1.5

    def box(self, corner: tuple[float, float], size: tuple[float, float], part: float, signed: bool) -> str:
        """Draw a box in the color of a relative score, and return the color for text in it."""
        (x, y), (width, height), color = corner, size, shade(part, signed)
        self._boxes.append([(x, y), (x + width, y), (x + width, y + height), (x, y + height)])
        self._colors.append(color)
        return ink(color)

    def scale(self, signed: bool, text: str) -> None:
        """Add a strip of all colors with its explanation."""
        steps = range(-10, 11) if signed else range(11)
        for number, step in enumerate(steps):
            self.box((MARGIN + 5 * number, self.y + 2), (5, 8), step / 10, signed)
        self.text(MARGIN + 5 * len(steps) + 6, self.y + 6, text, 7, GRAY)
        self.y += LINE

    def finish(self) -> Any:
        """The figure, as high as its content."""
        from matplotlib.collections import PolyCollection

        height = self.y + MARGIN
        boxes = PolyCollection(self._boxes, facecolors=self._colors, edgecolors="#dddddd", linewidths=0.4, zorder=1)
        self.axes.add_collection(boxes, autolim=False)
        self.figure.set_size_inches(self.width / 72, height / 72)
        self.axes.set(xlim=(0, self.width), ylim=(height, 0))
        return self.figure


def text_width(text: str, size: float) -> float:
    """The approximate width of a text, in points."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    width, _, _ = text_to_path.get_text_width_height_descent(text, FontProperties(size=size), ismath=False)
    return max(width, 0.55 * size * cell_len(text))


@dataclass(frozen=True)
class Heatmap:
    """A table of scores with one scale."""

    rows: Sequence[str]
    columns: Sequence[str]
    scores: Sequence[Sequence[float | None]]  # None: an empty cell
    scale: float  # the score of full color
    signed: bool


def column_width(columns: int) -> float:
    """The width of a heat map's column."""
    return 27.0 if columns <= _MAX_NUMBERED_COLUMNS else 12.0


def draw_heatmap(canvas: Canvas, heatmap: Heatmap, *, vertical_names: bool = True, right_to_left: bool = False) -> None:
    """Add a heat map."""
    rows, columns = ([truncate_end(name, _NAME_CELLS) for name in names] for names in (heatmap.rows, heatmap.columns))
    is_numbered = len(columns) <= _MAX_NUMBERED_COLUMNS
    left = MARGIN + max(text_width(name, 8) for name in rows) + 8
    width, height = column_width(len(columns)), 15.0
    places = [left + width * (len(columns) - 1 - at if right_to_left else at) for at in range(len(columns))]
    canvas.y += max(text_width(name, 7.5) for name in columns) + 4 if vertical_names else 12
    rotation = 90 if vertical_names else 0
    for x, name in zip(places, columns, strict=True):
        canvas.text(x + width / 2, canvas.y - 2, name, 7.5, ha="center", va="bottom", rotation=rotation)
    for name, line in zip(rows, heatmap.scores, strict=True):
        middle = canvas.y + height / 2
        canvas.text(left - 6, middle, name, 8, ha="right")
        for x, score in zip(places, line, strict=True):
            if score is None:
                continue
            color = canvas.box((x, canvas.y), (width, height), strength(score, heatmap.scale), heatmap.signed)
            if is_numbered:
                number = score_text(score, heatmap.scale, heatmap.signed)
                canvas.text(x + width / 2, middle, number, 5.5, color, ha="center")
        canvas.y += height
    if not is_numbered:
        note = f"Scores are shown for up to {_MAX_NUMBERED_COLUMNS} columns; --json has all."
        canvas.text(left, canvas.y + 8, note, 6.5, GRAY)
        canvas.y += 15
    canvas.y += 8


@dataclass(frozen=True)
class ScoreRow:
    """A score for each word, with one scale."""

    name: str
    scale_text: str  # what full color means
    scores: Sequence[float]
    scale: float  # the score of full color
    signed: bool


def draw_score_rows(
    canvas: Canvas, answer: Answer, rows: Sequence[ScoreRow], spell: Spell, *, right_to_left: bool = False
) -> None:
    """Add the words of an answer line by line, with the rows of their scores under each other.

    In a line, a word has the same position in every row. Right-to-left text begins at the right.
    """
    names = [
        spell(truncate_end(word_name(answer, number), _WORD_CELLS), f"(word {number + 1})")
        for number in range(len(answer.words))
    ]
    numbers = [[score_text(score, row.scale, row.signed) for score in row.scores] for row in rows]
    widths = [
        max(text_width(name, _WORD_SIZE), *(text_width(row[word], _NUMBER_SIZE) for row in numbers)) + 5
        for word, name in enumerate(names)
    ]
    left = MARGIN + max(max(text_width(row.name, 8), text_width(row.scale_text, 5.5)) for row in rows) + 8
    line_ends = [is_line_end(answer, number) for number in range(len(names))]
    edge, side = (canvas.width - MARGIN, "right") if right_to_left else (MARGIN, "left")
    for line in break_lines(widths, canvas.width - MARGIN - left, line_ends):
        for row, row_numbers in zip(rows, numbers, strict=True):
            canvas.text(edge, canvas.y + 9, row.name, 8, ha=side)
            canvas.text(edge, canvas.y + 18, row.scale_text, 5.5, GRAY, ha=side)
            x = canvas.width - left if right_to_left else left
            for word in line:
                x -= widths[word] if right_to_left else 0
                part = strength(row.scores[word], row.scale)
                color = canvas.box((x, canvas.y), (widths[word], _ROW_HEIGHT), part, row.signed)
                middle = x + widths[word] / 2
                canvas.text(middle, canvas.y + 8.5, names[word], _WORD_SIZE, color, ha="center")
                canvas.text(middle, canvas.y + 19, row_numbers[word], _NUMBER_SIZE, color, ha="center")
                x += 0 if right_to_left else widths[word]
            canvas.y += _ROW_HEIGHT + 1
        canvas.y += _ROW_GAP
    if not names:
        canvas.y += LINE


def break_lines(widths: Sequence[float], max_width: float, line_ends: Sequence[bool]) -> Iterator[range]:
    """Boxes in lines of at most ``max_width``; a line also ends after a box of ``line_ends``."""
    start, used = 0, 0.0
    for number, width in enumerate(widths):
        if number > start and used + width > max_width:
            yield range(start, number)
            start, used = number, 0.0
        used += width
        if line_ends[number]:
            yield range(start, number + 1)
            start, used = number + 1, 0.0
    if start < len(widths):
        yield range(start, len(widths))
