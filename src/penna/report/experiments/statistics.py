"""What seeds say: one number per seed in; a mean with its spread, or a difference with its interval, out.

The spread over seeds is the sample standard deviation (n - 1 below the line). A difference is taken seed by seed, so
that what two runs of one seed share (first weights, order of batches) falls out of it, and its interval is Student's
for the mean of those differences (Student 1908): with n seeds, mean ± t(0.975, n - 1) · sd / √n. One seed alone has
neither.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Spread:
    """Values of several seeds together."""

    n: int
    mean: float
    sd: float | None  # of one value there is none
    low: float  # the least value
    high: float  # the greatest

    def as_json(self) -> dict[str, Any]:
        """A dictionary for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class PairedDifference:
    """How far an arm lies from the baseline, over the seeds that both have."""

    seeds: tuple[int, ...]
    mean: float  # arm less baseline
    sd: float | None
    low: float | None  # of the 95 % interval; None with a single seed
    high: float | None

    @property
    def n(self) -> int:
        """How many seeds both have."""
        return len(self.seeds)

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

    def as_json(self) -> dict[str, Any]:
        """A dictionary for JSON."""
        return {**asdict(self), "seeds": list(self.seeds), "n": self.n, "is_clear": self.is_clear}


def spread(values: Sequence[float]) -> Spread | None:
    """Mean, standard deviation and range; None of no value."""
    if not values:
        return None
    mean = math.fsum(values) / len(values)
    return Spread(len(values), mean, _deviation(values, mean), min(values), max(values))


def paired_difference(baseline: Mapping[int, float], arm: Mapping[int, float]) -> PairedDifference | None:
    """The mean of arm less baseline over the seeds both have, with its 95 % interval; None where they share none."""
    seeds = tuple(sorted(baseline.keys() & arm.keys()))
    if not seeds:
        return None
    differences = [arm[seed] - baseline[seed] for seed in seeds]
    mean = math.fsum(differences) / len(differences)
    sd = _deviation(differences, mean)
    if sd is None:
        return PairedDifference(seeds, mean, None, None, None)
    reach = t_quantile(0.5 + CONFIDENCE / 2, len(seeds) - 1) * sd / math.sqrt(len(seeds))
    return PairedDifference(seeds, mean, sd, mean - reach, mean + reach)


def _deviation(values: Sequence[float], mean: float) -> float | None:
    if len(values) < 2:
        return None
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def t_quantile(share: float, degrees: int) -> float:
    """Below which value a share of Student's t distribution lies, with so many whole degrees of freedom.

    ``share`` is over one half and below 1. Found by bisection of the exact distribution; 12 digits agree.
    """
    assert 0.5 < share < 1 and degrees >= 1
    low, high = 0.0, 1.0
    while _t_share(high, degrees) < share:
        low, high = high, 2 * high
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_share(middle, degrees) < share else (low, middle)
    return (low + high) / 2


def _t_share(value: float, degrees: int) -> float:
    """The share of Student's t below a positive value: Abramowitz and Stegun 1964, equations 26.7.3 and 26.7.4."""
    angle = math.atan(value / math.sqrt(degrees))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees % 2
    term = cosine if odd else 1.0
    total = 0.0
    for number in range(1 + odd, degrees, 2):  # each term is the one before it times cos² · number / (number + 1)
        total += term
        term *= cosine * cosine * number / (number + 1)
    within = 2 / math.pi * (angle + sine * total) if odd else sine * total
    return (1 + within) / 2
