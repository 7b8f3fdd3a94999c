"""What a comparison of decoding strategies found: a row for each strategy, one for human text, and what it comes to."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from penna.config.generation import GenerationConfig
from penna.evaluate.novelty import Novelty
from penna.evaluate.recommendation import Recommendation, settings_of
from penna.evaluate.rouge import Interval
from penna.evaluate.texts.mauve import Mauve
from penna.evaluate.texts.measured import Continuation, Statistics
from penna.evaluate.texts.trust import Doubt


@dataclass(frozen=True)
class StrategyFigures:
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
            "settings": settings_of(self.config),
            **self.statistics.as_json(),
            "distance": interval_json(self.distance),
            "mauve": None if self.mauve is None else asdict(self.mauve),
            "novelty": None if self.novelty is None else self.novelty.as_json(),
            "seconds": round(self.seconds, 2),
        }


@dataclass(frozen=True)
class DecodingFigures:
    """Strategies beside human text behind the same prefixes."""

    model: str
    judge: str | None
    human_source: str  # where prefixes and human texts come from
    prefixes: tuple[str, ...]
    prefix_length: int  # tokens
    length: int  # tokens written, at most
    seed: int
    human: Statistics
    human_texts: tuple[Continuation, ...]
    human_novelty: Novelty | None
    floor: Interval | None  # the distance of two halves of the human text
    strategies: tuple[StrategyFigures, ...]
    recommendation: Recommendation
    doubts: tuple[Doubt, ...]  # what there is too little text for
    trusted: tuple[str, ...]  # and what there is enough for
    notices: tuple[str, ...]  # what a person should know about how it was measured

    def strategy(self, name: str) -> StrategyFigures:
        """The strategy of a name."""
        return next(own for own in self.strategies if own.name == name)

    def as_json(self) -> dict[str, Any]:
        """A dictionary for JSON, without the texts."""
        return {
            "model": self.model,
            "judge": self.judge,
            "human_source": self.human_source,
            "prefixes": len(self.prefixes),
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
