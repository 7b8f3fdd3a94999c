"""An explanation as one HTML page: colored words for each method, all numbers, and the other views.

Colors are CSS classes, and methods and generated tokens are selected by radio buttons and CSS, so the page works
without a script. The script only reads single weights off an attention map and reports the height to a frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from penna.explain.explanation import Answer, Attribution, Explanation
from penna.formatting import one_line, truncate_end
from penna.report.explanations.colors import level, level_rules, strength
from penna.report.explanations.html_views import MAP_SCRIPT, MAP_STYLE, table, view_sections
from penna.report.explanations.matrices import generated_scores
from penna.report.explanations.wording import (
    METHOD_TEXTS,
    answer_line,
    answer_name,
    expected_text,
    heading,
    is_line_end,
    is_right_to_left,
    max_abs,
    method_notes,
    scale_text,
    score_text,
    word_name,
)
from penna.report.html_page import escape_html, html_page

_MAX_NUMBERED_WORDS = 80  # words up to which numbers are shown below them at first

_STYLE = """
:root { --for: 43 108 176; --against: 217 115 13; --amount: 107 63 160; }
@media (prefers-color-scheme: dark) {
  :root { --for: 66 140 230; --against: 214 110 10; --amount: 150 100 220; }
}
p.pale, .scale { color: var(--pale); font-size: 0.875rem; }
.scale .w { color: var(--ink); }
.prompt {
  white-space: pre-wrap; border-inline-start: 3px solid var(--line); padding-inline-start: 0.7rem;
  max-height: 12rem; overflow: auto;
}
fieldset {
  border: 1px solid var(--line); border-radius: 0.4rem; margin: 0.8rem 0; padding: 0.3rem 0.7rem 0.5rem; min-width: 0;
}
legend { font-size: 0.875rem; color: var(--pale); }
fieldset label, .toggle { display: inline-block; margin-inline-end: 0.8rem; padding: 0.15rem 0; cursor: pointer; }
.chips label:has(:checked) { outline: 2px solid rgb(var(--amount)); border-radius: 0.3rem; }
:focus-visible { outline: 2px solid rgb(var(--for)); outline-offset: 2px; }
.words { line-height: 1.3; padding: 0.4rem 0; }
.w {
  display: inline-block; text-align: center; vertical-align: top;
  border-radius: 0.2rem; padding: 0.1rem 0.2rem; margin: 0 0 0.3rem;
}
.w small {
  display: none; direction: ltr; unicode-bidi: isolate;
  font-size: 0.68rem; line-height: 1.2; font-variant-numeric: tabular-nums;
}
body:has(#numbers:checked) .w small { display: block; }
th, td { padding: 0.15rem 0.45rem; }
th[scope=row] { text-align: start; max-width: 16rem; overflow: hidden; text-overflow: ellipsis; }
td.left { text-align: start; }
.heat td { padding: 0; min-width: 1.2rem; height: 1.4rem; border: 1px solid var(--paper); }
.heat thead th {
  writing-mode: vertical-rl; text-align: end; font-weight: 400; padding: 0.3rem 0;
  border: 0; max-height: 9rem; overflow: hidden;
}
"""
_FRAME_SCRIPT = """
if (parent !== window) {  // in a frame: report the height, so that the frame can be as high as the page
  const page = document.documentElement;
  new ResizeObserver(() => parent.postMessage({height: page.offsetHeight}, '*')).observe(page);
}
"""


def explanation_html(explanation: Explanation) -> str:
    """The page. The same explanation always gives the same page."""
    answers, methods = explanation.answers, explanation.methods
    rules = [_STYLE, MAP_STYLE, *level_rules()]
    if len(methods) > 1:
        rules += [_selection_rule(f"show-{method}", "method", f"m-{method}") for method in methods]
    if len(answers) > 1:
        rules += [_selection_rule(f"answer-{number}", "answer", f"n-{number}") for number in range(len(answers))]
    direction = _direction(explanation)
    prompt = "\n".join(escape_html(one_line(line)) for line in explanation.prompt.split("\n"))
    body = [
        f"<header>\n<h1>{heading(explanation)}</h1>",
        f'<p class="pale">{escape_html(one_line(explanation.model))}, seed {explanation.seed}</p>',
        f'<p class="prompt" dir="{direction}">{prompt}</p>',
        *(f'<p class="pale">{escape_html(one_line(notice))}</p>' for notice in explanation.notices),
        "</header>",
        *_controls(explanation),
        *_heatmaps(explanation),
        *(_answer_section(answer, number, direction) for number, answer in enumerate(answers)),
        *view_sections(explanation),
    ]
    title = f"{heading(explanation)}: {truncate_end(one_line(explanation.prompt), 60)}"
    return html_page(title, body, style="".join(rules), script=_FRAME_SCRIPT + MAP_SCRIPT)


def _selection_rule(button: str, group: str, shown: str) -> str:
    """CSS that hides all elements of a class except those with a second class, while a radio button is checked."""
    return f"body:has(#{button}:checked) .{group}:not(.{shown}){{display:none}}"


def _direction(explanation: Explanation) -> str:
    return "rtl" if is_right_to_left(explanation.prompt) else "ltr"


def _controls(explanation: Explanation) -> Iterator[str]:
    """Radio buttons for methods and generated tokens, a checkbox for numbers, and the color scales."""
    if len(explanation.methods) > 1:
        choices = [("show-all", "all, one below the other")]
        choices += [(f"show-{method}", escape_html(METHOD_TEXTS[method].title)) for method in explanation.methods]
        yield _radio_buttons("Method", "method", choices)
    if len(explanation.answers) > 1:
        names = [
            (f"answer-{number}", f"<bdi>{escape_html(answer_name(answer))}</bdi>")
            for number, answer in enumerate(explanation.answers)
        ]
        yield _radio_buttons("Generated token", "answer", names, "chips")
    is_short = all(len(answer.words) <= _MAX_NUMBERED_WORDS for answer in explanation.answers)
    checked = " checked" if is_short else ""
    yield f'<label class="toggle"><input type="checkbox" id="numbers"{checked}> numbers below the words</label>'
    yield (
        '<p class="scale">Signed scores: <span class="w a10">against the answer</span> <span class="w">0</span> '
        '<span class="w f10">for the answer</span>. Unsigned scores: <span class="w">0</span> '
        '<span class="w p10">the largest</span>. The largest score of each method has the full color.</p>'
    )


def _radio_buttons(legend: str, name: str, choices: Sequence[tuple[str, str]], css: str = "") -> str:
    """A group of radio buttons, from ids and labels (HTML); the first is checked."""
    labels = [
        f'<label><input type="radio" name="{name}" id="{button}"{" checked" if not index else ""}> {label}</label>'
        for index, (button, label) in enumerate(choices)
    ]
    return f'<fieldset class="{css}"><legend>{legend}</legend>{"".join(labels)}</fieldset>'


def _heatmaps(explanation: Explanation) -> Iterator[str]:
    """A heat map of each method for a generated text."""
    if explanation.kind != "generated":
        return
    yield "<section><h2>All generated tokens</h2>"
    meaning = "A row is a generated token, a column a word that was read for it. Point at a cell to see its score."
    yield f'<p class="pale">{meaning}</p>'
    for number, found in enumerate(explanation.answers[0].attributions):
        scores = generated_scores(explanation, number)
        scale = max_abs(score for row in scores.scores for score in row if score is not None)
        title = f"{METHOD_TEXTS[found.method].title} ({scale_text(found, scale)})"
        head = "".join(f'<th scope="col"><bdi>{escape_html(name)}</bdi></th>' for name in scores.columns)
        rows = [
            f'<tr><th scope="row"><bdi>{escape_html(name)}</bdi></th>'
            + "".join(
                _heatmap_cell(f"{column} → {name}", score, scale, found)
                for column, score in zip(scores.columns, row, strict=True)
            )
            + "</tr>"
            for name, row in zip(scores.rows, scores.scores, strict=True)
        ]
        yield (
            f'<section class="method m-{found.method}"><h3>{escape_html(title)}</h3>'
            + table(f"<tr><td></td>{head}</tr>", rows, f' class="heat" dir="{_direction(explanation)}"')
            + "</section>"
        )
    yield "</section>"


def _heatmap_cell(name: str, score: float | None, scale: float, found: Attribution) -> str:
    if score is None:
        return "<td></td>"
    title = escape_html(f"{name}: {score_text(score, scale, found.is_signed)}")
    return f'<td class="{level(strength(score, scale), found.is_signed)}" title="{title}"></td>'


def _answer_section(answer: Answer, number: int, direction: str) -> str:
    """One answer: the colored words of each method, and tables of all scores."""
    parts = [f'<section class="answer n-{number}"><h2 dir="auto">{escape_html(answer_line(answer))}</h2>']
    if answer.expected:
        parts.append(f'<p class="pale" dir="auto">Most likely: {escape_html(expected_text(answer.expected))}</p>')
    parts += [_method_section(answer, found, direction) for found in answer.attributions]
    if answer.attributions:
        parts += ["<details><summary>All scores, by word and by token</summary>", *_tables(answer), "</details>"]
    return "\n".join([*parts, "</section>"])


def _method_section(answer: Answer, found: Attribution, direction: str) -> str:
    """The words in the colors of one method."""
    method, scale = METHOD_TEXTS[found.method], max_abs(found.words)
    spans: list[str] = []
    for number, (word, score) in enumerate(zip(answer.words, found.words, strict=True)):
        name, number_text = escape_html(word_name(answer, number)), score_text(score, scale, found.is_signed)
        css = f"w {level(strength(score, scale), found.is_signed)}".strip()
        space = " " if word.text[:1].isspace() else ""
        spans.append(
            f'{space}<span class="{css}" title="{name}: {number_text} {method.unit}"><bdi>{name}</bdi>'
            f"<small>{number_text}</small></span>{'<br>' if is_line_end(answer, number) else ''}"
        )
    meaning = escape_html(" ".join([f"{method.meaning[0].upper()}{method.meaning[1:]}.", *method_notes(found)]))
    return (
        f'<section class="method m-{found.method}"><h3>{method.title} <span class="scale">'
        f'({escape_html(scale_text(found, scale))})</span></h3><p class="words" dir="{direction}">{"".join(spans)}</p>'
        f'<p class="pale">{meaning}</p></section>'
    )


def _tables(answer: Answer) -> Iterator[str]:
    """A table of words and one of tokens, with a column for each method."""
    words = [word_name(answer, number) for number in range(len(answer.words))]
    tokens = [f"{token.text} ({token.id})" for token in answer.tokens[answer.first : answer.end]]
    yield _score_table("word", words, [(found, found.words) for found in answer.attributions])
    yield _score_table("token (id)", tokens, [(found, found.tokens) for found in answer.attributions])


def _score_table(corner: str, names: Sequence[str], columns: Sequence[tuple[Attribution, Sequence[float]]]) -> str:
    head = "".join(f'<th scope="col">{METHOD_TEXTS[found.method].title}</th>' for found, _ in columns)
    scales = [max_abs(scores) for _, scores in columns]
    rows: list[str] = []
    for index, name in enumerate(names):
        cells = "".join(
            f'<td class="{level(strength(scores[index], scale), found.is_signed)}">'
            f"{score_text(scores[index], scale, found.is_signed)}</td>"
            for (found, scores), scale in zip(columns, scales, strict=True)
        )
        rows.append(f'<tr><th scope="row"><bdi>{escape_html(name)}</bdi></th>{cells}</tr>')
    return table(f'<tr><th scope="row">{corner}</th>{head}</tr>', rows)
