"""Zipf's exponent: how fast words get rarer with their rank, from a text's words to one number."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

import numpy as np

RANKS = 5000  # the most frequent words that the line is fitted to


def zipf_coefficient(texts: Iterable[Sequence[Hashable]]) -> float | None:
    """The exponent s of frequency ~ rank^-s (Zipf 1949) over the words of all texts together.

    The slope of the least-squares line through (log rank, log count), with its sign turned, as Holtzman et al. 2020
    (section 5.2) measure it: over ranks 1 to 5,000, or as many as there are. Words of equal count have ranks of their
    own. Few words make it smaller, for many of them stand once: compare equal amounts. None where fewer than three
    different words, or all counts alike, leave no line to fit.
    """
    counts: dict[Hashable, int] = {}
    for text in texts:
        for word in text:
            counts[word] = counts.get(word, 0) + 1
    return zipf_of_counts(np.fromiter(counts.values(), dtype=np.int64, count=len(counts)))


def zipf_of_counts(counts: np.ndarray[tuple[int], np.dtype[np.int64]]) -> float | None:
    """The same from how often each word stands: (words,), in any order; zeros are left out."""
    ordered = np.sort(counts[counts > 0])[::-1][:RANKS]
    if len(ordered) < 3 or ordered[0] == ordered[-1]:
        return None
    rank, frequency = np.log(np.arange(1, len(ordered) + 1)), np.log(ordered)
    rank -= rank.mean()
    return float(-(rank @ (frequency - frequency.mean())) / (rank @ rank))
