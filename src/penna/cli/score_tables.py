"""What ``penna score`` shows: the tokens of a text one below the other, texts ranked, words behind a context."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from penna.api.score import ContinuationScores, Measure, TextScore, TokenScore
from penna.cli.page import Page
from penna.formatting import one_line, plural, truncate_end

_BAR = 18  # cells
_NAME = 24  # cells of a token or word
_CONTEXT = 12  # tokens of a context that are shown


def print_texts(page: Page, scores: Sequence[TextScore]) -> None:
    """Every text token by token; a bar is the longer the less likely its token is."""
    costs = [-token.logprob for found in scores for token in found.tokens if token.logprob is not None]
    widest = max(costs, default=0.0) or 1.0  # nats of a whole bar, the same for all texts
    for found in scores:
        page.title(truncate_end(one_line(found.text), page.inside + 2))
        page.show(_token_table(found, widest))
        page.gap()
        page.wrapped(_summary(found))


def _token_table(found: TextScore, widest: float) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column()
    for _ in range(3):
        table.add_column(justify="right")
    table.add_column(style="dim")
    table.add_row("token", "probability", "rank", "log-prob", "", style="dim")
    for token in found.tokens:
        name = Text(truncate_end(_named(token), _NAME))
        if token.logprob is None or token.rank is None:
            table.add_row(name, Text("–"), Text("–"), Text("–"), Text("not counted"))
        else:
            cells = -token.logprob / widest * _BAR
            bar = "█" * int(cells) + ("▌" if cells % 1 >= 0.5 else "")
            shown = (probability(token.logprob), f"{token.rank:,}", f"{token.logprob:.3f}", bar)
            table.add_row(name, *map(Text, shown))
    return table


def _summary(found: TextScore) -> str:
    if found.logprob is None:
        return "Nothing is counted: the only token has nothing before it. --start-token puts the separator there."
    bits = "" if found.bits_per_byte is None else f", {found.bits_per_byte:.3f} bits per byte"
    return (
        f"log-prob {found.logprob:.3f}, perplexity {_figure(found.perplexity)}{bits} "
        f"({plural(found.counted, 'token', 'tokens')}, {plural(found.bytes, 'byte', 'bytes')})"
    )


def print_ranking(page: Page, scores: Sequence[TextScore], by: Measure) -> None:
    """Texts in the order they are given, a line each."""
    page.title(f"Ranked by {by.replace('-', ' ').replace('logprob', 'log-probability')}, the likeliest first")
    table = Table.grid(padding=(0, 2))
    for _ in range(5):
        table.add_column(justify="right")
    table.add_column(no_wrap=True, overflow="ellipsis")
    heads = ("", "perplexity", "log-prob", "bits/byte", "tokens", "text")
    table.add_row(*map(Text, heads), style="dim")
    for place, found in enumerate(scores, start=1):
        figures = (_figure(found.perplexity), _figure(found.logprob), _figure(found.bits_per_byte), str(found.counted))
        table.add_row(*map(Text, (str(place), *figures, truncate_end(one_line(found.text), page.inside))))
    page.show(table)


def print_after(page: Page, found: ContinuationScores) -> None:
    """Words behind a context, the likeliest first, and the likeliest next tokens."""
    page.title(truncate_end(f"Behind “{one_line(found.context)}”", page.inside + 2))
    context = " ".join(found.context_tokens[-_CONTEXT:])
    page.wrapped(f"read as {'… ' if len(found.context_tokens) > _CONTEXT else ''}{context}")
    if found.words:
        page.gap()
        table = Table.grid(padding=(0, 2))
        table.add_column()
        table.add_column(justify="right")
        table.add_column(justify="right")
        table.add_column(style="dim")
        table.add_row("word", "probability", "log-prob", "its tokens", style="dim")
        for word in sorted(found.words, key=lambda each: -each.logprob):
            tokens = " · ".join(f"{_named(token)} {probability(token.logprob or 0.0)}" for token in word.tokens)
            figures = (probability(word.logprob), f"{word.logprob:.3f}", tokens)
            table.add_row(Text(truncate_end(one_line(word.word), _NAME)), *map(Text, figures))
        page.show(table)
    page.title("The likeliest next tokens")
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right")
    table.add_column()
    table.add_column(justify="right")
    table.add_column(style="dim")
    likeliest = math.exp(found.top[0].logprob or 0.0) if found.top else 1.0
    for token in found.top:
        logprob = token.logprob or 0.0
        bar = "█" * round(math.exp(logprob) / likeliest * _BAR)
        table.add_row(*map(Text, (str(token.rank), truncate_end(_named(token), _NAME), probability(logprob), bar)))
    page.show(table)


def _named(token: TokenScore) -> str:
    return token.token or f"id {token.id}"


def _figure(value: float | None) -> str:
    """A figure in at most ten characters; "–" where there is none."""
    if value is None:
        return "–"
    return f"{value:.3f}" if abs(value) < 1e5 else f"{value:.2e}"


def probability(logprob: float) -> str:
    """The probability of a natural logarithm, also where it is too small for a float."""
    if logprob > math.log(0.00095):
        return f"{math.exp(logprob):.4f}"
    exponent, mantissa = divmod(logprob / math.log(10), 1)
    digits, _, carried = f"{10**mantissa:.1e}".partition("e")
    return f"{digits}e{int(exponent) + int(carried)}"
