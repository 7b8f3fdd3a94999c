"""What a task hands to the loop, and what the loop counts while it works on it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from penna.config.schema import Recipe
from penna.config.sections import TokenizerConfig
from penna.data.cache import Progress
from penna.model.gpt import GPT
from penna.tokenizer.tokenizer import Tokenizer
from penna.train.distributed import ProcessGroup
from penna.train.objective import Batch, Objective


class TrainingBatches(Protocol):
    """Rows of an epoch; any batch is a function of (seed, epoch, rows) alone."""

    @property
    def rows(self) -> int:
        """Rows in an epoch."""
        ...

    @property
    def tokens(self) -> int:
        """Tokens counted in an epoch (``tokens_of``)."""
        ...

    def batch(self, epoch: int, rows: range) -> Batch:
        """These rows of an epoch; every tensor has them first."""
        ...


SumsAndCounts = tuple[dict[str, float], dict[str, int]]


@dataclass(frozen=True)
class TrainingTask:
    """What a task hands to the loop."""

    model: GPT
    objective: Objective
    batches: TrainingBatches
    evaluate: Callable[[GPT, ProcessGroup], SumsAndCounts]  # this rank's share of the validation sums and counts
    sample: Callable[[GPT, int], list[tuple[str, str]]]  # (model, step) -> prompts and what the model writes
    best_metric: str = "loss"  # the figure of ``objective.report`` that the best checkpoint has
    higher_is_better: bool = False
    fixed_shape: bool = False  # all batches but an epoch's last: a model is compiled anew for others
    sample_separator: str = ""  # what stands between a sample's prompt and text where both are shown


@dataclass
class TrainingProgress:
    """The counters a checkpoint keeps."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    best: float = math.inf  # what ``Job.best_by`` names, where it was best; negated where more is better
    best_step: int | None = None
    evaluations_since_best: int = 0

    def to_state(self) -> dict[str, Any]:
        """As JSON, which has no infinity."""
        state: dict[str, Any] = asdict(self)
        return {**state, "best": None if math.isinf(self.best) else self.best}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> TrainingProgress:
        """What ``as_state`` gave."""
        best: Any = math.inf if state["best"] is None else state["best"]
        return cls(**{**state, "best": best})


@dataclass
class Window:
    """Sums and counts since the last logged row; sums stay on the device until they are read."""

    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    tokens: int = 0
    begun: float = field(default_factory=time.perf_counter)

    def add(self, sums: dict[str, Tensor]) -> None:
        """Add one micro-batch's sums."""
        for term, value in sums.items():
            held = self.sums.get(term)
            self.sums[term] = value.detach().double() if held is None else held + value.detach()


# MERGED train.ready: What every task gives once its data is prepared: what a recipe lacked, the loop's job, and
# what to say and note.


class PreparedData(Protocol):
    """The data of one recipe, prepared."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer the data was prepared with."""
        ...

    @property
    def folder(self) -> Path:
        """Where in the cache it is kept."""
        ...

    @property
    def content_hash(self) -> str:
        """A hash of all that is learned from; a resumed run must find the same."""
        ...

    def complete_recipe(self, recipe: Recipe) -> Recipe:
        """The recipe with what only the data knows, such as its labels; the vocabulary's size is filled in already."""
        ...

    def training_task(self, recipe: Recipe, model: GPT) -> TrainingTask:
        """The loop's job for a completed recipe. Raises DataError where there is too little to learn from."""
        ...

    def lines(self) -> list[str]:
        """What was prepared, for the terminal."""
        ...

    def info(self) -> dict[str, Any]:
        """What was prepared, for run.json; ``content_hash`` and ``tokenizer_hash`` among it."""
        ...


Prepare = Callable[[Recipe, "TokenizerConfig | Tokenizer", Progress], PreparedData]
"""Prepares a recipe's data, with a tokenizer at hand or one to be learned."""
