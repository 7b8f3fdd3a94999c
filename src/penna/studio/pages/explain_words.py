"""Words coloured by each method, side by side; of a generated text one token at a time, and all of them as a heat map.

An explanation comes in; texts are escaped where they are put into HTML.
"""

from __future__ import annotations

from html import escape

from nicegui import ui

from penna.explain.explanation import Answer, Attribution, Explanation
from penna.report.explanations.generated import generated_scores
from penna.report.explanations.page import level
from penna.report.explanations.shades import strength
from penna.report.explanations.wording import (
    METHOD_WORDS,
    answer_line,
    answer_name,
    checks,
    ends_line,
    expected_text,
    largest,
    runs_right_to_left,
    scale_text,
    score_text,
    word_name,
)
from penna.studio.frame import heading, meaning
from penna.studio.pages.shading import shaded, shaded_cell, table
from penna.studio.words import t

_NUMBERED = 80  # words up to which numbers stand below them


def show_words(explanation: Explanation) -> None:
    """The words of every answer; one answer is seen at a time."""
    if len(explanation.answers) == 1:
        _show_answer(explanation, 0)
        return
    names = {number: answer_name(answer) for number, answer in enumerate(explanation.answers)}

    @ui.refreshable
    def one(number: int) -> None:
        _show_answer(explanation, number)

    chosen = ui.select(names, value=0, label=t("explain.token"), on_change=lambda event: one.refresh(event.value))
    chosen.props("outlined dense").classes("run-select")
    one(0)
    with ui.expansion(t("explain.all-tokens")):
        meaning("explain.all-tokens-meaning")
        for number in range(len(explanation.methods)):
            shaded(_heat_map(explanation, number))


def _show_answer(explanation: Explanation, number: int) -> None:
    answer = explanation.answers[number]
    direction = "rtl" if runs_right_to_left(explanation.prompt) else "ltr"
    heading(answer_line(answer)).props("dir=auto")
    if answer.expected:
        ui.label(f"{t('explain.likeliest')}: {expected_text(answer.expected)}").props("dir=auto")
    shaded(f"<p>{_scales({found.is_signed for found in answer.attributions})}</p>")
    with ui.element("div").classes("cards"):
        for found in answer.attributions:
            with ui.element("section").classes("card"):
                heading(f"{t(f'method.{found.method}')} ({scale_text(found, largest(found.words))})", 3)
                shaded(words_html(answer, found, direction))
                meaning(f"method.{found.method}.meaning")
                for said in checks(found):
                    ui.label(said).classes("meaning")
    if answer.attributions:
        with ui.expansion(t("explain.numbers")):
            shaded(_numbers(answer))


def words_html(answer: Answer, found: Attribution, direction: str) -> str:
    """What one method says of each word."""
    most, is_numbered = largest(found.words), len(answer.words) <= _NUMBERED
    spans: list[str] = []
    for number, (unit, score) in enumerate(zip(answer.words, found.words, strict=True)):
        name, written = escape(word_name(answer, number)), score_text(score, most, found.is_signed)
        shade = level(strength(score, most), found.is_signed)
        below = f"<small>{written}</small>" if is_numbered else ""
        space = " " if unit.text[:1].isspace() else ""
        spans.append(
            f'{space}<span class="{f"w {shade}".strip()}" title="{name}: {written} {METHOD_WORDS[found.method].unit}">'
            f"<bdi>{name}</bdi>{below}</span>{'<br>' if ends_line(answer, number) else ''}"
        )
    return f'<p class="words" dir="{direction}">{"".join(spans)}</p>'


def _scales(signed: set[bool]) -> str:
    """What the colours of methods with a sign, and of those without one, stand for."""
    zero = '<span class="w">0</span>'
    scales: list[str] = []
    if True in signed:
        against, spoke_for = escape(t("explain.against-it")), escape(t("explain.for-it"))
        scales.append(f'<span class="w a10">{against}</span> {zero} <span class="w f10">{spoke_for}</span>')
    if False in signed:
        scales.append(f'{zero} <span class="w p10">{escape(t("explain.the-most"))}</span>')
    return " &nbsp; ".join(scales)


def _numbers(answer: Answer) -> str:
    """Every word's score by every method."""
    head = [t("explain.word"), *(t(f"method.{found.method}") for found in answer.attributions)]
    most = [largest(found.words) for found in answer.attributions]
    rows = [
        [
            word_name(answer, place),
            *(
                shaded_cell(
                    score_text(found.words[place], top, found.is_signed),
                    found.words[place],
                    top,
                    signed=found.is_signed,
                )
                for found, top in zip(answer.attributions, most, strict=True)
            ),
        ]
        for place in range(len(answer.words))
    ]
    return table(head, rows)


def _heat_map(explanation: Explanation, method: int) -> str:
    """Generated tokens down, words across."""
    found = explanation.answers[0].attributions[method]
    scores = generated_scores(explanation, method)
    most = largest(score for row in scores.scores for score in row if score is not None)
    head = "".join(f'<th scope="col"><bdi>{escape(name)}</bdi></th>' for name in scores.columns)
    rows: list[str] = []
    for name, row in zip(scores.rows, scores.scores, strict=True):
        places = "".join(
            "<td></td>"
            if score is None
            else f'<td class="{level(strength(score, most), found.is_signed)}" '
            f'title="{escape(f"{column} → {name}: {score_text(score, most, found.is_signed)}")}"></td>'
            for column, score in zip(scores.columns, row, strict=True)
        )
        rows.append(f'<tr><th scope="row"><bdi>{escape(name)}</bdi></th>{places}</tr>')
    title = f"{t(f'method.{found.method}')} ({scale_text(found, most)})"
    return (
        f"<h3 class=heading>{escape(title)}</h3>"
        f'<div class="scroll" tabindex="0"><table class="heat"><thead><tr><td></td>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
