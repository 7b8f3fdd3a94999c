"""Verbatim copies of texts in a long stream of tokens: which tokens are copied, and the longest copied span.

The stream is read once, chunk by chunk, and memory does not grow with it. A rolling hash (Karp and Rabin 1987) of every
run of ``shortest`` tokens is looked up among those of the texts; every hit is compared token for token, so a hash
collision cannot cause a false match. A span of at least ``shortest`` tokens consists of such runs, one at each of its
positions, so the runs alone determine which tokens are verbatim. Longest spans are extended token by token through
exact tables of the text's own runs (named as by Karp, Miller and Rosenberg 1972).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

_CHUNK = 1 << 18  # tokens of the stream hashed at a time, so that they stay in the processor's cache
_BASE = 0x9E3779B97F4A7C15  # of the hash; odd, so that it has an inverse modulo 2**64
_TABLE_BITS = 18  # leading bits of a hash, looked up first
_SHIFT = np.uint64(64 - _TABLE_BITS)

_Ids = NDArray[np.int64]
_Flags = NDArray[np.bool_]


class Tokens(Protocol):
    """A stream of token ids, such as `penna.data.shards.TokenStream`."""

    def __len__(self) -> int:
        """The number of tokens."""
        ...

    def read(self, start: int, count: int) -> _Ids:
        """``count`` tokens from ``start``."""
        ...


@dataclass(frozen=True)
class Match:
    """A span of a text that appears in the stream."""

    start: int  # in the text
    tokens: int
    document: int  # of the stream, from 1: the first one that has the span


@dataclass(frozen=True)
class Verbatim:
    """What of one text appears in the stream."""

    tokens: _Flags  # per token, whether it is in a verbatim span of at least the shortest length
    longest: Match | None  # None if no span is long enough


def find_verbatim(stream: Tokens, texts: Sequence[_Ids], *, separator: int, shortest: int) -> list[Verbatim]:
    """What of each text appears in the stream in spans of at least ``shortest`` tokens without a separator.

    Each document of the stream begins with the separator, so a span is inside one document.
    """
    reach = max([shortest, *(len(text) for text in texts)]) - 1  # tokens that a span may need after a chunk
    if not texts:
        return []
    index = _RunIndex(texts, separator, shortest, min(_CHUNK + reach, len(stream)))
    longest = [
        _LongestSpan(text, numbers, len(index.runs), separator, shortest)
        for text, numbers in zip(texts, index.runs_of_texts, strict=True)
    ]
    documents = 0  # that began before the chunk
    for start in range(0, len(stream) if len(index.runs) else 0, _CHUNK):
        tokens = stream.read(start, min(_CHUNK + reach, len(stream) - start))
        positions, runs = index.find(tokens)
        for span in longest:
            span.update(tokens, positions, runs, documents)
        documents += int((tokens[:_CHUNK] == separator).sum())
    return [Verbatim(index.verbatim_tokens(number), span.match) for number, span in enumerate(longest)]


class _RunIndex:
    """The different runs of ``length`` tokens in all texts, and which of them were found in the stream."""

    def __init__(self, texts: Sequence[_Ids], separator: int, length: int, chunk: int) -> None:
        self._length, self._sizes = length, [len(text) for text in texts]
        windows = [_windows(text, length) for text in texts]
        usable = [(runs != separator).all(axis=1) for runs in windows]
        kept = np.concatenate([runs[use] for runs, use in zip(windows, usable, strict=True)])
        self.runs, numbers = np.unique(kept, axis=0, return_inverse=True)  # (n, length)
        self._found = np.zeros(len(self.runs) + 1, dtype=np.bool_)  # the last one is for run -1, which is never found
        self.runs_of_texts: list[_Ids] = []  # per text and position, the number of the run there, or -1
        ends = np.cumsum([int(use.sum()) for use in usable])
        for use, own in zip(usable, np.split(numbers.reshape(-1), ends[:-1]), strict=True):
            here = np.full(len(use), -1, dtype=np.int64)
            here[use] = own
            self.runs_of_texts.append(here)
        self._powers = _powers(_BASE, max(chunk, length))
        self._inverses = _powers(pow(_BASE, -1, 1 << 64), chunk)
        hashes = (self.runs.astype(np.uint64) * self._powers[:length]).sum(axis=1, dtype=np.uint64)
        self._order = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._order]
        self._table = np.zeros(1 << _TABLE_BITS, dtype=np.bool_)
        self._table[hashes >> _SHIFT] = True

    def find(self, tokens: _Ids) -> tuple[_Ids, _Ids]:
        """The rising positions of a chunk that start a run of the texts, and the number of the run at each."""
        hashes = self._hash_runs(tokens)
        positions = np.flatnonzero(self._table[hashes >> _SHIFT])
        slots = np.searchsorted(self._hashes, hashes[positions])
        found: list[_Ids] = [np.empty(0, dtype=np.int64)]
        found_runs: list[_Ids] = [np.empty(0, dtype=np.int64)]
        while len(positions):  # once; if different runs have the same hash, once for each of them
            same = self._hashes[np.minimum(slots, len(self._hashes) - 1)] == hashes[positions]
            same &= slots < len(self._hashes)
            positions, slots = positions[same], slots[same]
            runs = self._order[slots]
            equal = np.ones(len(positions), dtype=np.bool_)
            for offset in range(self._length):
                equal &= tokens[positions + offset] == self.runs[runs, offset]
            found.append(positions[equal])
            found_runs.append(runs[equal])
            positions, slots = positions[~equal], slots[~equal] + 1
        at, runs = np.concatenate(found), np.concatenate(found_runs)
        self._found[runs] = True
        order = np.argsort(at, kind="stable")
        return at[order], runs[order]

    def verbatim_tokens(self, text: int) -> _Flags:
        """Which tokens of a text are in runs that were found."""
        runs = self.runs_of_texts[text]
        begin = np.flatnonzero(self._found[runs])
        change = np.zeros(self._sizes[text] + 1, dtype=np.int64)
        change[begin] += 1
        change[begin + self._length] -= 1
        return np.cumsum(change)[:-1] > 0

    def _hash_runs(self, tokens: _Ids) -> NDArray[np.uint64]:
        """The hash of every run t of a chunk: the sum of t[k] * BASE**k, modulo 2**64."""
        count = max(len(tokens) - self._length + 1, 0)
        sums = np.zeros(len(tokens) + 1, dtype=np.uint64)
        np.cumsum(tokens.astype(np.uint64) * self._powers[: len(tokens)], out=sums[1:])
        return (sums[self._length :][:count] - sums[:count]) * self._inverses[:count]


class _LongestSpan:
    """The longest span of one text, updated chunk by chunk."""

    def __init__(self, text: _Ids, runs: _Ids, known: int, separator: int, length: int) -> None:
        self.match: Match | None = None
        self._text, self._separator, self._length = text, separator, length
        self._is_own = np.zeros(known, dtype=np.bool_)
        self._is_own[runs[runs >= 0]] = True
        self._runs = [runs]  # per length from ``length`` on, and position in the text: the number of the run, or -1
        self._tables: list[_Ids] = []  # per such length: run and next token in one integer; its index is the next run

    def update(self, tokens: _Ids, positions: _Ids, runs: _Ids, documents: int) -> None:
        """Look for a longer span at the positions of a chunk that start known runs.

        ``documents`` is the number of documents that began before the chunk.
        """
        best = 0 if self.match is None else self.match.tokens
        if best == len(self._text):
            return
        positions, runs = positions[self._is_own[runs]], runs[self._is_own[runs]]
        # A span of n tokens has n - length + 1 runs in a row: skip positions that cannot beat the best.
        promising = _remaining_in_row(positions) + self._length - 1 > best
        positions, runs = positions[promising], runs[promising]
        length = self._length
        while len(positions):
            if length > best:
                start = int(np.flatnonzero(self._runs[length - self._length] == runs[0])[0])
                document = documents + int((tokens[: positions[0]] == self._separator).sum())
                self.match = Match(start, length, document)
            within = positions + length < len(tokens)
            positions, runs = positions[within], runs[within]
            table = self._table(length)
            pairs = runs << 32 | tokens[positions + length]
            slots = np.searchsorted(table, pairs)
            continues = np.append(table, -1)[slots] == pairs
            positions, runs, length = positions[continues], slots[continues], length + 1

    def _table(self, length: int) -> _Ids:
        """The sorted pairs (run of ``length`` tokens, next token) of the text."""
        if length - self._length == len(self._tables):
            following = self._text[length:]
            runs = self._runs[-1][: len(following)]
            usable = (runs >= 0) & (following != self._separator)
            table, numbers = np.unique(runs[usable] << 32 | following[usable], return_inverse=True)
            longer = np.full(len(following), -1, dtype=np.int64)
            longer[usable] = numbers
            self._tables.append(table)
            self._runs.append(longer)
        return self._tables[length - self._length]


def _windows(text: _Ids, length: int) -> _Ids:
    """All runs of ``length`` tokens: (len(text) - length + 1, length)."""
    if len(text) < length:
        return np.empty((0, length), dtype=np.int64)
    return np.lib.stride_tricks.sliding_window_view(text, length)


def _powers(base: int, count: int) -> NDArray[np.uint64]:
    """base**0, base**1, …, modulo 2**64."""
    factors = np.full(count, base, dtype=np.uint64)
    factors[:1] = 1
    return np.cumprod(factors, dtype=np.uint64)


def _remaining_in_row(positions: _Ids) -> _Ids:
    """For each of rising positions, how many consecutive ones start there, itself included."""
    lasts = np.append(np.flatnonzero(np.diff(positions) != 1), len(positions) - 1)
    index = np.arange(len(positions))
    return lasts[np.searchsorted(lasts, index)] - index + 1
