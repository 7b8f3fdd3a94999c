"""The figure of scores of words: the words of a text line by line, and under each other a row for each method or layer.

Within a line the boxes of a word stand in one column, so that rows can be compared; a box is coloured by its score,
which is written in it. A text that runs from right to left is drawn so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from penna.explain.explanation import Answer
from penna.formatting import truncate_end
from penna.report.explanations.shades import strength
from penna.report.explanations.sheet import GREY, LINE, MARGIN, Sheet, lines_of, text_width
from penna.report.explanations.wording import ends_line, score_text, word_name
from penna.report.plot_files import Spell

SHEET = 760.0  # points, of a whole figure
_LONGEST = 28  # cells of a word
_WORD, _NUMBER = 9.0, 6.5  # sizes of letters
_HIGH, _GAP = 25.0, 8.0


@dataclass(frozen=True)
class Row:
    """A score for each word, all on one scale."""

    name: str
    scale: str  # what full colour stands for
    scores: Sequence[float]
    most: float  # the score of full colour
    signed: bool


def draw_rows(sheet: Sheet, answer: Answer, rows: Sequence[Row], spell: Spell, *, right_to_left: bool = False) -> None:
    """Draw the rows below what is on a sheet, in as many lines as the words need."""
    names = [_drawn_name(answer, number, spell) for number in range(len(answer.words))]
    numbers = [[score_text(score, row.most, row.signed) for score in row.scores] for row in rows]
    widths = [
        max(text_width(name, _WORD), *(text_width(row[place], _NUMBER) for row in numbers)) + 5
        for place, name in enumerate(names)
    ]
    left = MARGIN + max(max(text_width(row.name, 8), text_width(row.scale, 5.5)) for row in rows) + 8
    ends = [ends_line(answer, number) for number in range(len(names))]
    for line in lines_of(widths, sheet.width - MARGIN - left, ends):
        for row, written in zip(rows, numbers, strict=True):
            edge, side = (sheet.width - MARGIN, "right") if right_to_left else (MARGIN, "left")
            sheet.write(edge, sheet.at + 9, row.name, 8, ha=side)
            sheet.write(edge, sheet.at + 18, row.scale, 5.5, GREY, ha=side)
            x = sheet.width - left if right_to_left else left
            for word in line:
                x -= widths[word] if right_to_left else 0
                color = sheet.box(
                    (x, sheet.at), (widths[word], _HIGH), strength(row.scores[word], row.most), row.signed
                )
                middle = x + widths[word] / 2
                sheet.write(middle, sheet.at + 8.5, names[word], _WORD, color, ha="center")
                sheet.write(middle, sheet.at + 19, written[word], _NUMBER, color, ha="center")
                x += 0 if right_to_left else widths[word]
            sheet.at += _HIGH + 1
        sheet.at += _GAP
    if not names:
        sheet.at += LINE


def _drawn_name(answer: Answer, number: int, spell: Spell) -> str:
    return spell(truncate_end(word_name(answer, number), _LONGEST), f"(word {number + 1})")
