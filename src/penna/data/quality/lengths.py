"""Lengths in characters and tokens: exact quantiles, histograms and shares above the usual context lengths.

A length takes eight bytes, so a hundred million documents take 0.8 GB.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from penna.data.quality.codepoints import TextBatch
from penna.data.quality.result import BLOCK_SIZES, Histogram, Lengths, TextCounts, Tokenization
from penna.tokenizer.tokenizer import Tokenizer

_MOST_BINS = 18
_SAMPLES = 3
_SAMPLE_CHARACTERS = 48
_UNKNOWN = ("<unk>", "[UNK]", "<|unk|>", "<UNK>", "[unk]")


class LengthCounter:
    """Collects lengths of documents or their parts."""

    def __init__(self, of: str, unit: str) -> None:
        self._of, self._unit = of, unit
        self._lengths = array("q")

    def __len__(self) -> int:
        return len(self._lengths)

    def add(self, lengths: Sequence[int] | NDArray[np.int64]) -> None:
        """Add lengths."""
        self._lengths.frombytes(np.asarray(lengths, dtype=np.int64).tobytes())

    def add_chunks(self, lengths: NDArray[np.int64], starts: Sequence[bool]) -> None:
        """Add lengths of chunks; one that does not start a document adds to the last length."""
        begins = np.array(starts, dtype=np.bool_)
        owner = np.cumsum(begins)
        sums = np.bincount(owner, weights=lengths, minlength=int(owner[-1]) + 1).astype(np.int64)
        if not begins[0]:
            self._lengths[-1] += int(sums[0])
        self.add(sums[1:])

    def values(self) -> NDArray[np.int64]:
        """All lengths so far."""
        return np.frombuffer(self._lengths, dtype=np.int64) if self._lengths else np.zeros(0, dtype=np.int64)

    def result(self) -> Lengths:
        """Statistics of all lengths so far."""
        return describe_lengths(self.values(), self._of, self._unit)


def describe_lengths(lengths: NDArray[np.int64], of: str, unit: str) -> Lengths:
    """Statistics of these lengths, all zero if there are none.

    The quantile q is the smallest length such that a share q of all lengths are no longer.
    """
    if not len(lengths):
        return Lengths(of, unit, 0, 0, 0, 0, 0, 0, 0, 0, dict.fromkeys(BLOCK_SIZES, 0.0), Histogram((), ()))
    quantiles = np.quantile(lengths, (0, 0.25, 0.5, 0.75, 0.95, 1), method="inverted_cdf")
    return Lengths(
        of,
        unit,
        len(lengths),
        int(lengths.sum()),
        *(int(value) for value in quantiles),
        longer_than={size: float(np.mean(lengths > size)) for size in BLOCK_SIZES},
        histogram=log_histogram(lengths),
    )


def log_histogram(lengths: NDArray[np.int64]) -> Histogram:
    """Counts in bins whose edges grow by the square root of two, or by two or four if that makes too many bins.

    Edges are whole numbers and include powers of two; a length of zero has its own bin.
    """
    low, high = int(lengths.min()), int(lengths.max())
    for step in (0.5, 1, 2):
        edges = _edges(low, high, step)
        if len(edges) <= _MOST_BINS + 1:
            break
    counts = np.histogram(lengths, bins=edges)[0]  # no length is as large as the last edge
    return Histogram(tuple(edges), tuple(int(count) for count in counts))


def _edges(low: int, high: int, step: float) -> list[int]:
    """The edges round(2**(i * step)) from the last one at or below ``low`` to the first one above ``high``."""
    powers = sorted({round(2 ** (place * step)) for place in range(int(64 / step))})
    inside = [0, *(int(power) for power in powers)]
    first = max(place for place, edge in enumerate(inside) if edge <= low)
    last = min(place for place, edge in enumerate(inside) if edge > high)
    return inside[first : last + 1]


class TokenizationCounter:
    """Encodes batches and counts their tokens."""

    def __init__(self, tokenizer: Tokenizer, name: str) -> None:
        self._tokenizer, self._name = tokenizer, name
        self._lengths = LengthCounter("documents", "tokens")
        self._counts = np.zeros(tokenizer.vocab_size, dtype=np.int64)

    def add(self, batch: TextBatch) -> None:
        """Encode a batch. The chunks of a long document are encoded separately."""
        encoded = self._tokenizer.encode_batch(batch.texts)
        self._lengths.add_chunks(np.array([len(ids) for ids in encoded]), batch.starts)
        every = np.fromiter(itertools.chain.from_iterable(encoded), dtype=np.int64)
        self._counts += np.bincount(every, minlength=len(self._counts))

    def count(self, text: str) -> int:
        """The number of tokens of one text."""
        return len(self._tokenizer.encode(text))

    def lengths(self) -> Lengths:
        """Lengths of the documents in tokens."""
        return self._lengths.result()

    def result(self, amount: TextCounts, sample: Sequence[str]) -> Tokenization:
        """Statistics of all batches, whose text has these counts; ``sample`` provides a few lines to show."""
        tokens = int(self._counts.sum())
        special = self._tokenizer.special_tokens
        unknown = sum(int(self._counts[special[name]]) for name in _UNKNOWN if name in special)
        step = max(1, len(sample) // _SAMPLES)
        return Tokenization(
            tokenizer=self._name,
            vocab_size=self._tokenizer.vocab_size,
            tokens=tokens,
            tokens_per_word=tokens / max(amount.words, 1),
            tokens_per_character=tokens / max(amount.characters, 1),
            bytes_per_token=amount.bytes / max(tokens, 1),
            unknown=unknown / max(tokens, 1),
            used=int(np.count_nonzero(self._counts)),
            samples=tuple(self._tokens_of_line(text) for text in sample[::step][:_SAMPLES]),
        )

    def _tokens_of_line(self, text: str) -> tuple[str, ...]:
        first = next(line for line in text.splitlines() if line.strip())[:_SAMPLE_CHARACTERS]
        return tuple(self._tokenizer.token_text(index) for index in self._tokenizer.encode(first))
