"""What a task hands to the loop, and what the loop counts while it works on it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from torch import Tensor

from penna.model.gpt import GPT
from penna.train.objective import Batch, Objective
from penna.train.ranks import Ranks


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


Sums = tuple[dict[str, float], dict[str, int]]


@dataclass(frozen=True)
class Job:
    """What a task hands to the loop."""

    model: GPT
    objective: Objective
    batches: TrainingBatches
    evaluate: Callable[[GPT, Ranks], Sums]  # this rank's share of the validation sums and counts
    sample: Callable[[GPT, int], list[tuple[str, str]]]  # (model, step) -> prompts and what the model writes
    best_by: str = "loss"  # the figure of ``objective.report`` that the best checkpoint has
    more_is_better: bool = False
    one_shape: bool = False  # all batches but an epoch's last: a model is compiled anew for others
    between: str = ""  # what stands between a sample's prompt and text where both are shown


@dataclass
class Progress:
    """The counters a checkpoint keeps."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    best: float = math.inf  # what ``Job.best_by`` names, where it was best; negated where more is better
    best_step: int | None = None
    evaluations_since_best: int = 0

    def as_state(self) -> dict[str, Any]:
        """As JSON, which has no infinity."""
        state: dict[str, Any] = asdict(self)
        return {**state, "best": None if math.isinf(self.best) else self.best}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Progress:
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
