"""The figures of an explanation as SVG and PNG: the words and what moved the answer, and what was looked at besides.

The words, or a heat map where a text was generated, are in the file that is asked for; attention maps, the lens, the
heads and the layers each have one beside it, named after what they show.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from penna.explain.explanation import Answer, Explanation, HeadEffects, LayerInformation, LensRow, Prediction
from penna.formatting import one_line, truncate_end, truncate_start
from penna.report.explanations.attention import attention_figure
from penna.report.explanations.generated import generated_scores
from penna.report.explanations.shades import strength
from penna.report.explanations.sheet import GREY, MARGIN, Heat, Sheet, draw_heat, heat_cell
from penna.report.explanations.word_rows import SHEET, Row, draw_rows
from penna.report.explanations.wording import (
    HEADS,
    LAYERS,
    LENS,
    METHOD_WORDS,
    answer_line,
    answer_name,
    checks,
    expected_text,
    generated_text,
    head_parts,
    heading,
    heads_name,
    largest,
    runs_right_to_left,
    scale_text,
    score_text,
    share,
    unsettled,
)
from penna.report.plot_files import Spell, write_plot

# MERGED report.explanations.lens: The figure of the logit lens: what the model would answer behind each layer, a
# row each, with the answer's own
# probability and rank.


_HIGH = 24.0


def draw_lens(sheet: Sheet, answer: Answer, rows: Sequence[LensRow], spell: Spell) -> None:
    """Draw the table below what is on a sheet."""
    columns = max((len(row.top) for row in rows), default=0)
    left = MARGIN + 165
    width = (sheet.width - MARGIN - left) / max(columns, 1)
    said = truncate_end(f"“{answer_name(answer)}”", 18)
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
            name = spell(truncate_end(one_line(guess.text), max(int(width / 5.5), 4)), "(no font)") or "(nothing)"
            weight = "bold" if guess.text == answer.text or guess.text.replace("␣", " ") == answer.text else "normal"
            sheet.write(x + width / 2, sheet.at + 8, name, 8.5, color, ha="center", weight=weight)
            sheet.write(x + width / 2, sheet.at + 18, share(guess.probability), 6.5, color, ha="center")
        sheet.at += _HIGH
    sheet.at += 6


_COLUMNS = 80  # words across a heat map, at most
_PROMPT = 240  # cells

Make = Callable[[Spell], Any]


def draw_explanation(explanation: Explanation, file: Path) -> list[Path]:
    """Draw everything an explanation holds; the files, those of the words first.

    Raises DataError where the name is no kind of figure's.
    """
    written = _letters(explanation)
    figures: dict[str, Make] = {"": lambda spell: _answers(explanation, spell), **_views(explanation)}
    files: list[Path] = []
    for name, make in figures.items():
        files += write_plot(make, file.with_stem(f"{file.stem}-{name}") if name else file, written)
    return files


def _views(explanation: Explanation) -> dict[str, Make]:
    """The figures of what was looked at besides, by name."""
    answer, views = explanation.answers[0], explanation.views
    found: dict[str, Make] = {}
    if (maps := views.attention) is not None:
        found["attention"] = lambda spell: attention_figure(answer, maps, spell)
    if (rows := views.lens) is not None:

        def lens(spell: Spell) -> Any:
            sheet = _sheet_of("The logit lens", answer, LENS, spell)
            draw_lens(sheet, answer, rows, spell)
            return sheet.done()

        found["lens"] = lens
    if (effects := views.heads) is not None:
        found["heads"] = lambda spell: _heads(answer, effects, spell)
    if (layers := views.layers) is not None:
        found["layers"] = lambda spell: _layers(explanation, layers, spell)
    return found


def _answers(explanation: Explanation, spell: Spell) -> Any:
    """The words with their scores, or the heat maps of a generated text."""
    if explanation.kind == "generated":
        return _generated(explanation, spell)
    answer = explanation.answers[0]
    sheet = Sheet(SHEET)
    sheet.paragraph(heading(explanation), 11, weight="bold")
    _write_answer(sheet, answer, spell)
    if (without := explanation.views.without) is not None:
        line = f"Without head {heads_name(without.heads)}: probability {share(without.probability)}"
        sheet.paragraph(f"{line}. Likeliest: {_drawn(without.expected, spell)}")
    sheet.at += 4
    _write_scales(sheet, {found.is_signed for found in answer.attributions})
    sheet.at += 6
    rows: list[Row] = []
    for found in answer.attributions:
        most = largest(found.words)
        rows.append(Row(METHOD_WORDS[found.method].title, scale_text(found, most), found.words, most, found.is_signed))
    if rows:
        draw_rows(sheet, answer, rows, spell, right_to_left=runs_right_to_left(explanation.prompt))
    for found in answer.attributions:
        words = METHOD_WORDS[found.method]
        sheet.paragraph(" ".join([f"{words.title}: {words.meaning}.", *checks(found)]), 7, GREY)
    for notice in explanation.notices:
        sheet.paragraph(spell(notice, "(a notice no installed font can write)"), 7, GREY)
    return sheet.done()


def _generated(explanation: Explanation, spell: Spell) -> Any:
    """A heat map for each method: generated tokens down, words across."""
    answers = explanation.answers
    mirrored = runs_right_to_left(explanation.prompt)
    tables = [generated_scores(explanation, method) for method in range(len(explanation.methods))]
    across = max((min(len(table.columns), _COLUMNS) for table in tables), default=1)
    sheet = Sheet(max(SHEET, heat_cell(across) * across + 190))
    sheet.paragraph(heading(explanation), 11, weight="bold")
    prompt = truncate_start(one_line(explanation.prompt), _PROMPT)
    sheet.paragraph(spell(f"{prompt} → {generated_text(explanation)}", "(no installed font has its letters)"))
    sheet.paragraph("A row is a generated token with its probability, a column a word that was read for it.", 7, GREY)
    sheet.at += 4
    _write_scales(sheet, {found.is_signed for found in answers[0].attributions})
    for found, table in zip(answers[0].attributions, tables, strict=True):
        words, most = (
            METHOD_WORDS[found.method],
            largest(score for row in table.scores for score in row if score is not None),
        )
        shown = _strongest(table.scores, len(table.columns))
        cut = (
            f"; the {len(shown)} of {len(table.columns)} words with the highest scores"
            if len(shown) < len(table.columns)
            else ""
        )
        sheet.at += 8
        sheet.paragraph(f"{words.title}: {words.meaning} ({scale_text(found, most)}{cut})")
        sheet.at += 2
        names = [
            f"{spell(name, f'token {number}')}  {share(answer.probability)}"
            for number, (name, answer) in enumerate(zip(table.rows, answers, strict=True), start=1)
        ]
        columns = [spell(table.columns[at], f"(word {at + 1})") for at in shown]
        scores = [[row[at] for at in shown] for row in table.scores]
        draw_heat(sheet, Heat(names, columns, scores, most, found.is_signed), right_to_left=mirrored)
    for notice in explanation.notices:
        sheet.paragraph(spell(notice, "(a notice no installed font can write)"), 7, GREY)
    return sheet.done()


def _strongest(scores: tuple[tuple[float | None, ...], ...], columns: int) -> list[int]:
    """The columns with the highest scores, in their order."""
    highest = [largest(row[at] or 0.0 for row in scores) for at in range(columns)]
    return sorted(sorted(range(columns), key=lambda at: -highest[at])[:_COLUMNS])


def _heads(answer: Answer, effects: HeadEffects, spell: Spell) -> Any:
    """What switching off each head does."""
    parts = head_parts(effects)
    heads, most = len(parts[0]), largest(value for row in parts for value in row)
    sheet = _sheet_of("Heads switched off, each alone", answer, HEADS, spell, heat_cell(heads) * heads + 90)
    _write_scales(sheet, {True}, f"full colour ±{score_text(most, most, signed=False)} nats")
    rows, columns = [f"layer {layer}" for layer in range(len(parts))], [f"{head}" for head in range(heads)]
    draw_heat(sheet, Heat(rows, columns, parts, most, signed=True), tilted=False)
    return sheet.done()


def _layers(explanation: Explanation, layers: LayerInformation, spell: Spell) -> Any:
    """How much of each word every layer keeps."""
    answer, most = explanation.answers[0], largest(value for row in layers.words for value in row)
    sheet = _sheet_of("The information that layers keep of words", answer, LAYERS, spell)
    told = f"full colour {score_text(most, most, signed=False)} nats per number, in all layers"
    _write_scales(sheet, {False}, told)
    sheet.at += 4
    rows = [
        Row(f"layer {layer}", "", words, most, False) for layer, words in zip(layers.layers, layers.words, strict=True)
    ]
    draw_rows(sheet, answer, rows, spell, right_to_left=runs_right_to_left(explanation.prompt))
    if told := unsettled(layers):
        sheet.paragraph(told, 7, GREY)
    return sheet.done()


def _sheet_of(title: str, answer: Answer, meaning: str, spell: Spell, width: float = SHEET) -> Sheet:
    sheet = Sheet(max(width, 480.0))
    sheet.paragraph(title, 11, weight="bold")
    _write_answer(sheet, answer, spell)
    sheet.paragraph(meaning, 7, GREY)
    sheet.at += 4
    return sheet


def _write_answer(sheet: Sheet, answer: Answer, spell: Spell) -> None:
    sheet.paragraph(spell(answer_line(answer), f"the answer: probability {share(answer.probability)}"), 9)
    if answer.expected:
        sheet.paragraph(f"Likeliest: {_drawn(answer.expected, spell)}", 8, GREY)


def _drawn(expected: Sequence[Prediction], spell: Spell) -> str:
    """Answers with their probabilities, those that cannot be written left as such."""
    return expected_text([replace(each, text=spell(each.text, "(no font)")) for each in expected])


def _write_scales(sheet: Sheet, signed: set[bool], told: str = "") -> None:
    for which in sorted(signed, reverse=True):
        meaning = (
            "orange: spoke against the answer, white: 0, blue: spoke for it" if which else "white: 0, purple: the most"
        )
        sheet.scale(which, told or f"{meaning}; each method has its own scale")


def _letters(explanation: Explanation) -> str:
    """Every letter that may stand in a figure."""
    parts = [explanation.prompt, *explanation.notices]
    for answer in explanation.answers:
        parts += [answer.text, *(each.text for each in answer.expected), *(each.text for each in answer.tokens)]
        parts += [word.text for word in answer.words]
        parts += [answer.foil.text] if answer.foil else []
    views = explanation.views
    guesses = [guess for row in views.lens or () for guess in row.top] + list(
        views.without.expected if views.without else ()
    )
    return "".join([*parts, *(guess.text for guess in guesses)])
