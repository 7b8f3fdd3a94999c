"""An explanation on the terminal: words in the colours of their scores, and every score as a number beside a bar.

Colour adds nothing that is not also written: without it, bars of + and - say which way a word spoke and how much.
"""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from penna.cli.explained_views import print_views
from penna.cli.page import Page
from penna.explain.explanation import Answer, Attribution, Explanation
from penna.formatting import one_line, truncate_end, truncate_start
from penna.report.explanations.generated import generated_scores
from penna.report.explanations.shades import AGAINST, AMOUNT, FOR, ink, shade, strength
from penna.report.explanations.wording import (
    METHOD_WORDS,
    answer_line,
    answer_name,
    checks,
    ends_line,
    expected_text,
    generated_text,
    heading,
    largest,
    runs_right_to_left,
    scale_text,
    score_text,
    share,
    word_name,
)

_WORDS = 40  # in a table
_NAME = 20  # cells of a word
_NUMBER = 8  # cells
_TOP = 4  # words named for a generated token


def print_explanation(explanation: Explanation) -> None:
    """Print everything on standard output."""
    page = Page()
    first = explanation.answers[0]
    page.title(heading(explanation))
    page.wrapped(truncate_start(one_line(explanation.prompt), 4 * page.inside))
    page.gap()
    if explanation.kind == "generated":
        page.wrapped(f"→ {generated_text(explanation)}")
        for number, found in enumerate(first.attributions):
            _print_generated(page, explanation, number, found)
    else:
        page.wrapped(answer_line(first))
        if first.expected:
            page.wrapped(f"likeliest: {expected_text(first.expected)}")
        if _has_colours():
            for found in first.attributions:
                _print_coloured(page, first, found)
        _print_tables(page, first)
    page.gap()
    for found in first.attributions:
        words = METHOD_WORDS[found.method]
        page.wrapped(" ".join([f"{words.title}: {words.meaning} ({words.unit}).", *checks(found)]))
    print_views(page, explanation)


def _has_colours() -> bool:
    """Whether standard output shows colours."""
    console = Console()
    return console.color_system is not None and not console.no_color


def _print_coloured(page: Page, answer: Answer, found: Attribution) -> None:
    """The text with each word on the colour of its score."""
    most = largest(found.words)
    page.title(f"{METHOD_WORDS[found.method].title} ({scale_text(found, most)})")
    line = Text()
    for number, (unit, score) in enumerate(zip(answer.words, found.words, strict=True)):
        if unit.text[:1].isspace() and line.plain[-1:] not in ("", "\n"):
            line.append(" ")
        back = shade(strength(score, most), found.is_signed)
        line.append(word_name(answer, number), style=f"{ink(back)} on {back}")
        if ends_line(answer, number):
            line.append("\n")
    if runs_right_to_left("".join(unit.text for unit in answer.words)):
        line.justify = "right"
    page.show(line)


def _print_tables(page: Page, answer: Answer) -> None:
    """A line for each word and a column for each method, in as many tables as the width needs."""
    if not answer.attributions:
        return
    shown = _strongest(answer)
    if len(shown) < len(answer.words):
        page.gap()
        page.wrapped(
            f"The {len(shown)} of {len(answer.words):,} words with the highest scores, as they stand; --json has all."
        )
    names = [Text(truncate_end(word_name(answer, number), _NAME)) for number in shown]
    room = page.inside - max((name.cell_len for name in names), default=0) - 2
    bar = 24 if len(answer.attributions) == 1 else 8
    at_once = max(room // (_NUMBER + bar + 3), 1)
    for start in range(0, len(answer.attributions), at_once):
        some = answer.attributions[start : start + at_once]
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True)
        for _ in some:
            table.add_column(width=_NUMBER + 1 + bar)
        table.add_row(Text("word"), *(Text(METHOD_WORDS[found.method].title) for found in some), style="dim")
        most = [largest(found.words) for found in some]
        for name, number in zip(names, shown, strict=True):
            cells = [_cell(found, found.words[number], top, bar) for found, top in zip(some, most, strict=True)]
            table.add_row(name, *cells)
        page.gap()
        page.show(table)


def _cell(found: Attribution, score: float, most: float, bar: int) -> Text:
    """A number and a bar."""
    cells = round(abs(strength(score, most)) * bar)
    mark, color = ("█", AMOUNT) if not found.is_signed else ("+", FOR) if score > 0 else ("-", AGAINST)
    text = Text(f"{score_text(score, most, found.is_signed):>{_NUMBER}} ")
    return text.append(mark * cells, style=color)


def _strongest(answer: Answer) -> list[int]:
    """The words that any method scores highest, in their order."""
    tops = [largest(found.words) for found in answer.attributions]
    highest = [
        largest(strength(found.words[number], top) for found, top in zip(answer.attributions, tops, strict=True))
        for number in range(len(answer.words))
    ]
    order = sorted(range(len(highest)), key=lambda number: -highest[number])
    return sorted(order[:_WORDS])


def _print_generated(page: Page, explanation: Explanation, method: int, found: Attribution) -> None:
    """A line for each generated token: its probability, and the words with the highest scores."""
    scores = generated_scores(explanation, method)
    page.title(f"{METHOD_WORDS[found.method].title}: the {_TOP} words with the highest scores")
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column()
    table.add_row("token", "probability", "", style="dim")
    for answer, row in zip(explanation.answers, scores.scores, strict=True):
        most = largest(score for score in row if score is not None)
        known = [(score, name) for score, name in zip(row, scores.columns, strict=True) if score is not None]
        top = sorted(known, key=lambda each: -abs(each[0]))[:_TOP]
        line = Text()
        for place, (score, name) in enumerate(top):
            back = shade(strength(score, most), found.is_signed)
            line.append(" · " if place else "")
            line.append(truncate_end(name, _NAME), style=f"{ink(back)} on {back}")
            line.append(f" {score_text(score, most, found.is_signed)}")
        table.add_row(Text(truncate_end(answer_name(answer), _NAME)), Text(share(answer.probability)), line)
    page.show(table)
