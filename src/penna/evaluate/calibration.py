"""Whether a classifier's probabilities can be believed: how sure it was and whether it was right in, gaps by bin out.

The expected calibration error is that of Guo et al. 2017 ("On calibration of modern neural networks", equation 3): the
predictions are put by their confidence, the probability of the predicted class, into 15 bins of equal width, each
without its lower edge and with its upper one; per bin, the share of right predictions is held against the mean
confidence; the error is the mean distance between the two, each bin weighing as much as it has predictions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 15


@dataclass(frozen=True)
class Bin:
    """The predictions with a confidence above ``low`` and up to ``high``."""

    low: float
    high: float
    count: int
    confidence: float | None  # mean; None in an empty bin, as the accuracy
    accuracy: float | None


def reliability_bins(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> tuple[Bin, ...]:
    """The bins of N predictions; a confidence above 1 by rounding belongs to the last one."""
    edges = np.linspace(0.0, 1.0, BINS + 1)
    places = np.searchsorted(edges[1:-1], confidence, side="left")  # (N,) 0 … BINS - 1
    counts = np.bincount(places, minlength=BINS)
    confidences = np.bincount(places, weights=confidence, minlength=BINS)
    rights = np.bincount(places, weights=right, minlength=BINS)
    return tuple(
        Bin(
            low=float(edges[at]),
            high=float(edges[at + 1]),
            count=int(counts[at]),
            confidence=float(confidences[at] / counts[at]) if counts[at] else None,
            accuracy=float(rights[at] / counts[at]) if counts[at] else None,
        )
        for at in range(BINS)
    )


def expected_calibration_error(bins: tuple[Bin, ...]) -> float:
    """The mean distance between accuracy and confidence, from 0 to 1."""
    gaps = sum(
        abs(each.accuracy - each.confidence) * each.count
        for each in bins
        if each.accuracy is not None and each.confidence is not None
    )
    return gaps / max(sum(each.count for each in bins), 1)
