"""Means, spreads and paired differences over seeds.

The spread is the sample standard deviation (n − 1 in the denominator). Differences are taken seed by seed, so that what
two runs of one seed share (first weights, batch order) cancels out. Their interval is Student's for the mean (Student
1908): with n seeds, mean ± t(0.975, n − 1) · sd / √n. A single seed has neither.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Spread:
    """A metric over several seeds."""

    n: int
    mean: float
    sd: float | None  # None for a single value
    low: float  # minimum
    high: float  # maximum


@dataclass(frozen=True)
class PairedDifference:
    """The difference between an arm and the baseline, over the seeds that both have."""

    json_properties: ClassVar = ("n", "is_clear")
    seeds: tuple[int, ...]
    mean: float  # arm minus baseline
    sd: float | None
    low: float | None  # of the 95 % interval; None for a single seed
    high: float | None

    @property
    def n(self) -> int:
        """The number of seeds that both have."""
        return len(self.seeds)

    @property
    def is_clear(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def spread(values: Sequence[float]) -> Spread | None:
    """Mean, standard deviation and range; None without values."""
    if not values:
        return None
    return Spread(len(values), math.fsum(values) / len(values), _deviation(values), min(values), max(values))


def paired_difference(baseline: Mapping[int, float], arm: Mapping[int, float]) -> PairedDifference | None:
    """The mean difference, arm minus baseline, over common seeds with its 95 % interval; None without any."""
    from scipy.stats import t  # slow to import

    seeds = tuple(sorted(baseline.keys() & arm.keys()))
    if not seeds:
        return None
    differences = [arm[seed] - baseline[seed] for seed in seeds]
    mean, sd = math.fsum(differences) / len(differences), _deviation(differences)
    if sd is None:
        return PairedDifference(seeds, mean, None, None, None)
    margin = float(t.ppf(0.5 + CONFIDENCE / 2, len(seeds) - 1)) * sd / math.sqrt(len(seeds))
    return PairedDifference(seeds, mean, sd, mean - margin, mean + margin)


def _deviation(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None
