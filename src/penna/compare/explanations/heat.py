"""A table of scores as a coloured one, on a sheet: rows and columns with names, and the scores written where there is
room."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from penna.compare.explanations.shades import strength
from penna.compare.explanations.sheet import GREY, MARGIN, Sheet, text_width
from penna.compare.explanations.wording import score_text
from penna.compare.labels import end_cut

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
    rows, columns = ([end_cut(name, _LONGEST) for name in names] for names in (heat.rows, heat.columns))
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
