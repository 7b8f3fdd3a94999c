"""A few hundred documents of a stream, the same ones each time, wherever in it they stand.

A document is chosen by a hash of its place in the stream: those with the smallest are kept. So the sample is spread
over the whole text, depends on no random state, and holds a bounded number of beginnings of documents.
"""

from __future__ import annotations

import heapq

from penna.data.inspection.codepoints import Batch

SAMPLE = 500  # documents
_BEGINNING = 1000  # characters kept of each
_SHORTEST = 20  # characters a guess at the language needs


class DocumentSample:
    """The beginnings of up to ``size`` documents, spread evenly."""

    def __init__(self, size: int = SAMPLE) -> None:
        self._size = size
        self._held: list[tuple[int, int, str]] = []  # a heap of (-hash, number, beginning)

    def add(self, batch: Batch) -> None:
        """Show the documents of a batch; very short ones are passed over."""
        for text, number, starts in zip(batch.texts, batch.numbers.tolist(), batch.starts, strict=True):
            if not starts or len(text) < _SHORTEST:
                continue
            key = -_scattered(number)
            if len(self._held) < self._size:
                heapq.heappush(self._held, (key, number, text[:_BEGINNING]))
            elif key > self._held[0][0]:
                heapq.heapreplace(self._held, (key, number, text[:_BEGINNING]))

    def texts(self) -> list[str]:
        """The beginnings, in the order of the stream."""
        return [text for _, _, text in sorted(self._held, key=lambda held: held[1])]


def _scattered(number: int) -> int:
    """A number as 64 bits that look random (the finaliser of SplitMix64, Steele et al. 2014)."""
    mask = (1 << 64) - 1
    value = (number + 1) * 0x9E3779B97F4A7C15 & mask
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & mask
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB & mask
    return value ^ (value >> 31)
