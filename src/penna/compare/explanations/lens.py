"""The figure of the logit lens: what the model would answer behind each layer, a row each, with the answer's own
probability and rank."""

from __future__ import annotations

from collections.abc import Sequence

from penna.compare.explanations.shades import strength
from penna.compare.explanations.sheet import GREY, MARGIN, Sheet
from penna.compare.explanations.wording import answer_name, share
from penna.compare.figure_files import Spell
from penna.compare.labels import end_cut, visible
from penna.explain.explanation import Answer, LensRow

_HIGH = 24.0


def draw_lens(sheet: Sheet, answer: Answer, rows: Sequence[LensRow], spell: Spell) -> None:
    """Draw the table below what is on a sheet."""
    columns = max((len(row.top) for row in rows), default=0)
    left = MARGIN + 165
    width = (sheet.width - MARGIN - left) / max(columns, 1)
    said = end_cut(f"“{answer_name(answer)}”", 18)
    sheet.write(MARGIN, sheet.at + 6, "layer", 8, GREY)
    sheet.write(MARGIN + 60, sheet.at + 6, f"{spell(said, 'the answer')} (rank)", 8, GREY)
    for place in range(columns):
        sheet.write(left + width * (place + 0.5), sheet.at + 6, f"{place + 1}.", 8, GREY, ha="center")
    sheet.at += 14
    for row in rows:
        middle = sheet.at + _HIGH / 2
        sheet.write(MARGIN, middle, "embeddings" if row.layer == 0 else f"{row.layer}", 8)
        color = sheet.box((MARGIN + 60, sheet.at), (95, _HIGH - 1), strength(row.probability, 1.0), False)
        sheet.write(MARGIN + 107, middle, f"{share(row.probability)}  (rank {row.rank:,})", 7.5, color, ha="center")
        for place, guess in enumerate(row.top):
            x = left + width * place
            color = sheet.box((x, sheet.at), (width - 1, _HIGH - 1), strength(guess.probability, 1.0), False)
            name = spell(end_cut(visible(guess.text), max(int(width / 5.5), 4)), "(no font)") or "(nothing)"
            weight = "bold" if guess.text == answer.text or guess.text.replace("␣", " ") == answer.text else "normal"
            sheet.write(x + width / 2, sheet.at + 8, name, 8.5, color, ha="center", weight=weight)
            sheet.write(x + width / 2, sheet.at + 18, share(guess.probability), 6.5, color, ha="center")
        sheet.at += _HIGH
    sheet.at += 6
