"""How far written texts are from human ones: two measured sets in, one number with its uncertainty out.

The distance is the mean over `COMPARED` of |log(written / human)|. It has no unit: 0 is the same, 0.1 about ten
percent off on average, 0.7 twice too much or too little. Shares of texts (repetition) are compared as Laplace has it,
(texts + 1) / (all + 2), so that none at all is no endless ratio. A statistic that one side has not is left out on both.

Its uncertainty comes from halves of the prefixes, drawn without putting back (half-samples: McCarthy 1969; the
delete-half jackknife of Shao and Wu 1989): the spread between halves is that of a bootstrap over prefixes, and no text
stands twice in one, which would falsify every statistic that is about texts being different. Written and human texts of
one half have the same prefixes. Two halves of the human text, compared with each other, give the floor that no writer
need go below; they are half as long and have other prefixes, so the floor is somewhat high.
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
    """Each writer's distance to human text; its mean is that of all texts, low and high hold 95 % of the halves'."""

    floor: Interval | None  # between two halves of the human text; None where there are too few texts to halve
    to_human: dict[str, Interval]
    resampled: dict[str, Resampled]  # (RESAMPLES,): of halves of the prefixes, the same for all; empty below 4 texts

    def ties(self, name: str, best: str) -> bool:
        """Whether the halves cannot tell a writer from the best: in 2.5 % of them or more it is as near, or nearer."""
        difference = self.resampled[name] - self.resampled[best]
        return name == best or not len(difference) or bool(np.percentile(difference, 2.5) <= 0)


def distance(written: Statistics, human: Statistics) -> float:
    """The mean of |log ratio| over the compared statistics that both sides have; infinite where they share none."""
    logs = [
        abs(math.log(ours / theirs))
        for name in COMPARED
        if (ours := _positive(written, name)) is not None and (theirs := _positive(human, name)) is not None
    ]
    return sum(logs) / len(logs) if logs else math.inf


def _positive(statistics: Statistics, name: str) -> float | None:
    """A statistic as its ratio is taken; None where it has none."""
    if name == "repetition":
        return (statistics.repetition * statistics.texts + 1) / (statistics.texts + 2)
    value = getattr(statistics, name)
    return value if value is not None and 0 < value < math.inf else None


def distances(human: MeasuredTexts, written: Mapping[str, MeasuredTexts], *, seed: int = 0) -> Distances:
    """Distances of sets of texts to human ones behind the same prefixes, row by row."""
    count = len(human)
    of_all = human.statistics()
    exact = {name: distance(texts.statistics(), of_all) for name, texts in written.items()}
    if count < 4:
        one_value = {name: Interval(value, math.nan, math.nan) for name, value in exact.items()}
        return Distances(None, one_value, {name: np.empty(0) for name in written})
    random = np.random.default_rng(seed)
    resampled = {name: np.empty(RESAMPLES) for name in written}
    floors = np.empty(RESAMPLES)
    for number in range(RESAMPLES):
        shuffled = random.permutation(count)
        half, other = np.sort(shuffled[: count // 2]), np.sort(shuffled[count // 2 :])
        of_half = human.statistics(half)
        floors[number] = distance(human.statistics(other), of_half)
        for name, texts in written.items():
            resampled[name][number] = distance(texts.statistics(half), of_half)
    low, high = np.percentile(floors, (2.5, 97.5))
    floor = Interval(float(floors.mean()), float(low), float(high))
    return Distances(floor, {name: _around(exact[name], resampled[name]) for name in written}, resampled)


def _around(value: float, resampled: Resampled) -> Interval:
    """The spread of the halves' distances, laid around that of all texts; halves are a little farther on average."""
    if not math.isfinite(value):
        return Interval(value, math.nan, math.nan)
    low, high = np.percentile(resampled, (2.5, 97.5)) - np.median(resampled) + value
    return Interval(value, max(float(low), 0.0), float(high))
