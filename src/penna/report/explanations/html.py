"""An explanation as one page that opens offline: words coloured by method, every number, and what was looked at.

Nothing is loaded from elsewhere, every text is escaped, and colours are classes, so that the page's policy can forbid
all else. One method or all of them are seen, and of a generated text one token at a time, by radio buttons and CSS.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from penna.explain.explanation import Answer, Attribution, Explanation
from penna.formatting import one_line, truncate_end
from penna.report.explanations.generated import generated_scores
from penna.report.explanations.html_views import view_sections
from penna.report.explanations.page import level, page
from penna.report.explanations.shades import strength
from penna.report.explanations.wording import (
    METHOD_WORDS,
    answer_line,
    answer_name,
    checks,
    ends_line,
    expected_text,
    heading,
    largest,
    runs_right_to_left,
    scale_text,
    score_text,
    word_name,
)

_NUMBERED = 80  # words up to which numbers stand below them at once


def explanation_html(explanation: Explanation) -> str:
    """The page."""
    answers, methods = explanation.answers, explanation.methods
    switches = [(f"show-{method}", "method", f"m-{method}") for method in methods] if len(methods) > 1 else []
    switches += [(f"answer-{n}", "answer", f"n-{n}") for n in range(len(answers))] if len(answers) > 1 else []
    direction = "rtl" if runs_right_to_left(explanation.prompt) else "ltr"
    parts = [
        f"<header>\n<h1>{heading(explanation)}</h1>",
        f'<p class="soft">{escape(one_line(explanation.model))}, seed {explanation.seed}</p>',
        f'<p class="prompt" dir="{direction}">{_prompt(explanation.prompt)}</p>',
        *(f'<p class="soft">{escape(one_line(notice))}</p>' for notice in explanation.notices),
        "</header>\n<main>",
        *_switch_between(explanation),
        *_overview(explanation),
        *(_answer(answer, number, direction) for number, answer in enumerate(answers)),
        *view_sections(explanation),
        "</main>",
    ]
    title = f"{heading(explanation)}: {truncate_end(one_line(explanation.prompt), 60)}"
    return page(title, "\n".join(parts), switches)


def _prompt(text: str) -> str:
    """A text with its line ends; what cannot be printed is spelled out."""
    return "\n".join(escape(one_line(line)) for line in text.split("\n"))


def _switch_between(explanation: Explanation) -> Iterator[str]:
    """The choice of a method, of a generated token, and of numbers below words."""
    if len(explanation.methods) > 1:
        choices = [("all", "all, one below the other")]
        choices += [(method, METHOD_WORDS[method].title) for method in explanation.methods]
        yield _radios("Method", "method", [(f"show-{name}", escape(title)) for name, title in choices])
    if len(explanation.answers) > 1:
        names = [
            (f"answer-{number}", f"<bdi>{escape(answer_name(answer))}</bdi>")
            for number, answer in enumerate(explanation.answers)
        ]
        yield _radios("Generated token", "answer", names, "chips")
    few = all(len(answer.words) <= _NUMBERED for answer in explanation.answers)
    checked = " checked" if few else ""
    yield f'<label class="toggle"><input type="checkbox" id="numbers"{checked}> numbers below the words</label>'
    yield (
        '<p class="scale"><span class="w a10">against the answer</span> <span class="w">0</span> '
        '<span class="w f10">for the answer</span>; without a sign: <span class="w">0</span> '
        '<span class="w p10">the most</span>. Full colour is the largest score of a method.</p>'
    )


def _radios(legend: str, name: str, choices: Sequence[tuple[str, str]], kind: str = "") -> str:
    labels = [
        f'<label><input type="radio" name="{name}" id="{button}"{" checked" if not place else ""}> {shown}</label>'
        for place, (button, shown) in enumerate(choices)
    ]
    return f'<fieldset class="{kind}"><legend>{legend}</legend>{"".join(labels)}</fieldset>'


def _overview(explanation: Explanation) -> Iterator[str]:
    """Of a generated text, a heat map for each method."""
    if explanation.kind != "generated":
        return
    yield "<section><h2>All generated tokens</h2>"
    meaning = "A row is a generated token, a column a word that was read for it. Point at a place for its number."
    yield f'<p class="soft">{meaning}</p>'
    direction = "rtl" if runs_right_to_left(explanation.prompt) else "ltr"
    for number, found in enumerate(explanation.answers[0].attributions):
        table = generated_scores(explanation, number)
        most = largest(score for row in table.scores for score in row if score is not None)
        title = f"{METHOD_WORDS[found.method].title} ({scale_text(found, most)})"
        head = "".join(f'<th scope="col"><bdi>{escape(name)}</bdi></th>' for name in table.columns)
        rows = [
            f'<tr><th scope="row"><bdi>{escape(name)}</bdi></th>'
            + "".join(
                _place(f"{column} → {name}", score, most, found)
                for column, score in zip(table.columns, row, strict=True)
            )
            + "</tr>"
            for name, row in zip(table.rows, table.scores, strict=True)
        ]
        yield (
            f'<section class="method m-{found.method}"><h3>{escape(title)}</h3>'
            f'<div class="scroll"><table class="heat" dir="{direction}">'
            f"<thead><tr><td></td>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></section>"
        )
    yield "</section>"


def _place(name: str, score: float | None, most: float, found: Attribution) -> str:
    if score is None:
        return "<td></td>"
    told = escape(f"{name}: {score_text(score, most, found.is_signed)}")
    return f'<td class="{level(strength(score, most), found.is_signed)}" title="{told}"></td>'


def _answer(answer: Answer, number: int, direction: str) -> str:
    """What moved one answer: a paragraph of words for each method, and a table of all."""
    parts = [
        f'<section class="answer n-{number}"><h2 dir="auto">{escape(answer_line(answer))}</h2>',
    ]
    if answer.expected:
        parts.append(f'<p class="soft" dir="auto">Likeliest: {escape(expected_text(answer.expected))}</p>')
    parts += [_method(answer, found, direction) for found in answer.attributions]
    if answer.attributions:
        parts += ["<details><summary>All numbers, by word and by token</summary>", *_tables(answer), "</details>"]
    return "\n".join([*parts, "</section>"])


def _method(answer: Answer, found: Attribution, direction: str) -> str:
    words, most = METHOD_WORDS[found.method], largest(found.words)
    spans: list[str] = []
    for number, (unit, score) in enumerate(zip(answer.words, found.words, strict=True)):
        name, written = escape(word_name(answer, number)), score_text(score, most, found.is_signed)
        shade = level(strength(score, most), found.is_signed)
        space = " " if unit.text[:1].isspace() else ""
        spans.append(
            f'{space}<span class="{f"w {shade}".strip()}" title="{name}: {written} {words.unit}"><bdi>{name}</bdi>'
            f"<small>{written}</small></span>{'<br>' if ends_line(answer, number) else ''}"
        )
    told = escape(" ".join([f"{words.meaning[0].upper()}{words.meaning[1:]}.", *checks(found)]))
    return (
        f'<section class="method m-{found.method}"><h3>{words.title} <span class="scale">'
        f'({escape(scale_text(found, most))})</span></h3><p class="words" dir="{direction}">{"".join(spans)}</p>'
        f'<p class="soft">{told}</p></section>'
    )


def _tables(answer: Answer) -> Iterator[str]:
    """A table of words and one of tokens, a column for each method."""
    words = [word_name(answer, number) for number in range(len(answer.words))]
    tokens = [f"{token.text} ({token.id})" for token in answer.tokens[answer.first : answer.end]]
    yield _table("word", words, [(found, found.words) for found in answer.attributions])
    yield _table("token (id)", tokens, [(found, found.tokens) for found in answer.attributions])


def _table(corner: str, names: Sequence[str], columns: Sequence[tuple[Attribution, Sequence[float]]]) -> str:
    head = "".join(f'<th scope="col">{METHOD_WORDS[found.method].title}</th>' for found, _ in columns)
    most = [largest(scores) for _, scores in columns]
    rows: list[str] = []
    for place, name in enumerate(names):
        cells = "".join(
            f'<td class="{level(strength(scores[place], top), found.is_signed)}">'
            f"{score_text(scores[place], top, found.is_signed)}</td>"
            for (found, scores), top in zip(columns, most, strict=True)
        )
        rows.append(f'<tr><th scope="row"><bdi>{escape(name)}</bdi></th>{cells}</tr>')
    return (
        f'<div class="scroll"><table><thead><tr><th scope="row">{corner}</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
