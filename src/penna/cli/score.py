"""``penna score``: how likely a model finds texts, token by token, or continuations of a context.

Up to five texts are shown token by token; several texts are also ranked. With ``--after``, the texts are continuations
of a context, and the most likely next tokens are listed as well.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable, Sequence
from typing import IO, TYPE_CHECKING

from penna.cli.arguments import add_device_arguments, add_run_and_texts, load_model, open_text_file, read_lines
from penna.cli.console import Page, grid, missing_characters, note, print_json
from penna.cli.parser import UsageError, Verbs, at_least, unused_option
from penna.errors import DataError
from penna.formatting import format_probability, one_line, plural, truncate_end

if TYPE_CHECKING:
    from rich.table import Table

    from penna.api.score import ContinuationScores, Measure, TextScore, TokenScore
    from penna.loading import LoadedModel

_SHOWN = 5  # texts that are shown token by token
_TOP = 10
_BAR = 18  # cells
_NAME = 24  # cells of a token or word
_CONTEXT = 12  # tokens of a context that are shown


def add(verbs: Verbs) -> None:
    """Add the verb."""
    summary = "show how likely a model finds texts, or continuations of a context"
    verbs.add("score", summary, "RUN [TEXT ...] [options]", _add_arguments, run)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run_and_texts(parser, "texts to score, or continuations with --after; - or none: the lines of standard input")
    parser.add_argument("--file", metavar="FILE", help="score every line of a file")
    parser.add_argument("--start-token", action="store_true", help="begin with the document separator")
    parser.add_argument(
        "--by",
        choices=["perplexity", "logprob", "bits-per-byte"],
        help="rank several texts by this metric (default: perplexity, which is per token)",
    )
    parser.add_argument(
        "--after", metavar="CONTEXT", help="score the texts as continuations of CONTEXT, and list likely next tokens"
    )
    parser.add_argument(
        "--top", type=at_least(1), metavar="N", help=f"with --after, list the N most likely tokens (default: {_TOP})"
    )
    parser.add_argument("--no-space", action="store_true", help="with --after, insert no space before the texts")
    add_device_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print JSON, in the order of the texts")


def run(arguments: argparse.Namespace) -> int:
    """Print the score of each text, or of each continuation."""
    _check_options(arguments)
    texts = _texts(arguments)
    loaded = load_model(arguments)
    if arguments.after is None:
        _score(loaded, texts, arguments)
    else:
        _score_after(loaded, texts, arguments)
    return 0


def _check_options(arguments: argparse.Namespace) -> None:
    """Raise UsageError for an option that would have no effect."""
    if arguments.after is None:
        for option, given in (("--top", arguments.top is not None), ("--no-space", arguments.no_space)):
            if given:
                raise unused_option(option, "It only applies with --after CONTEXT.")
    elif arguments.by is not None:
        raise unused_option("--by", "With --after, texts are ranked by P(text | context).")


def _score(loaded: LoadedModel, texts: Sequence[str], arguments: argparse.Namespace) -> None:
    from penna.api.score import rank_texts, score

    scores = score(loaded, texts, arguments.start_token)
    if not arguments.start_token:
        _recommend_start_token(loaded)
    _print_windows(scores, loaded.model.config.block_size)
    _print_missing(loaded, [part for found in scores for part in found.lacking])
    if arguments.json:
        print_json(scores)
        return
    page = Page()
    if len(scores) <= _SHOWN:
        print_texts(page, scores)
    if len(scores) > 1:
        by: Measure = arguments.by or "perplexity"
        print_ranking(page, rank_texts(scores, by), by)


def _score_after(loaded: LoadedModel, texts: Sequence[str], arguments: argparse.Namespace) -> None:
    from penna.api.score import score_after

    top = _TOP if arguments.top is None else arguments.top
    found = score_after(
        loaded, arguments.after, texts, top, start_token=arguments.start_token, space=not arguments.no_space
    )
    if not arguments.start_token:
        _recommend_start_token(loaded)
    if found.context_read < len(found.context_tokens):
        note(
            f"The context has {len(found.context_tokens):,} tokens, more than the model's "
            f"{loaded.model.config.block_size:,}-token context: only the last {found.context_read:,} are read."
        )
    for word in found.words:
        if not word.together:
            note(
                f"A token would span the end of the context and the start of “{one_line(word.text)}”, so this text "
                "was tokenized separately."
            )
    _print_missing(loaded, found.lacking)
    if arguments.json:
        print_json(found)
    else:
        print_after(Page(), found)


def _recommend_start_token(loaded: LoadedModel) -> None:
    if loaded.starts_documents:
        note(
            'All training texts of this model began with the document separator (data.windows = "documents"), but '
            "these texts do not. --start-token adds it."
        )


def _print_windows(scores: Sequence[TextScore], block_size: int) -> None:
    for number, found in enumerate(scores, start=1):
        if found.windows > 1:
            name = f"Text {number}" if len(scores) > 1 else "The text"
            note(
                f"{name} has {len(found.tokens):,} tokens, more than the model's {block_size:,}-token context. It was "
                f"read in {found.windows:,} overlapping windows; after the first, each token is predicted from half a "
                "context or more."
            )


def _print_missing(loaded: LoadedModel, parts: Iterable[str]) -> None:
    distinct = list(dict.fromkeys(parts))
    if distinct:
        note(missing_characters(distinct, has_unknown=loaded.require_tokenizer().unknown_id is not None))


def _texts(arguments: argparse.Namespace) -> list[str]:
    """The texts of the command line, of a file or of standard input. Raises DataError if one is empty."""
    if arguments.text and arguments.file:
        raise UsageError(
            f"Both texts and the file {arguments.file} were given.", "Only one of them is allowed.", "Remove one."
        )
    if arguments.file:
        with open_text_file(arguments.file) as lines:
            return _read_texts(lines, arguments.file)
    if arguments.text == ["-"] or (not arguments.text and arguments.after is None):
        return _read_texts(sys.stdin.buffer, "standard input")
    for number, text in enumerate(arguments.text, start=1):
        if not text:
            name = f"Text {number} of {len(arguments.text)}" if len(arguments.text) > 1 else "The text"
            raise DataError(f"{name} is empty.", "At least one token is needed.", "Remove it, or add some text.")
    return list(arguments.text)


def _read_texts(lines: IO[bytes], name: str) -> list[str]:
    texts: list[str] = []
    for number, text in read_lines(lines, name):
        if not text:
            raise DataError(f"Line {number} of {name} is empty.", "One text per line is needed.", "Remove that line.")
        texts.append(text)
    if not texts:
        raise DataError(
            f"There is nothing to score in {name}.",
            "One text per line is needed.",
            'Give texts: penna score RUN "some text" "another", or --file FILE.',
        )
    return texts


def print_texts(page: Page, scores: Sequence[TextScore]) -> None:
    """Print every text token by token; the less likely a token, the longer its bar."""
    costs = [-token.logprob for found in scores for token in found.tokens if token.logprob is not None]
    widest = max(costs, default=0.0) or 1.0  # nats of a full bar, the same for all texts
    for found in scores:
        page.title(truncate_end(one_line(found.text), page.width + 2))
        page.show(_token_table(found, widest))
        page.gap()
        page.paragraph(_summary(found))


def _token_table(found: TextScore, widest: float) -> Table:
    table = grid("lrrrd", "token", "probability", "rank", "log-prob", "")
    for token in found.tokens:
        name = truncate_end(_token_name(token), _NAME)
        if token.logprob is None or token.rank is None:
            table.add_row(name, "–", "–", "–", "not counted")
        else:
            cells = -token.logprob / widest * _BAR
            bar = "█" * int(cells) + ("▌" if cells % 1 >= 0.5 else "")
            table.add_row(name, format_probability(token.logprob), f"{token.rank:,}", f"{token.logprob:.3f}", bar)
    return table


def _summary(found: TextScore) -> str:
    if found.logprob is None:
        return "Nothing to score: the only token has no token before it. --start-token adds the separator."
    bits = "" if found.bits_per_byte is None else f", {found.bits_per_byte:.3f} bits per byte"
    return (
        f"log-prob {found.logprob:.3f}, perplexity {_format_metric(found.perplexity)}{bits} "
        f"({plural(found.counted, 'token', 'tokens')}, {plural(found.bytes, 'byte', 'bytes')})"
    )


def print_ranking(page: Page, scores: Sequence[TextScore], by: Measure) -> None:
    """Print ranked texts, a line each."""
    page.title(f"Ranked by {by.replace('-', ' ').replace('logprob', 'log-probability')}, most likely first")
    table = grid("rrrrrl", "", "perplexity", "log-prob", "bits/byte", "tokens", "text")
    for rank, found in enumerate(scores, start=1):
        metrics = map(_format_metric, (found.perplexity, found.logprob, found.bits_per_byte))
        table.add_row(str(rank), *metrics, str(found.counted), truncate_end(one_line(found.text), page.width))
    page.show(table)


def print_after(page: Page, found: ContinuationScores) -> None:
    """Print continuations of a context and the most likely next tokens."""
    page.title(truncate_end(f"After “{one_line(found.context)}”", page.width + 2))
    context = " ".join(found.context_tokens[-_CONTEXT:])
    page.paragraph(f"tokens: {'… ' if len(found.context_tokens) > _CONTEXT else ''}{context}")
    if found.words:
        page.gap()
        table = grid("wrrd", "text", "probability", "log-prob", "its tokens")
        for word in sorted(found.words, key=lambda each: -each.logprob):
            tokens = " · ".join(
                f"{_token_name(token)} {format_probability(token.logprob or 0.0)}" for token in word.tokens
            )
            name = truncate_end(one_line(word.word), _NAME)
            table.add_row(name, format_probability(word.logprob), f"{word.logprob:.3f}", tokens)
        page.show(table)
    page.title("Most likely next tokens")
    table = grid("rlrd")
    likeliest = math.exp(found.top[0].logprob or 0.0) if found.top else 1.0
    for token in found.top:
        logprob = token.logprob or 0.0
        bar = "█" * round(math.exp(logprob) / likeliest * _BAR)
        table.add_row(str(token.rank), truncate_end(_token_name(token), _NAME), format_probability(logprob), bar)
    page.show(table)


def _token_name(token: TokenScore) -> str:
    return token.token or f"id {token.id}"


def _format_metric(value: float | None) -> str:
    """A metric in at most ten characters; "–" for None."""
    if value is None:
        return "–"
    return f"{value:.3f}" if abs(value) < 1e5 else f"{value:.2e}"
