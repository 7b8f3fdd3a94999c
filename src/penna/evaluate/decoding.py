"""What a comparison of decoding strategies found: a row for each strategy, one for human text, and what it comes to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from penna.config.generation import GenerationConfig
from penna.evaluate.novelty import Novelty
from penna.evaluate.rouge import Interval
from penna.evaluate.texts.distance import Distances
from penna.evaluate.texts.mauve import Mauve
from penna.evaluate.texts.statistics import Continuation, SampleSizeWarning, Statistics

# MERGED evaluate.recommendation: Which decoding strategy to take: measured strategies in, one of them, or none,
# with the reason out.
#
# Left out are strategies whose texts repeat degenerately (in a tenth of the texts more than human ones do) or
# recite the
# training text. Of the others the nearest to human text is best; strategies that the prefixes cannot tell from it
# are as
# good, and among them the simplest is taken: the one with the fewest settings, and of these the nearest. So a
# setting is
# recommended only where it is worth something.


DEGENERATE = 0.1  # share of repetitive texts above the human ones' from which a strategy is left out


@dataclass(frozen=True)
class Recommendation:
    """A strategy's name, or None where all are left out."""

    name: str | None
    reason: str  # for a person
    tied: tuple[str, ...]  # the prefixes cannot tell these from the nearest, which is the first
    excluded: dict[str, str]  # name -> why

    def as_json(self) -> dict[str, Any]:
        """A dictionary for JSON."""
        return {"name": self.name, "reason": self.reason, "tied": list(self.tied), "excluded": self.excluded}


def strategy_settings(config: GenerationConfig) -> dict[str, Any]:
    """What a strategy sets: the fields that differ from plain sampling, whatever the length."""
    return {name: value for name, value in config.model_dump(exclude_defaults=True).items() if name != "max_new_tokens"}


def recommend(
    configs: Mapping[str, GenerationConfig],
    statistics: Mapping[str, Statistics],
    novelty: Mapping[str, Novelty],
    human: Statistics,
    distances: Distances,
) -> Recommendation:
    """The strategy to take. Where ``novelty`` is empty nothing is known about reciting, and none is left out for it."""
    excluded = {
        name: why for name, measured in statistics.items() if (why := _fault(measured, novelty.get(name), human))
    }
    left = [name for name in configs if name not in excluded and math.isfinite(distances.to_human[name].mean)]
    if not left:
        return Recommendation(None, "None of the strategies can be recommended.", (), excluded)

    def nearness(name: str) -> float:
        return distances.to_human[name].mean

    left.sort(key=nearness)
    best = left[0]
    tied = tuple(name for name in left if distances.ties(name, best))
    chosen = min(tied, key=lambda name: (len(strategy_settings(configs[name])), nearness(name)))
    others = ", ".join(name for name in tied if name != chosen)
    if not others:
        reason = f"{chosen} is the nearest to human text."
    elif chosen == best:
        reason = f"{chosen} is the nearest to human text; these may be as near, and are no simpler: {others}."
    else:
        reason = f"{chosen} is the simplest of those that may be the nearest to human text. The others: {others}."
    return Recommendation(chosen, reason, tied, excluded)


def _fault(measured: Statistics, novelty: Novelty | None, human: Statistics) -> str | None:
    """Why a strategy is left out, if it is."""
    if measured.repetition >= human.repetition + DEGENERATE:
        return f"{measured.repetition:.0%} of its texts end in the same phrase again and again"
    if novelty is not None and novelty.memorization.memorized:
        return "it recites the training text"
    return None


@dataclass(frozen=True)
class StrategyMetrics:
    """One strategy, measured."""

    name: str
    config: GenerationConfig
    statistics: Statistics
    distance: Interval  # to human text; see `penna.evaluate.texts.distance`
    mauve: Mauve | None
    novelty: Novelty | None  # None where the training text is not at hand
    seconds: float  # spent writing all texts
    texts: tuple[Continuation, ...]

    def as_json(self) -> dict[str, Any]:
        """A dictionary for JSON, without the texts."""
        return {
            "name": self.name,
            "settings": strategy_settings(self.config),
            **self.statistics.as_json(),
            "distance": interval_json(self.distance),
            "mauve": None if self.mauve is None else asdict(self.mauve),
            "novelty": None if self.novelty is None else self.novelty.as_json(),
            "seconds": round(self.seconds, 2),
        }


@dataclass(frozen=True)
class DecodingMetrics:
    """Strategies beside human text behind the same prefixes."""

    model: str
    judge: str | None
    human_source: str  # where prefixes and human texts come from
    prefix_texts: tuple[str, ...]
    prefix_length: int  # tokens
    length: int  # tokens written, at most
    seed: int
    human: Statistics
    human_texts: tuple[Continuation, ...]
    human_novelty: Novelty | None
    floor: Interval | None  # the distance of two halves of the human text
    strategies: tuple[StrategyMetrics, ...]
    recommendation: Recommendation
    doubts: tuple[SampleSizeWarning, ...]  # what there is too little text for
    trusted: tuple[str, ...]  # and what there is enough for
    notices: tuple[str, ...]  # what a person should know about how it was measured

    def strategy(self, name: str) -> StrategyMetrics:
        """The strategy of a name."""
        return next(own for own in self.strategies if own.name == name)

    def as_json(self) -> dict[str, Any]:
        """A dictionary for JSON, without the texts."""
        return {
            "model": self.model,
            "judge": self.judge,
            "human_source": self.human_source,
            "prefixes": len(self.prefix_texts),
            "prefix_length": self.prefix_length,
            "length": self.length,
            "seed": self.seed,
            "human": {
                **self.human.as_json(),
                "novelty": None if self.human_novelty is None else self.human_novelty.as_json(),
            },
            "floor": None if self.floor is None else interval_json(self.floor),
            "strategies": [own.as_json() for own in self.strategies],
            "recommendation": self.recommendation.as_json(),
            "doubts": [asdict(doubt) for doubt in self.doubts],
            "trusted": list(self.trusted),
            "notices": list(self.notices),
        }


def interval_json(interval: Interval) -> dict[str, float | None]:
    """An interval for JSON, which has no number for what is not known."""
    return {name: value if math.isfinite(value) else None for name, value in asdict(interval).items()}
