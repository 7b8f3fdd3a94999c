"""The decoding strategies to compare: a default grid, and strategies from named settings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from penna.config.generation import GenerationConfig, generation_config
from penna.errors import RecipeError


@dataclass(frozen=True)
class Strategy:
    """A decoding strategy and its name."""

    name: str
    config: GenerationConfig

    @property
    def file_name(self) -> str:
        """The name with only characters that are safe in a file name."""
        return re.sub(r"[^\w.=-]+", "-", self.name).strip("-.") or "strategy"

    @property
    def cost(self) -> int:
        """The approximate number of tokens that are read per generated token."""
        if self.config.penalty_alpha is not None:
            return self.config.top_k or 1
        return self.config.num_beams


def default_grid(vocab_size: int) -> list[Strategy]:
    """The strategies of Holtzman et al. 2020 (table 1) at several strengths, and newer ones.

    Min-p: Nguyen et al. 2024; locally typical: Meister et al. 2022; contrastive search: Su et al. 2022; repetition
    penalty: Keskar et al. 2019. A top-k that would include the whole vocabulary is left out.
    """
    return [
        Strategy("greedy", GenerationConfig(temperature=0)),
        *(Strategy(f"beam {beams}", GenerationConfig(num_beams=beams)) for beams in (4, 16)),
        Strategy("pure sampling", GenerationConfig()),
        *(Strategy(f"temperature {value}", GenerationConfig(temperature=value)) for value in (0.5, 0.7, 0.9)),
        *(Strategy(f"top-k {k}", GenerationConfig(top_k=k)) for k in (40, 640) if k < vocab_size),
        *(Strategy(f"top-p {p}", GenerationConfig(top_p=p)) for p in (0.8, 0.9, 0.95)),
        *(Strategy(f"min-p {p}", GenerationConfig(min_p=p)) for p in (0.05, 0.1)),
        Strategy("typical 0.95", GenerationConfig(typical_p=0.95)),
        Strategy("contrastive 0.6", GenerationConfig(penalty_alpha=0.6, top_k=4)),
        Strategy("greedy, penalty 1.2", GenerationConfig(temperature=0, repetition_penalty=1.2)),
    ]


def named_strategies(named: Sequence[tuple[str, Mapping[str, Any]]]) -> list[Strategy]:
    """Strategies from names and settings. Raises RecipeError for invalid settings and duplicate names."""
    strategies: list[Strategy] = []
    for name, values in named:
        if "max_new_tokens" in values:
            raise RecipeError(
                f"The strategy {name!r} sets max_new_tokens = {values['max_new_tokens']}.",
                "All strategies generate texts of the same length.",
                "Use --length instead.",
            )
        strategy = Strategy(name, generation_config(values))
        if strategy.file_name in (other.file_name for other in strategies):
            raise RecipeError(f"Two strategies are named {name!r}.", "Names must be unique.", "Rename one of them.")
        strategies.append(strategy)
    return strategies
