"""The plots of an explanation as SVG and PNG.

The requested file shows the words and their scores, or heat maps of generated text. Attention maps, the logit lens,
heads and layers have files beside it, with the name of the view.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from penna.explain.explanation import Answer, Explanation, HeadEffects, LayerInformation, LensRow, Prediction
from penna.formatting import one_line, truncate_end, truncate_start
from penna.report.explanations.attention_plot import attention_figure
from penna.report.explanations.canvas import (
    CANVAS_WIDTH,
    GRAY,
    MARGIN,
    Canvas,
    Heatmap,
    ScoreRow,
    column_width,
    draw_heatmap,
    draw_score_rows,
)
from penna.report.explanations.matrices import generated_scores
from penna.report.explanations.wording import (
    HEADS,
    LAYERS,
    LENS,
    METHOD_TEXTS,
    answer_line,
    answer_name,
    convergence_warning,
    expected_text,
    generated_text,
    head_contributions,
    head_names,
    heading,
    is_right_to_left,
    max_abs,
    method_notes,
    probability_text,
    scale_text,
    score_text,
)
from penna.report.plot_files import Spell, write_plot

_MAX_COLUMNS = 80  # words of a heat map
_PROMPT_CELLS = 240
_LENS_ROW = 24.0  # points
_NO_FONT = "(no installed font has these letters)"

Draw = Callable[[Spell], Any]


def draw_explanation(explanation: Explanation, file: Path) -> list[Path]:
    """Write all plots and return their paths, words first. Raises DataError for a suffix other than .svg and .png."""
    text = _all_text(explanation)
    plots: dict[str, Draw] = {"": lambda spell: _answers_figure(explanation, spell), **_view_plots(explanation)}
    files: list[Path] = []
    for name, draw in plots.items():
        files += write_plot(draw, file.with_stem(f"{file.stem}-{name}") if name else file, text)
    return files


def _view_plots(explanation: Explanation) -> dict[str, Draw]:
    """The plots of the other views, by name."""
    answer, views = explanation.answers[0], explanation.views
    plots: dict[str, Draw] = {}
    if (maps := views.attention) is not None:
        plots["attention"] = lambda spell: attention_figure(answer, maps, spell)
    if (rows := views.lens) is not None:
        plots["lens"] = lambda spell: _lens_figure(answer, rows, spell)
    if (effects := views.heads) is not None:
        plots["heads"] = lambda spell: _heads_figure(answer, effects, spell)
    if (layers := views.layers) is not None:
        plots["layers"] = lambda spell: _layers_figure(explanation, layers, spell)
    return plots


def _answers_figure(explanation: Explanation, spell: Spell) -> Any:
    """The words with their scores, or the heat maps of a generated text."""
    if explanation.kind == "generated":
        return _generated_figure(explanation, spell)
    answer = explanation.answers[0]
    canvas = Canvas(CANVAS_WIDTH)
    canvas.paragraph(heading(explanation), 11, weight="bold")
    _add_answer(canvas, answer, spell)
    if (without := explanation.views.without) is not None:
        line = f"Without head {head_names(without.heads)}: probability {probability_text(without.probability)}"
        canvas.paragraph(f"{line}. Most likely: {_spelled_predictions(without.expected, spell)}")
    canvas.y += 4
    _add_scales(canvas, {found.is_signed for found in answer.attributions})
    canvas.y += 6
    rows: list[ScoreRow] = []
    for found in answer.attributions:
        scale = max_abs(found.words)
        title = METHOD_TEXTS[found.method].title
        rows.append(ScoreRow(title, scale_text(found, scale), found.words, scale, found.is_signed))
    if rows:
        draw_score_rows(canvas, answer, rows, spell, right_to_left=is_right_to_left(explanation.prompt))
    for found in answer.attributions:
        method = METHOD_TEXTS[found.method]
        canvas.paragraph(" ".join([f"{method.title}: {method.meaning}.", *method_notes(found)]), 7, GRAY)
    _add_notices(canvas, explanation, spell)
    return canvas.finish()


def _generated_figure(explanation: Explanation, spell: Spell) -> Any:
    """A heat map for each method: a row per generated token, a column per word."""
    answers = explanation.answers
    right_to_left = is_right_to_left(explanation.prompt)
    tables = [generated_scores(explanation, method) for method in range(len(explanation.methods))]
    columns = max((min(len(table.columns), _MAX_COLUMNS) for table in tables), default=1)
    canvas = Canvas(max(CANVAS_WIDTH, column_width(columns) * columns + 190))
    canvas.paragraph(heading(explanation), 11, weight="bold")
    prompt = truncate_start(one_line(explanation.prompt), _PROMPT_CELLS)
    canvas.paragraph(spell(f"{prompt} → {generated_text(explanation)}", _NO_FONT))
    canvas.paragraph("A row is a generated token with its probability, a column a word that was read for it.", 7, GRAY)
    canvas.y += 4
    _add_scales(canvas, {found.is_signed for found in answers[0].attributions})
    for found, table in zip(answers[0].attributions, tables, strict=True):
        method = METHOD_TEXTS[found.method]
        scale = max_abs(score for row in table.scores for score in row if score is not None)
        shown = _strongest_columns(table.scores, len(table.columns))
        selection = ""
        if len(shown) < len(table.columns):
            selection = f"; the {len(shown)} of {len(table.columns)} words with the highest scores"
        canvas.y += 8
        canvas.paragraph(f"{method.title}: {method.meaning} ({scale_text(found, scale)}{selection})")
        canvas.y += 2
        rows = [
            f"{spell(name, f'token {number}')}  {probability_text(answer.probability)}"
            for number, (name, answer) in enumerate(zip(table.rows, answers, strict=True), start=1)
        ]
        words = [spell(table.columns[index], f"(word {index + 1})") for index in shown]
        scores = [[row[index] for index in shown] for row in table.scores]
        draw_heatmap(canvas, Heatmap(rows, words, scores, scale, found.is_signed), right_to_left=right_to_left)
    _add_notices(canvas, explanation, spell)
    return canvas.finish()


def _strongest_columns(scores: tuple[tuple[float | None, ...], ...], columns: int) -> list[int]:
    """The columns with the highest scores, in ascending order."""
    highest = [max_abs(row[index] or 0.0 for row in scores) for index in range(columns)]
    return sorted(sorted(range(columns), key=lambda index: -highest[index])[:_MAX_COLUMNS])


def _lens_figure(answer: Answer, rows: Sequence[LensRow], spell: Spell) -> Any:
    """A row for each layer: the answer's probability and rank, and the most likely tokens."""
    canvas = _view_canvas("Logit lens", answer, LENS, spell)
    columns = max((len(row.top) for row in rows), default=0)
    left = MARGIN + 165
    width = (canvas.width - MARGIN - left) / max(columns, 1)
    name = truncate_end(f"“{answer_name(answer)}”", 18)
    canvas.text(MARGIN, canvas.y + 6, "layer", 8, GRAY)
    canvas.text(MARGIN + 60, canvas.y + 6, f"{spell(name, 'the answer')} (rank)", 8, GRAY)
    for place in range(columns):
        canvas.text(left + width * (place + 0.5), canvas.y + 6, f"{place + 1}.", 8, GRAY, ha="center")
    canvas.y += 14
    for row in rows:
        middle = canvas.y + _LENS_ROW / 2
        canvas.text(MARGIN, middle, "embeddings" if row.layer == 0 else f"{row.layer}", 8)
        color = canvas.box((MARGIN + 60, canvas.y), (95, _LENS_ROW - 1), row.probability, False)
        probability = f"{probability_text(row.probability)}  (rank {row.rank:,})"
        canvas.text(MARGIN + 107, middle, probability, 7.5, color, ha="center")
        for place, guess in enumerate(row.top):
            x = left + width * place
            color = canvas.box((x, canvas.y), (width - 1, _LENS_ROW - 1), guess.probability, False)
            token = spell(truncate_end(one_line(guess.text), max(int(width / 5.5), 4)), "(no font)") or "(nothing)"
            weight = "bold" if guess.text == answer.text or guess.text.replace("␣", " ") == answer.text else "normal"
            canvas.text(x + width / 2, canvas.y + 8, token, 8.5, color, ha="center", weight=weight)
            canvas.text(x + width / 2, canvas.y + 18, probability_text(guess.probability), 6.5, color, ha="center")
        canvas.y += _LENS_ROW
    canvas.y += 6
    return canvas.finish()


def _heads_figure(answer: Answer, effects: HeadEffects, spell: Spell) -> Any:
    """A heat map of what each head adds to the answer."""
    parts = head_contributions(effects)
    heads, scale = len(parts[0]), max_abs(value for row in parts for value in row)
    canvas = _view_canvas("Heads ablated one by one", answer, HEADS, spell, column_width(heads) * heads + 90)
    _add_scales(canvas, {True}, f"full color ±{score_text(scale, scale, signed=False)} nats")
    rows, columns = [f"layer {layer}" for layer in range(len(parts))], [f"{head}" for head in range(heads)]
    draw_heatmap(canvas, Heatmap(rows, columns, parts, scale, signed=True), vertical_names=False)
    return canvas.finish()


def _layers_figure(explanation: Explanation, layers: LayerInformation, spell: Spell) -> Any:
    """The words with the information that each layer keeps of them."""
    answer, scale = explanation.answers[0], max_abs(value for row in layers.words for value in row)
    canvas = _view_canvas("Information about words in each layer", answer, LAYERS, spell)
    full_color = f"full color {score_text(scale, scale, signed=False)} nats per dimension, in all layers"
    _add_scales(canvas, {False}, full_color)
    canvas.y += 4
    rows = [
        ScoreRow(f"layer {layer}", "", words, scale, False)
        for layer, words in zip(layers.layers, layers.words, strict=True)
    ]
    draw_score_rows(canvas, answer, rows, spell, right_to_left=is_right_to_left(explanation.prompt))
    if warning := convergence_warning(layers):
        canvas.paragraph(warning, 7, GRAY)
    return canvas.finish()


def _view_canvas(title: str, answer: Answer, meaning: str, spell: Spell, width: float = CANVAS_WIDTH) -> Canvas:
    """A canvas with a title, the answer and the meaning of the numbers."""
    canvas = Canvas(max(width, 480.0))
    canvas.paragraph(title, 11, weight="bold")
    _add_answer(canvas, answer, spell)
    canvas.paragraph(meaning, 7, GRAY)
    canvas.y += 4
    return canvas


def _add_answer(canvas: Canvas, answer: Answer, spell: Spell) -> None:
    canvas.paragraph(spell(answer_line(answer), f"the answer: probability {probability_text(answer.probability)}"), 9)
    if answer.expected:
        canvas.paragraph(f"Most likely: {_spelled_predictions(answer.expected, spell)}", 8, GRAY)


def _spelled_predictions(expected: Sequence[Prediction], spell: Spell) -> str:
    return expected_text([replace(each, text=spell(each.text, "(no font)")) for each in expected])


def _add_scales(canvas: Canvas, signs: set[bool], text: str = "") -> None:
    """Add a color scale for signed scores, for unsigned scores, or for both."""
    for signed in sorted(signs, reverse=True):
        meaning = "orange: against the answer, white: 0, blue: for it" if signed else "white: 0, purple: the largest"
        canvas.scale(signed, text or f"{meaning}; each method has its own scale")


def _add_notices(canvas: Canvas, explanation: Explanation, spell: Spell) -> None:
    for notice in explanation.notices:
        canvas.paragraph(spell(notice, f"a notice {_NO_FONT}"), 7, GRAY)


def _all_text(explanation: Explanation) -> str:
    """Every text that a plot may contain."""
    parts = [explanation.prompt, *explanation.notices]
    for answer in explanation.answers:
        parts += [answer.text, *(each.text for each in answer.expected), *(each.text for each in answer.tokens)]
        parts += [word.text for word in answer.words]
        parts += [answer.foil.text] if answer.foil else []
    views = explanation.views
    parts += [guess.text for row in views.lens or () for guess in row.top]
    parts += [guess.text for guess in (views.without.expected if views.without else ())]
    return "".join(parts)
