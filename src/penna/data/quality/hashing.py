"""64-bit hashes of documents, words and n-grams, to compare them without keeping the text.

Two different texts share a hash with probability 2**-64: with a hundred million documents, about one data set in 3,700
has a collision. Words and n-grams are hashed in arrays, as a polynomial in an odd base modulo 2**64 over mixed code
points.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from penna.data.quality.codepoints import TextBatch

Hashes = NDArray[np.uint64]
_WORD_BASE, _NGRAM_BASE = np.uint64(0x5851F42D4C957F2D), np.uint64(0xD1342543DE82EF95)


class DocumentHasher:
    """Hashes of documents that come whole or in chunks; texts must be valid Unicode."""

    def __init__(self) -> None:
        self._digest = hashlib.blake2b(digest_size=8)

    def add(self, text: str, starts: bool = True) -> int:
        """The hash of the document so far; ``starts`` if the text begins one."""
        if starts:
            self._digest = hashlib.blake2b(digest_size=8)
        self._digest.update(text.encode("utf-8"))
        return int.from_bytes(self._digest.digest(), "little")


def with_label(text: int, label: str) -> int:
    """The hash of a text, given by its own hash, and a label."""
    digest = hashlib.blake2b(label.encode("utf-8"), digest_size=8, salt=text.to_bytes(8, "little"))
    return int.from_bytes(digest.digest(), "little")


class NgramHasher:
    """Hashes of all n-grams of words or characters within documents, batch by batch.

    Words are separated by white space; characters are taken without white space. N-grams continue across the chunks of
    a long document.
    """

    def __init__(self, n: int, unit: Literal["words", "characters"]) -> None:
        self._n, self._unit = n, unit
        self._held: Hashes = np.zeros(0, dtype=np.uint64)  # the last n - 1 units, and their documents
        self._owners: NDArray[np.int64] = np.zeros(0, dtype=np.int64)

    def hashes(self, batch: TextBatch) -> tuple[Hashes, NDArray[np.int64]]:
        """The hash of each n-gram that ends in this batch, and the number of its document."""
        positions = batch.word_starts if self._unit == "words" else np.flatnonzero(~batch.is_space)
        found = _word_hashes(batch) if self._unit == "words" else _mixed_codes(batch.codes[positions])
        units = np.concatenate((self._held, found))
        owners = np.concatenate((self._owners, batch.numbers[batch.text_of(positions)]))
        self._held, self._owners = units[-self._n + 1 :], owners[-self._n + 1 :]
        count = max(len(units) - self._n + 1, 0)
        hashes: Hashes = np.zeros(count, dtype=np.uint64)
        for place in range(self._n):
            hashes *= _NGRAM_BASE
            hashes += units[place : place + count]
        within = owners[:count] == owners[self._n - 1 :] if count else np.zeros(0, dtype=np.bool_)
        return _mixed(hashes[within]), owners[:count][within]


def _word_hashes(batch: TextBatch) -> Hashes:
    """The hash of each word: the sum of mixed code points times the base to the power of their position."""
    starts = batch.word_starts
    if not len(starts):
        return np.zeros(0, dtype=np.uint64)
    letters = np.flatnonzero(~batch.is_space)
    word_of = np.searchsorted(starts, letters, side="right") - 1
    places = letters - starts[word_of]
    powers = np.cumprod(np.full(int(places.max()) + 1, _WORD_BASE, dtype=np.uint64))
    values = _mixed_codes(batch.codes[letters]) * powers[places]
    firsts = np.searchsorted(letters, starts)
    return _mixed(np.add.reduceat(values, firsts))


def _mixed_codes(codes: NDArray[np.uint32]) -> Hashes:
    return _mixed(codes.astype(np.uint64) + np.uint64(1))


def _mixed(values: Hashes) -> Hashes:
    """64 bits that look random for each number (the finalizer of SplitMix64, Steele et al. 2014)."""
    values = values * np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
