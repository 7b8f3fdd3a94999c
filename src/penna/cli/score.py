"""The verb ``penna score``: how likely a model finds texts, token by token, or words behind a context.

A few texts are shown token by token, and several are ranked; of more than that the ranking alone is shown. With
``--after`` what is given are words, and the likeliest next tokens are shown below them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from typing import IO, TYPE_CHECKING

from penna.cli.lines import opened, text_lines
from penna.cli.loading import add_device_arguments, add_run_and_texts, load
from penna.errors import DataError, RecipeError
from penna.storage import to_json

if TYPE_CHECKING:
    from penna.api.score import Measure, TextScore
    from penna.loading import LoadedModel

Overrides = Sequence[tuple[str, str]]

_SHOWN = 5  # texts that are shown token by token
_TOP = 10
_NAMED = 12  # characters that the vocabulary lacks


def add_score_arguments(parser: argparse.ArgumentParser) -> None:
    """The words of ``penna score``."""
    add_run_and_texts(parser, "what to score, with --after the words; - or none: the lines of standard input")
    parser.add_argument("--file", metavar="FILE", help="score every line of a file")
    parser.add_argument("--start-token", action="store_true", help="begin with the document separator")
    parser.add_argument(
        "--by",
        choices=["perplexity", "logprob", "bits-per-byte"],
        help="what several texts are ranked by (perplexity, which is per token)",
    )
    parser.add_argument("--after", metavar="CONTEXT", help="score words behind this instead, and the likeliest tokens")
    parser.add_argument("--top", type=int, metavar="N", help=f"with --after, so many of the likeliest tokens ({_TOP})")
    parser.add_argument("--no-space", action="store_true", help="with --after, put no space in front of the words")
    add_device_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print JSON, texts and words in the order they were given")


def run(arguments: argparse.Namespace, overrides: Overrides) -> int:
    """Print how likely the model finds each text, or each word behind the context."""
    _check_options(arguments)
    texts = _texts(arguments)
    loaded = load(arguments)
    if arguments.after is None:
        _score(loaded, texts, arguments)
    else:
        _score_after(loaded, texts, arguments)
    return 0


def _check_options(arguments: argparse.Namespace) -> None:
    """Raise RecipeError for an option that would change nothing."""
    about_words = {"--top": arguments.top is not None, "--no-space": arguments.no_space}
    about_texts = {"--by": arguments.by is not None}
    if arguments.after is None:
        idle, reason = about_words, "It belongs to --after, which scores words behind a context."
    else:
        idle, reason = about_texts, "--after compares words by P(word | context), and nothing else."
    if named := [option for option, said in idle.items() if said]:
        raise RecipeError(f"{' and '.join(named)} would change nothing here.", reason, f"Leave out {named[0]}.")
    if arguments.top is not None and arguments.top < 1:
        raise RecipeError(
            f"--top {arguments.top} shows no token.", "How many of the likeliest tokens, 1 or more.", "Such as --top 5."
        )


def _score(loaded: LoadedModel, texts: Sequence[str], arguments: argparse.Namespace) -> None:
    from penna.api.score import rank_texts, score

    scores = score(loaded, texts, arguments.start_token)
    if not arguments.start_token:
        _recommend_start(loaded)
    _tell_windows(scores, loaded.model.config.block_size)
    _tell_lacking(loaded, [part for found in scores for part in found.lacking])
    if arguments.json:
        print(json.dumps([to_json(found) for found in scores], ensure_ascii=False, indent=2, allow_nan=False))
        return
    from penna.cli.page import Page
    from penna.cli.score_tables import print_ranking, print_texts

    page = Page()
    if len(scores) <= _SHOWN:
        print_texts(page, scores)
    if len(scores) > 1:
        by: Measure = arguments.by or "perplexity"
        print_ranking(page, rank_texts(scores, by), by)


def _score_after(loaded: LoadedModel, words: Sequence[str], arguments: argparse.Namespace) -> None:
    from penna.api.score import score_after
    from penna.cli.page import Page
    from penna.cli.score_tables import print_after
    from penna.cli.screen import say
    from penna.formatting import one_line

    top = _TOP if arguments.top is None else arguments.top
    context, space = arguments.after, not arguments.no_space
    found = score_after(loaded, context, words, top, start_token=arguments.start_token, space=space)
    if not arguments.start_token:
        _recommend_start(loaded)
    if found.context_read < len(found.context_tokens):
        say(
            f"The context has {len(found.context_tokens):,} tokens, the block {loaded.model.config.block_size:,}: "
            f"the last {found.context_read:,} are read."
        )
    for word in found.words:
        if not word.together:
            say(
                f"A token spans the border between the context and “{one_line(word.text)}”: "
                "this word was cut into tokens by itself."
            )
    _tell_lacking(loaded, found.lacking)
    if arguments.json:
        print(json.dumps(to_json(found), ensure_ascii=False, indent=2, allow_nan=False))
    else:
        print_after(Page(), found)


def _recommend_start(loaded: LoadedModel) -> None:
    from penna.cli.screen import say

    if loaded.starts_documents:
        say(
            'Every text this model learned from began with the document separator (data.windows = "documents"), and '
            "nothing is put in front of these: --start-token puts it there."
        )


def _tell_windows(scores: Sequence[TextScore], block_size: int) -> None:
    from penna.cli.screen import say

    for number, found in enumerate(scores, start=1):
        if found.windows > 1:
            which = f"Text {number}" if len(scores) > 1 else "The text"
            say(
                f"{which} has {len(found.tokens):,} tokens, the block {block_size:,}: it was read in {found.windows:,} "
                "overlapping windows, and behind the first one a token's probability rests on half a block to a whole."
            )


def _tell_lacking(loaded: LoadedModel, parts: Iterable[str]) -> None:
    from penna.cli.screen import say
    from penna.formatting import one_line, truncate_end

    distinct = list(dict.fromkeys(parts))
    if distinct:
        shown = " ".join(truncate_end(one_line(part), 20) for part in distinct[:_NAMED])
        others = f" and {len(distinct) - _NAMED:,} more" if len(distinct) > _NAMED else ""
        unknown = loaded.require_tokenizer().unknown_id is not None
        read = "as the unknown token" if unknown else "byte by byte"
        say(f"The vocabulary has no token of its own for {shown}{others}: read {read}.")


def _texts(arguments: argparse.Namespace) -> list[str]:
    """The texts of the command line, of a file, or of the standard input. Raises DataError where one is empty."""
    if arguments.text and arguments.file:
        raise DataError(
            f"There are both texts and the file {arguments.file}.", "One of the two.", "Leave one of them out."
        )
    if arguments.file:
        with opened(arguments.file) as lines:
            return _lines(lines, arguments.file)
    if arguments.text == ["-"] or (not arguments.text and arguments.after is None):
        return _lines(sys.stdin.buffer, "the standard input")
    for number, text in enumerate(arguments.text, start=1):
        if not text:
            raise DataError(
                f"Text {number} of {len(arguments.text)} is empty."
                if len(arguments.text) > 1
                else "The text is empty.",
                "At least one token.",
                "Leave it out, or write something there.",
            )
    return list(arguments.text)


def _lines(lines: IO[bytes], name: str) -> list[str]:
    texts: list[str] = []
    for number, text in text_lines(lines, name):
        if not text:
            raise DataError(f"Line {number} of {name} is empty.", "A text on each line.", "Take that line out.")
        texts.append(text)
    if not texts:
        raise DataError(
            f"There is nothing to score in {name}.",
            "A text on each line.",
            'Give texts: penna score RUN "some text" "another", or --file FILE.',
        )
    return texts
