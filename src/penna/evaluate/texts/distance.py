"""The distance of generated texts from human ones, with its uncertainty.

The distance is the mean over `COMPARED` of |log(generated / human)|. It has no unit: 0 is equal, 0.1 about ten percent
off on average, 0.7 a factor of two. Shares of texts (repetition) use Laplace smoothing, (texts + 1) / (all + 2), so
that a share of 0 gives no infinite ratio. A statistic that one side lacks is left out.

The uncertainty comes from random halves of the prefixes, drawn without replacement (half-samples: McCarthy 1969; the
delete-half jackknife of Shao and Wu 1989). The spread between halves equals that of a bootstrap over prefixes, but no
text is in a half twice, which would distort every statistic about texts being different. Generated and human texts of a
half have the same prefixes. Two halves of the human text, compared with each other, give the floor: no strategy needs
to be nearer. They are half as long and have different prefixes, so the floor is slightly high.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penna.evaluate.rouge import Interval
from penna.evaluate.texts.statistics import MeasuredTexts, Statistics

COMPARED = ("perplexity", "self_bleu", "zipf", "repetition", "distinct_2", "length")
RESAMPLES = 200

Resampled = NDArray[np.float64]


@dataclass(frozen=True)
class Distances:
    """The distance of each set of texts to human text; low and high span 95 % of the halves."""

    floor: Interval | None  # between two halves of the human text; None if there are too few texts to halve
    to_human: dict[str, Interval]
    resampled: dict[str, Resampled]  # (RESAMPLES,) over the same halves for all sets; empty below 4 texts

    def ties(self, name: str, best: str) -> bool:
        """Whether the halves cannot separate a set from the best: in at least 2.5 % of them it is as near or nearer."""
        difference = self.resampled[name] - self.resampled[best]
        return name == best or not len(difference) or bool(np.percentile(difference, 2.5) <= 0)


def distance(generated: Statistics, human: Statistics) -> float:
    """The mean of |log ratio| over the compared statistics that both sides have; infinite if they share none."""
    logs = [
        abs(math.log(ours / theirs))
        for name in COMPARED
        if (ours := _positive(generated, name)) is not None and (theirs := _positive(human, name)) is not None
    ]
    return sum(logs) / len(logs) if logs else math.inf


def _positive(statistics: Statistics, name: str) -> float | None:
    """The value of a statistic of which a ratio can be taken; None if there is none."""
    if name == "repetition":
        return (statistics.repetition * statistics.texts + 1) / (statistics.texts + 2)
    value = getattr(statistics, name)
    return value if value is not None and 0 < value < math.inf else None


def distances(human: MeasuredTexts, generated: Mapping[str, MeasuredTexts], *, seed: int = 0) -> Distances:
    """Distances of sets of texts to human ones after the same prefixes, in the same order."""
    count = len(human)
    of_all = human.statistics()
    exact = {name: distance(texts.statistics(), of_all) for name, texts in generated.items()}
    if count < 4:
        no_spread = {name: Interval(value, math.nan, math.nan) for name, value in exact.items()}
        return Distances(None, no_spread, {name: np.empty(0) for name in generated})
    random = np.random.default_rng(seed)
    resampled = {name: np.empty(RESAMPLES) for name in generated}
    floors = np.empty(RESAMPLES)
    for number in range(RESAMPLES):
        shuffled = random.permutation(count)
        half, other = np.sort(shuffled[: count // 2]), np.sort(shuffled[count // 2 :])
        of_half = human.statistics(half)
        floors[number] = distance(human.statistics(other), of_half)
        for name, texts in generated.items():
            resampled[name][number] = distance(texts.statistics(half), of_half)
    low, high = np.percentile(floors, (2.5, 97.5))
    floor = Interval(float(floors.mean()), float(low), float(high))
    return Distances(floor, {name: _centered_interval(exact[name], resampled[name]) for name in generated}, resampled)


def _centered_interval(value: float, resampled: Resampled) -> Interval:
    """The spread of the halves' distances, centered on that of all texts; halves are slightly farther on average."""
    if not math.isfinite(value):
        return Interval(value, math.nan, math.nan)
    low, high = np.percentile(resampled, (2.5, 97.5)) - np.median(resampled) + value
    return Interval(value, max(float(low), 0.0), float(high))
