"""Prefixes with their human continuations, from a run's validation part or a file.

Prefixes are the beginnings of documents, as far as there are enough documents; further ones are taken from inside
documents, so far apart that no text is used twice. They are spread evenly over the text, and the same text always gives
the same ones.
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

_CHUNK = 1 << 20  # tokens that are searched for separators at a time


@dataclass(frozen=True)
class PrefixPair:
    """A prefix and its human continuation."""

    ids: tuple[int, ...]  # of the prefix, with the separator if it starts a document
    prefix: str
    human: Continuation


@dataclass(frozen=True)
class SampleSize:
    """The amount of text to take."""

    prefixes: int  # at most
    prefix_length: int  # tokens
    length: int  # tokens after each prefix, at most


@dataclass(frozen=True)
class HeldOut:
    """Prefix pairs, their source, and the training text if it is available."""

    pairs: tuple[PrefixPair, ...]
    size: SampleSize
    source: str
    is_own: bool  # whether the source is the run's own validation part
    training: PreparedShards | None
    without_training: str | None  # why the training text is not available


def held_out_prefixes(
    loaded: LoadedModel, human: Path | None, size: SampleSize, *, report: Progress = lambda _: None
) -> HeldOut:
    """Prefixes of one length and their human continuations.

    They come from the documents of the file ``human``, or from the validation part of the run. Raises DataError if
    there is no pair, the file cannot be read, or the run's text has changed; RunError without a file if the model is
    not a run's or was trained on examples.
    """
    if human is not None and not expand_path(str(human)).exists():
        raise DataError(
            f"There is no file {human}.",
            "A file of human text is needed: plain text, JSON, CSV or Parquet.",
            "Check the path.",
        )
    tokenizer = loaded.require_tokenizer()
    training, reason = _training_text(loaded, human is None, report)
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
            f"There is no prefix in {source}: it has {len(stream):,} tokens, and no document with more than "
            f"{size.prefix_length:,}.",
            f"Documents need a prefix of {size.prefix_length:,} tokens and text after it.",
            "Use more text (--human FILE) or a shorter --prefix-length.",
        )
    return HeldOut(tuple(pairs), size, source, human is None, training, reason)


def _training_text(
    loaded: LoadedModel, is_required: bool, report: Progress
) -> tuple[PreparedShards | None, str | None]:
    """The prepared text of a run; None with the reason if it is unavailable and not required."""
    if loaded.run is None or loaded.task.kind != "pretrain" or not loaded.run.recipe().data.path:
        reason = f"{loaded.source} has no running text as training data"
        if is_required:
            raise RunError(
                f"{reason}.", "Prefixes come from a run's validation part or from a file.", "Add --human FILE."
            )
        return None, reason
    try:
        prepared = prepare(loaded.run.recipe().data, loaded.require_tokenizer(), report=report)
    except PennaError as error:
        if is_required:
            raise
        return None, f"the training text cannot be read ({error.happened})"
    if loaded.run.info().get("data", {}).get("content_hash") != prepared.corpus.content_hash:
        reason = f"the training text of {loaded.run.path} has changed"
        if is_required:
            raise DataError(
                f"{reason[0].upper()}{reason[1:]}.",
                "Only the original text shows which part of it was held out.",
                "Restore that text, or add --human FILE.",
            )
        return None, reason
    return prepared, None


def _pairs(stream: TokenStream, tokenizer: Tokenizer, size: SampleSize, always_starts: bool) -> list[PrefixPair]:
    prefix_length, length = size.prefix_length, size.length
    separator = tokenizer.separator_id
    beginnings: list[tuple[int, int]] = []  # start of a prefix, tokens from there to the end of its document
    inside: list[tuple[int, int]] = []
    for start, end in _documents(stream, separator):
        for at in range(start, end - prefix_length, prefix_length + length):
            (beginnings if at == start else inside).append((at, end - at))
    chosen = _evenly_spaced(beginnings, size.prefixes)
    starting = set(chosen)
    chosen += _evenly_spaced(inside, size.prefixes - len(chosen))
    pairs: list[PrefixPair] = []
    for at, left in sorted(chosen):
        ids = stream.read(at, min(left, prefix_length + length)).tolist()
        prefix, following = ids[:prefix_length], tuple(ids[prefix_length:])
        leading = [separator] if separator is not None and (always_starts or (at, left) in starting) else []
        human = Continuation(following, tokenizer.decode(following), len(following) < length)
        pairs.append(PrefixPair((*leading, *prefix), tokenizer.decode(prefix), human))
    return pairs


def _documents(stream: TokenStream, separator: int | None) -> Iterator[tuple[int, int]]:
    """The start, after its separator, and the end of each document."""
    start = 0
    for chunk in range(0, len(stream), _CHUNK):
        tokens = stream.read(chunk, min(_CHUNK, len(stream) - chunk))
        for end in (np.flatnonzero(tokens == separator) + chunk).tolist():
            yield start, end
            start = end + 1
    yield start, len(stream)


def _evenly_spaced(items: list[tuple[int, int]], count: int) -> list[tuple[int, int]]:
    """``count`` items, evenly spaced, or all if there are fewer."""
    if count >= len(items):
        return list(items)
    return [items[number * len(items) // count] for number in range(count)]
