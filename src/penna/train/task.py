"""What a task gives the trainer, and what the trainer counts while it runs."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from penna.config.schema import Recipe
from penna.model.gpt import GPT
from penna.storage import to_json
from penna.tokenizer.tokenizer import Tokenizer
from penna.train.distributed import ProcessGroup
from penna.train.objective import Batch, Objective

SumsAndCounts = tuple[dict[str, float], dict[str, int]]

_HASH_DIGITS = 16
_FIRST_ROWS, _SPREAD_ROWS = 64, 192  # the rows of an epoch that are hashed: the first ones, and some spread over it


class TrainingBatches(Protocol):
    """The rows of each epoch. A batch is a function of (seed, epoch, rows) alone."""

    @property
    def rows(self) -> int:
        """Rows in an epoch."""
        ...

    @property
    def tokens(self) -> int:
        """Tokens in an epoch, counted as a budget in tokens counts them."""
        ...

    def batch(self, epoch: int, rows: range) -> Batch:
        """These rows of an epoch; the first dimension of every tensor is the row."""
        ...


@dataclass(frozen=True)
class TrainingTask:
    """What the trainer trains: a model, its objective, its batches, and how to evaluate and sample it."""

    model: GPT
    objective: Objective
    batches: TrainingBatches
    evaluate: Callable[[GPT, ProcessGroup], SumsAndCounts]  # this rank's share of the validation data
    sample: Callable[[GPT], list[tuple[str, str]]]  # prompts and the texts that the model generates for them
    best_metric: str = "loss"  # the metric of ``objective.metrics`` that decides which checkpoint is the best
    higher_is_better: bool = False
    fixed_shape: bool = False  # all batches but an epoch's last have one shape; a model is recompiled for others
    sample_separator: str = ""  # shown between a sample's prompt and its text


class PreparedData(Protocol):
    """The data of one recipe, ready for training."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that the data were prepared with."""
        ...

    @property
    def folder(self) -> Path:
        """The folder in the cache."""
        ...

    @property
    def content_hash(self) -> str:
        """A hash of all the data; a resumed run must find the same."""
        ...

    def complete_recipe(self, recipe: Recipe) -> Recipe:
        """The recipe with the fields that only the data can fill in, such as labels. ``vocab_size`` is set already."""
        ...

    def training_task(self, recipe: Recipe, model: GPT) -> TrainingTask:
        """The task of a completed recipe. Raises DataError if there is too little data."""
        ...

    def lines(self) -> list[str]:
        """A summary for the terminal."""
        ...

    def info(self) -> dict[str, Any]:
        """A summary for run.json, with ``content_hash`` and ``tokenizer_hash``."""
        ...


@dataclass
class TrainingProgress:
    """The counters that a checkpoint holds."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    best: float = math.inf  # the best value of ``TrainingTask.best_metric``; negated if higher is better
    best_step: int | None = None
    evaluations_since_best: int = 0

    def to_state(self) -> dict[str, Any]:
        """The counters for ``state.json``; without an evaluation yet, ``best`` is None."""
        return to_json(self)

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> TrainingProgress:
        """The inverse of ``to_state``."""
        best: Any = math.inf if state["best"] is None else state["best"]
        return cls(**{**state, "best": best})


@dataclass
class MetricsWindow:
    """Sums and counts since the last logged row. Sums stay on the device until they are read."""

    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    tokens: int = 0
    started_at: float = field(default_factory=time.perf_counter)

    def add(self, sums: dict[str, Tensor]) -> None:
        """Add the sums of one micro-batch."""
        for term, value in sums.items():
            total = self.sums.get(term)
            self.sums[term] = value.detach().double() if total is None else total + value.detach()


def weight_hashes(model: GPT) -> dict[str, tuple[list[int], str]]:
    """The shape of each parameter, and the start of the SHA-256 of its values as float32 bytes.

    ``penna experiment`` compares them to prove that two runs began with the same weights.
    """
    return {
        name: (list(parameter.shape), _short_hash(parameter.detach().cpu().float().contiguous().numpy().data))
        for name, parameter in model.named_parameters()
    }


def batch_order_hash(batches: TrainingBatches, rows_per_step: int) -> str:
    """A hash of the first epoch's rows in their order, to prove that two runs read the same batches.

    It covers the number of rows, the rows per step, and the contents of up to 256 rows by position. An order is a
    permutation of all rows drawn from the seed, so two that agree on these rows are the same.
    """
    digest = hashlib.sha256(f"{batches.rows} {batches.tokens} {rows_per_step}".encode())
    spread: list[int] = np.linspace(0, batches.rows - 1, _SPREAD_ROWS).astype(int).tolist()
    for position in sorted({*range(min(_FIRST_ROWS, batches.rows)), *spread}):
        row = batches.batch(0, range(position, position + 1))
        for name in sorted(row):
            digest.update(f"{name} {tuple(row[name].shape)}".encode())
            digest.update(row[name].contiguous().numpy().data)
    return digest.hexdigest()[:_HASH_DIGITS]


def _short_hash(content: memoryview) -> str:
    return hashlib.sha256(content).hexdigest()[:_HASH_DIGITS]
