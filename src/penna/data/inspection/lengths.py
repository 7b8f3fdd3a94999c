"""Lengths of many things: kept as whole numbers, told as quantiles, a histogram and shares above the usual blocks.

A length costs eight bytes, so a hundred million documents are 0.8 GB; everything told is exact.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from penna.data.inspection.result import BLOCK_SIZES, Histogram, Lengths

_MOST_BINS = 18


class LengthCounter:
    """Collects the lengths of things that come whole or in pieces."""

    def __init__(self, of: str, unit: str) -> None:
        self._of, self._unit = of, unit
        self._lengths = array("q")

    def __len__(self) -> int:
        return len(self._lengths)

    def add(self, lengths: Sequence[int] | NDArray[np.int64]) -> None:
        """Further lengths."""
        self._lengths.frombytes(np.asarray(lengths, dtype=np.int64).tobytes())

    def add_pieces(self, lengths: NDArray[np.int64], starts: Sequence[bool]) -> None:
        """Lengths of pieces; those that do not start a thing make the last one longer."""
        begins = np.array(starts, dtype=np.bool_)
        thing = np.cumsum(begins)
        sums = np.bincount(thing, weights=lengths, minlength=int(thing[-1]) + 1).astype(np.int64)
        if not begins[0]:
            self._lengths[-1] += int(sums[0])
        self.add(sums[1:])

    def values(self) -> NDArray[np.int64]:
        """All lengths so far."""
        return np.frombuffer(self._lengths, dtype=np.int64) if self._lengths else np.zeros(0, dtype=np.int64)

    def told(self) -> Lengths:
        """The figures of all lengths so far."""
        return describe_lengths(self.values(), self._of, self._unit)


def describe_lengths(lengths: NDArray[np.int64], of: str, unit: str) -> Lengths:
    """Figures of these lengths; all zero where there are none.

    A quantile q is the smallest length such that a share q of all lengths are no longer.
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
    """Counts in bins whose edges grow by the square root of two, or by two or four where that would be too many.

    Edges are whole numbers, powers of two among them; a length of zero has a bin of its own.
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
