"""Prefixes and what people wrote behind them: a run's validation part, or a file, in; pairs of token ids out.

Every prefix is the beginning of a document where there are enough documents; else further prefixes are taken from
within documents, so far apart that no text is used twice. They lie evenly over all of the text, and the same text
always gives the same ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from penna.config.recipe import build_recipe, expand_path, merge
from penna.data.cache import Progress
from penna.data.prepare import PreparedShards, prepare, prepare_for_evaluation
from penna.data.shards import TokenStream
from penna.errors import DataError, PennaError, RunError
from penna.evaluate.texts.statistics import Continuation
from penna.loading import LoadedModel
from penna.tokenizer.tokenizer import Tokenizer

_CHUNK = 1 << 20  # tokens looked through for separators at a time


@dataclass(frozen=True)
class PrefixPair:
    """A prefix, and the human text behind it."""

    ids: tuple[int, ...]  # the prefix; with the separator in front where it begins a document
    prefix: str
    human: Continuation


@dataclass(frozen=True)
class SampleSize:
    """How much text is asked for."""

    prefixes: int  # at most
    prefix_length: int  # tokens
    length: int  # tokens behind each prefix, at most


@dataclass(frozen=True)
class HeldOut:
    """Pairs, where they come from, and the text that was learned from, where it is at hand."""

    pairs: tuple[PrefixPair, ...]
    size: SampleSize
    source: str
    is_own: bool  # the run's own validation part
    training: PreparedShards | None
    without_training: str | None  # why the training text is not at hand


def held_out_prefixes(
    loaded: LoadedModel, human: Path | None, size: SampleSize, *, report: Progress = lambda _: None
) -> HeldOut:
    """Prefixes of one length, and the human text behind each.

    They come from the documents of the file ``human``, or from the validation part of the run. Raises DataError where
    there is no pair, where the file cannot be read, or the run's text is no longer the one it learned from; RunError
    where a model that is not a run's, or learned from examples, has no file.
    """
    if human is not None and not expand_path(str(human)).exists():
        raise DataError(
            f"There is no file {human}.", "A file of human text: plain text, JSON, CSV or Parquet.", "Check the path."
        )
    tokenizer = loaded.require_tokenizer()
    training, why = _training_text(loaded, human is None, report)
    if human is None:
        assert training is not None
        stream, source = TokenStream(training.folder, "valid"), "the run's validation part"
    else:
        data = build_recipe(merge({}, {"data.path": [str(human)]})).data
        folder, _ = prepare_for_evaluation(data, tokenizer, report=report)
        stream, source = TokenStream(folder, "valid"), str(human)
    pairs = _pairs(stream, tokenizer, size, loaded.starts_documents)
    if not pairs:
        raise DataError(
            f"There is no prefix in {source}: it has {len(stream):,} tokens, and no document of more than "
            f"{size.prefix_length:,}. No statistic can be measured.",
            f"Documents with a prefix of {size.prefix_length:,} tokens and text behind it.",
            "Give more text (--human FILE), or a shorter --prefix-length.",
        )
    return HeldOut(tuple(pairs), size, source, human is None, training, why)


def _training_text(loaded: LoadedModel, needed: bool, report: Progress) -> tuple[PreparedShards | None, str | None]:
    """The prepared text of a run; None with the reason where it is not at hand, unless it is needed."""
    if loaded.run is None or loaded.task.kind != "pretrain" or not loaded.run.recipe().data.path:
        reason = f"{loaded.source} has no running text that it learned from"
        if needed:
            raise RunError(
                f"{reason}.", "Prefixes come from the validation part of a run, or from a file.", "Give --human FILE."
            )
        return None, reason
    try:
        prepared = prepare(loaded.run.recipe().data, loaded.require_tokenizer(), report=report)
    except PennaError as error:
        if needed:
            raise
        return None, f"the training text cannot be read ({error.happened})"
    if loaded.run.info().get("data", {}).get("content_hash") != prepared.corpus.content_hash:
        reason = f"The text of {loaded.run.path} is not the one it learned from"
        if needed:
            raise DataError(
                f"{reason}.",
                "Prefixes come from what it never read, which only the text it began with can tell.",
                "Restore that text, or give --human FILE.",
            )
        return None, reason[0].lower() + reason[1:]
    return prepared, None


def _pairs(stream: TokenStream, tokenizer: Tokenizer, size: SampleSize, always_starts: bool) -> list[PrefixPair]:
    prefix_length, length = size.prefix_length, size.length
    separator = tokenizer.separator_id
    beginnings: list[tuple[int, int]] = []  # place of a prefix, tokens from it to its document's end
    further: list[tuple[int, int]] = []
    for start, end in _documents(stream, separator):
        for place in range(start, end - prefix_length, prefix_length + length):
            (beginnings if place == start else further).append((place, end - place))
    chosen = _evenly(beginnings, size.prefixes)
    begun = set(chosen)
    chosen += _evenly(further, size.prefixes - len(chosen))
    pairs: list[PrefixPair] = []
    for place, left in sorted(chosen):
        ids = stream.read(place, min(left, prefix_length + length)).tolist()
        prefix, behind = ids[:prefix_length], tuple(ids[prefix_length:])
        in_front = [separator] if separator is not None and (always_starts or (place, left) in begun) else []
        text = Continuation(behind, tokenizer.decode(behind), len(behind) < length)
        pairs.append(PrefixPair((*in_front, *prefix), tokenizer.decode(prefix), text))
    return pairs


def _documents(stream: TokenStream, separator: int | None) -> Iterator[tuple[int, int]]:
    """Where each document begins, behind its separator, and ends."""
    start = 0
    for chunk in range(0, len(stream), _CHUNK):
        tokens = stream.read(chunk, min(_CHUNK, len(stream) - chunk))
        for place in (np.flatnonzero(tokens == separator) + chunk).tolist():
            yield start, place
            start = place + 1
    yield start, len(stream)


def _evenly(places: list[tuple[int, int]], count: int) -> list[tuple[int, int]]:
    """``count`` of them, or all, evenly spread."""
    if count >= len(places):
        return list(places)
    return [places[number * len(places) // count] for number in range(count)]
