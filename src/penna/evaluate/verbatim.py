"""Where texts stand word for word in a long stream of tokens: ids in, verbatim tokens and longest spans out.

The stream is read once, chunk by chunk, and memory does not grow with it. A rolling hash (Karp and Rabin 1987) of every
run of ``shortest`` tokens is looked up among those of the texts; what it finds is compared token for token, so a
collision of hashes cannot lie. A span of at least ``shortest`` tokens is made of such runs, one at each of its tokens,
so the runs alone say which tokens are verbatim. Longest spans go on from them token by token, through exact tables of
the text's own runs (as Karp, Miller and Rosenberg 1972 name them).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

_CHUNK = 1 << 18  # tokens of the stream hashed at a time, so that they stay in the processor's cache
_BASE = 0x9E3779B97F4A7C15  # of the hash; odd, for then it has an inverse modulo 2**64
_TABLE_BITS = 18  # of a hash, looked up before the whole of it
_SHIFT = np.uint64(64 - _TABLE_BITS)

_Ids = NDArray[np.int64]
_Flags = NDArray[np.bool_]


class Tokens(Protocol):
    """A stream of token ids, such as `penna.data.shards.TokenStream`."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def read(self, start: int, count: int) -> _Ids:
        """``count`` of them from ``start`` on."""
        ...


@dataclass(frozen=True)
class Match:
    """A stretch of a text that stands in the stream."""

    start: int  # its place in the text
    tokens: int
    document: int  # of the stream, the first one being 1: where it stands first


@dataclass(frozen=True)
class Verbatim:
    """What of one text stands in the stream."""

    tokens: _Flags  # per token, whether it lies in a span of at least the shortest length that stands there
    longest: Match | None  # None where no span is long enough


def find_verbatim(stream: Tokens, texts: Sequence[_Ids], *, separator: int, shortest: int) -> list[Verbatim]:
    """What of each text stands in the stream in spans of at least ``shortest`` tokens, none of them the separator.

    Each document of the stream begins with the separator, so a span lies inside one document.
    """
    reach = max([shortest, *(len(text) for text in texts)]) - 1  # what a span may need behind a chunk
    if not texts:
        return []
    runs = _Runs(texts, separator, shortest, min(_CHUNK + reach, len(stream)))
    longest = [
        _Longest(text, numbers, len(runs.runs), separator, shortest)
        for text, numbers in zip(texts, runs.of_texts, strict=True)
    ]
    documents = 0  # that began before the chunk
    for start in range(0, len(stream) if len(runs.runs) else 0, _CHUNK):
        tokens = stream.read(start, min(_CHUNK + reach, len(stream) - start))
        places, numbers = runs.look_in(tokens)
        for text in longest:
            text.look_in(tokens, places, numbers, documents)
        documents += int((tokens[:_CHUNK] == separator).sum())
    return [Verbatim(runs.verbatim(number), text.match) for number, text in enumerate(longest)]


class _Runs:
    """The runs of ``length`` tokens in all texts, each one once, and which of them were found."""

    def __init__(self, texts: Sequence[_Ids], separator: int, length: int, chunk: int) -> None:
        self._length, self._sizes = length, [len(text) for text in texts]
        windows = [_windows(text, length) for text in texts]
        usable = [(runs != separator).all(axis=1) for runs in windows]
        kept = np.concatenate([runs[use] for runs, use in zip(windows, usable, strict=True)])
        self.runs, numbers = np.unique(kept, axis=0, return_inverse=True)  # (n, length)
        self._found = np.zeros(len(self.runs) + 1, dtype=np.bool_)  # the last one stands for -1, and never is
        self.of_texts: list[_Ids] = []  # per text and place in it, the number of the run there, or -1
        ends = np.cumsum([int(use.sum()) for use in usable])
        for use, own in zip(usable, np.split(numbers.reshape(-1), ends[:-1]), strict=True):
            here = np.full(len(use), -1, dtype=np.int64)
            here[use] = own
            self.of_texts.append(here)
        self._powers = _powers(_BASE, max(chunk, length))
        self._inverses = _powers(pow(_BASE, -1, 1 << 64), chunk)
        hashes = (self.runs.astype(np.uint64) * self._powers[:length]).sum(axis=1, dtype=np.uint64)
        self._order = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._order]
        self._table = np.zeros(1 << _TABLE_BITS, dtype=np.bool_)
        self._table[hashes >> _SHIFT] = True

    def look_in(self, tokens: _Ids) -> tuple[_Ids, _Ids]:
        """The places of a chunk at which runs of the texts stand, rising, and the number of the run at each."""
        hashes = self._hashes_of(tokens)
        places = np.flatnonzero(self._table[hashes >> _SHIFT])
        slots = np.searchsorted(self._hashes, hashes[places])
        at: list[_Ids] = [np.empty(0, dtype=np.int64)]
        which: list[_Ids] = [np.empty(0, dtype=np.int64)]
        while len(places):  # once; where different runs have the same hash, each of them in turn
            same = self._hashes[np.minimum(slots, len(self._hashes) - 1)] == hashes[places]
            same &= slots < len(self._hashes)
            places, slots = places[same], slots[same]
            numbers = self._order[slots]
            equal = np.ones(len(places), dtype=np.bool_)
            for offset in range(self._length):
                equal &= tokens[places + offset] == self.runs[numbers, offset]
            at.append(places[equal])
            which.append(numbers[equal])
            places, slots = places[~equal], slots[~equal] + 1
        found, numbers = np.concatenate(at), np.concatenate(which)
        self._found[numbers] = True
        order = np.argsort(found, kind="stable")
        return found[order], numbers[order]

    def verbatim(self, text: int) -> _Flags:
        """Which tokens of a text lie in runs that were found."""
        numbers = self.of_texts[text]
        begin = np.flatnonzero(self._found[numbers])
        change = np.zeros(self._sizes[text] + 1, dtype=np.int64)
        change[begin] += 1
        change[begin + self._length] -= 1
        return np.cumsum(change)[:-1] > 0

    def _hashes_of(self, tokens: _Ids) -> NDArray[np.uint64]:
        """The hash of every run t of a chunk: the sum of t[k] * BASE**k, modulo 2**64."""
        count = max(len(tokens) - self._length + 1, 0)
        sums = np.zeros(len(tokens) + 1, dtype=np.uint64)
        np.cumsum(tokens.astype(np.uint64) * self._powers[: len(tokens)], out=sums[1:])
        return (sums[self._length :][:count] - sums[:count]) * self._inverses[:count]


class _Longest:
    """The longest span of one text, as the chunks go by."""

    def __init__(self, text: _Ids, runs: _Ids, known: int, separator: int, length: int) -> None:
        self.match: Match | None = None
        self._text, self._separator, self._length = text, separator, length
        self._mine = np.zeros(known, dtype=np.bool_)
        self._mine[runs[runs >= 0]] = True
        self._runs = [runs]  # per length from ``length`` on, and place in the text: the number of the run there, or -1
        self._tables: list[_Ids] = []  # per such length: run and next token in one integer; its place is the next run

    def look_in(self, tokens: _Ids, places: _Ids, runs: _Ids, documents: int) -> None:
        """Look for a longer span among the places of a chunk where known runs stand.

        ``documents`` began before the chunk.
        """
        best = 0 if self.match is None else self.match.tokens
        if best == len(self._text):
            return
        places, runs = places[self._mine[runs]], runs[self._mine[runs]]
        # A span of n tokens has n - length + 1 runs in a row: what cannot beat the best is not followed.
        promising = _left_in_a_row(places) + self._length - 1 > best
        places, runs = places[promising], runs[promising]
        length = self._length
        while len(places):
            if length > best:
                start = int(np.flatnonzero(self._runs[length - self._length] == runs[0])[0])
                document = documents + int((tokens[: places[0]] == self._separator).sum())
                self.match = Match(start, length, document)
            within = places + length < len(tokens)
            places, runs = places[within], runs[within]
            table = self._table(length)
            pairs = runs << 32 | tokens[places + length]
            slots = np.searchsorted(table, pairs)
            goes_on = np.append(table, -1)[slots] == pairs
            places, runs, length = places[goes_on], slots[goes_on], length + 1

    def _table(self, length: int) -> _Ids:
        """The pairs (run of ``length`` tokens, token behind it) of the text, sorted."""
        if length - self._length == len(self._tables):
            behind = self._text[length:]
            runs = self._runs[-1][: len(behind)]
            usable = (runs >= 0) & (behind != self._separator)
            table, numbers = np.unique(runs[usable] << 32 | behind[usable], return_inverse=True)
            longer = np.full(len(behind), -1, dtype=np.int64)
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
    """base**0, base**1 …, modulo 2**64."""
    factors = np.full(count, base, dtype=np.uint64)
    factors[:1] = 1
    return np.cumprod(factors, dtype=np.uint64)


def _left_in_a_row(places: _Ids) -> _Ids:
    """For each of rising places, how many from it on follow one another without a gap, itself included."""
    lasts = np.append(np.flatnonzero(np.diff(places) != 1), len(places) - 1)
    index = np.arange(len(places))
    return lasts[np.searchsorted(lasts, index)] - index + 1
