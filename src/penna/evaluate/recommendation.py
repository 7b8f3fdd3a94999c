"""Which decoding strategy to take: measured strategies in, one of them, or none, with the reason out.

Left out are strategies whose texts repeat degenerately (in a tenth of the texts more than human ones do) or recite the
training text. Of the others the nearest to human text is best; strategies that the prefixes cannot tell from it are as
good, and among them the simplest is taken: the one with the fewest settings, and of these the nearest. So a setting is
recommended only where it is worth something.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from penna.config.generation import GenerationConfig
from penna.evaluate.novelty import Novelty
from penna.evaluate.texts.distance import Distances
from penna.evaluate.texts.measured import Statistics

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


def settings_of(config: GenerationConfig) -> dict[str, Any]:
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
    chosen = min(tied, key=lambda name: (len(settings_of(configs[name])), nearness(name)))
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
    if novelty is not None and novelty.recitation.recites:
        return "it recites the training text"
    return None
