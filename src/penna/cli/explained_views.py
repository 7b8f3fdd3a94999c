"""What was looked at beside the methods, on the terminal: tables of heads, of layers, and of what goes to the first
token. Attention maps themselves are pictures, and are told where they can be seen.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from penna.cli.page import Page
from penna.explain.explanation import Answer, AttentionMaps, Explanation, HeadEffects, LayerInformation, LensRow
from penna.formatting import one_line, truncate_end
from penna.report.explanations.shades import ink, shade, strength
from penna.report.explanations.wording import (
    FIRST_TOKEN,
    HEADS,
    LAYERS,
    LENS,
    NOT_IMPORTANCE,
    answer_name,
    expected_text,
    head_parts,
    heads_name,
    largest,
    score_text,
    share,
    unsettled,
    word_name,
)

_WORDS = 40  # in a table
_NAME = 20  # cells of a word
_GUESS = 14  # cells of a token
_CELL = 8  # cells of a number


def print_views(page: Page, explanation: Explanation) -> None:
    """A table of each thing that was looked at; nothing where nothing was."""
    answer, views = explanation.answers[0], explanation.views
    if len(explanation.answers) > 1 and any(view is not None for view in vars(views).values()):
        page.gap()
        page.wrapped(f"What follows is about the first generated token, “{answer_name(answer)}”.")
    if (without := views.without) is not None:
        page.title("Heads switched off together")
        rows = [
            ("all heads", share(answer.probability), expected_text(answer.expected)),
            (f"without {heads_name(without.heads)}", share(without.probability), expected_text(without.expected)),
        ]
        page.figures(rows)
    if views.attention is not None:
        _print_first_token(page, views.attention)
    if views.lens is not None:
        _print_lens(page, answer, views.lens)
    if views.heads is not None:
        _print_heads(page, views.heads)
    if views.layers is not None:
        _print_layers(page, answer, views.layers)


def _print_first_token(page: Page, maps: AttentionMaps) -> None:
    page.title("Attention on the first token")
    page.wrapped(f"{FIRST_TOKEN} {NOT_IMPORTANCE} The maps themselves: --svg FILE or --html FILE.")
    cells = [[(f"{value:.1%}", shade(value, False)) for value in row] for row in maps.first_token]
    _print_grid(page, [f"layer {layer}" for layer in range(len(cells))], _heads_of(cells[0]), cells)


def _print_heads(page: Page, effects: HeadEffects) -> None:
    parts = head_parts(effects)
    most = largest(value for row in parts for value in row)
    page.title("Heads switched off, each alone")
    page.wrapped(HEADS)
    cells = [[(score_text(value, most, True), shade(strength(value, most), True)) for value in row] for row in parts]
    _print_grid(page, [f"layer {layer}" for layer in range(len(cells))], _heads_of(cells[0]), cells)


def _print_layers(page: Page, answer: Answer, layers: LayerInformation) -> None:
    most = largest(value for row in layers.words for value in row)
    page.title("The information that layers keep of words")
    page.wrapped(LAYERS)
    highest = [max(row[number] for row in layers.words) for number in range(len(answer.words))]
    shown = sorted(sorted(range(len(highest)), key=lambda number: -highest[number])[:_WORDS])
    if len(shown) < len(highest):
        page.wrapped(f"The {len(shown)} of {len(highest):,} words with the highest numbers; --json has all.")
    names = [word_name(answer, number) for number in shown]
    cells = [
        [(score_text(row[number], most, False), shade(strength(row[number], most), False)) for row in layers.words]
        for number in shown
    ]
    _print_grid(page, names, [f"layer {layer}" for layer in layers.layers], cells)
    if told := unsettled(layers):
        page.wrapped(told)


def _print_lens(page: Page, answer: Answer, rows: Sequence[LensRow]) -> None:
    page.title("The logit lens")
    page.wrapped(LENS)
    said = Text(truncate_end(f"“{answer_name(answer)}”", _GUESS))
    room = page.inside - 10 - 2 - max(said.cell_len, 8) - 2 - 8
    columns = min(max((len(row.top) for row in rows), default=0), max(room // (_GUESS + 9), 1))
    table = Table.grid(padding=(0, 2))
    for justify in ("right", "right", "right"):
        table.add_column(justify=justify, no_wrap=True)
    for _ in range(columns):
        table.add_column(no_wrap=True)
    table.add_row("layer", said, "rank", *(f"{place + 1}." for place in range(columns)), style="dim")
    for row in rows:
        guesses: list[Text] = []
        for guess in row.top[:columns]:
            back = shade(guess.probability, False)
            name = Text(truncate_end(one_line(guess.text), _GUESS), style=f"{ink(back)} on {back}")
            guesses.append(Text().append_text(name).append(f" {share(guess.probability)}"))
        table.add_row(str(row.layer), share(row.probability), f"{row.rank:,}", *guesses)
    page.show(table)


def _heads_of(row: Sequence[object]) -> list[str]:
    return [f"head {head}" for head in range(len(row))]


def _print_grid(
    page: Page, rows: Sequence[str], columns: Sequence[str], cells: Sequence[Sequence[tuple[str, str]]]
) -> None:
    """A table of numbers on their colours, in as many parts as the width needs."""
    names = [Text(truncate_end(name, _NAME)) for name in rows]
    room = page.inside - max((name.cell_len for name in names), default=0)
    at_once = max(room // (_CELL + 2), 1)
    for start in range(0, len(columns), at_once):
        some = range(start, min(start + at_once, len(columns)))
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True)
        for _ in some:
            table.add_column(justify="right", width=_CELL)
        table.add_row("", *(columns[place] for place in some), style="dim")
        for name, row in zip(names, cells, strict=True):
            numbers = [Text(row[place][0], style=f"{ink(row[place][1])} on {row[place][1]}") for place in some]
            table.add_row(name, *numbers)
        page.gap()
        page.show(table)
