"""The result of comparing decoding strategies: metrics per strategy and of human text, and a recommendation.

A strategy is excluded if its texts repeat degenerately (in a tenth of the texts more than human ones do) or if they
reproduce the training text. Of the others, the nearest to human text is best. Among the strategies that the prefixes
cannot distinguish from the best, the one with the fewest settings is recommended, so that a setting is recommended only
if it is worth something.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from penna.config.generation import GenerationConfig
from penna.evaluate.novelty import Novelty
from penna.evaluate.rouge import Interval
from penna.evaluate.texts.distance import Distances
from penna.evaluate.texts.mauve import Mauve
from penna.evaluate.texts.statistics import Continuation, SampleSizeWarning, Statistics

DEGENERATE = 0.1  # share of repetitive texts, above that of human text, from which a strategy is excluded


@dataclass(frozen=True)
class Recommendation:
    """A strategy's name, or None if all are excluded."""

    name: str | None
    reason: str  # for a person
    tied: tuple[str, ...]  # the nearest strategy, then those that the prefixes cannot distinguish from it
    excluded: dict[str, str]  # name -> reason


@dataclass(frozen=True)
class StrategyMetrics:
    """Metrics of one strategy."""

    name: str
    config: GenerationConfig = field(metadata={"json": False})
    statistics: Statistics = field(metadata={"json": "inline"})
    distance: Interval  # to human text; see `penna.evaluate.texts.distance`
    mauve: Mauve | None
    novelty: Novelty | None  # None if the training text is not available
    seconds: float  # spent generating all texts
    texts: tuple[Continuation, ...] = field(metadata={"json": False})
    json_properties = ("settings",)

    @property
    def settings(self) -> dict[str, Any]:
        """The strategy's own settings."""
        return strategy_settings(self.config)


@dataclass(frozen=True)
class HumanMetrics:
    """Metrics of human text after the same prefixes."""

    statistics: Statistics = field(metadata={"json": "inline"})
    texts: tuple[Continuation, ...] = field(metadata={"json": False})
    novelty: Novelty | None


@dataclass(frozen=True)
class DecodingMetrics:
    """Strategies compared with human text after the same prefixes."""

    model: str
    judge: str | None
    human_source: str  # where prefixes and human texts come from
    prefix_texts: tuple[str, ...] = field(metadata={"json": False})
    prefix_length: int  # tokens
    length: int  # maximum number of generated tokens
    seed: int
    human: HumanMetrics
    floor: Interval | None  # the distance between two halves of the human text
    strategies: tuple[StrategyMetrics, ...]
    recommendation: Recommendation
    doubts: tuple[SampleSizeWarning, ...]  # statistics that need more text
    trusted: tuple[str, ...]  # statistics with enough text
    notices: tuple[str, ...]  # about how they were measured, for a person
    json_properties = ("prefixes",)

    @property
    def prefixes(self) -> int:
        """The number of prefixes."""
        return len(self.prefix_texts)

    def strategy(self, name: str) -> StrategyMetrics:
        """The metrics of the strategy with this name."""
        return next(strategy for strategy in self.strategies if strategy.name == name)


def strategy_settings(config: GenerationConfig) -> dict[str, Any]:
    """The settings in which a strategy differs from plain sampling, without the length."""
    return {name: value for name, value in config.model_dump(exclude_defaults=True).items() if name != "max_new_tokens"}


def recommend(
    configs: Mapping[str, GenerationConfig],
    statistics: Mapping[str, Statistics],
    novelty: Mapping[str, Novelty],
    human: Statistics,
    distances: Distances,
) -> Recommendation:
    """The recommended strategy. If ``novelty`` is empty, no strategy is excluded for memorization."""
    excluded = {
        name: reason
        for name, measured in statistics.items()
        if (reason := _exclusion(measured, novelty.get(name), human))
    }
    candidates = [name for name in configs if name not in excluded and math.isfinite(distances.to_human[name].mean)]
    if not candidates:
        return Recommendation(None, "None of the strategies can be recommended.", (), excluded)

    def nearness(name: str) -> float:
        return distances.to_human[name].mean

    candidates.sort(key=nearness)
    best = candidates[0]
    tied = tuple(name for name in candidates if distances.ties(name, best))
    chosen = min(tied, key=lambda name: (len(strategy_settings(configs[name])), nearness(name)))
    others = ", ".join(name for name in tied if name != chosen)
    if not others:
        reason = f"{chosen} is nearest to human text."
    elif chosen == best:
        reason = f"{chosen} is nearest to human text. These may be as near but are not simpler: {others}."
    else:
        reason = f"{chosen} is the simplest strategy among those that may be nearest to human text. Others: {others}."
    return Recommendation(chosen, reason, tied, excluded)


def _exclusion(measured: Statistics, novelty: Novelty | None, human: Statistics) -> str | None:
    """Why a strategy is excluded; None if it is not."""
    if measured.repetition >= human.repetition + DEGENERATE:
        return f"{measured.repetition:.0%} of its texts end in the same phrase again and again"
    if novelty is not None and novelty.memorization.memorized:
        return "its texts reproduce the training text"
    return None
