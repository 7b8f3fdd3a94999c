"""The final metrics of a run, and how each metric is named and formatted.

They come from the last validation row, from the best one (by ``task.best`` for a classifier, else by the loss), from
the end of training, and from every float at the top level of the JSON files in ``evaluations/`` that name a checkpoint.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from penna.config.schema import Recipe
from penna.config.tasks import ClassifyTask
from penna.errors import RunError
from penna.evaluate.language_model import perplexity
from penna.model.gpt import count_parameters
from penna.model.seq2seq import build_model
from penna.runs.folder import RunFolder

Row = dict[str, Any]  # of a run's metrics.jsonl

TRAINING, LAST, BEST = "training", "validation, last", "validation, best"


@dataclass(frozen=True)
class MetricFormat:
    """How a metric is named and formatted."""

    title: str
    digits: int
    percent: bool = False
    more_is_better: bool | None = None
    per_token: bool = False  # not comparable between tokenizers


_METRICS = {  # in the order of columns
    "parameters": MetricFormat("parameters", 0),
    "steps": MetricFormat("steps", 0),
    "step": MetricFormat("step", 0),
    "tokens": MetricFormat("tokens", 0),
    "epochs": MetricFormat("epochs", 2),
    "seconds": MetricFormat("seconds", 1),
    "accuracy": MetricFormat("accuracy", 2, percent=True, more_is_better=True),
    "macro_f1": MetricFormat("macro F1", 4, more_is_better=True),
    "loss": MetricFormat("loss", 4, more_is_better=False, per_token=True),
    "label_loss": MetricFormat("label loss", 4, more_is_better=False),
    "lm_loss": MetricFormat("LM loss", 4, more_is_better=False, per_token=True),
    "perplexity": MetricFormat("perplexity", 2, more_is_better=False, per_token=True),
    "token_perplexity": MetricFormat("perplexity", 2, more_is_better=False, per_token=True),
    "word_perplexity": MetricFormat("word perplexity", 2, more_is_better=False),
    "character_perplexity": MetricFormat("character perplexity", 2, more_is_better=False),
    "bits_per_byte": MetricFormat("bits per byte", 4, more_is_better=False),
    "lm_accuracy": MetricFormat("LM accuracy", 2, percent=True, more_is_better=True, per_token=True),
    "majority": MetricFormat("largest class", 2, percent=True),
    "log_loss": MetricFormat("log loss", 4, more_is_better=False),
    "calibration_error": MetricFormat("calibration error", 4, more_is_better=False),
}
_VALIDATION_METRICS = (
    "accuracy", "macro_f1", "loss", "label_loss", "lm_loss", "bits_per_byte", "lm_accuracy",
)  # fmt: skip


@dataclass(frozen=True)
class Column:
    """A metric of runs, as a column of tables."""

    group: str  # TRAINING, LAST, BEST, or the name of an evaluation
    name: str  # as in metrics.jsonl and evaluations
    is_classifier: bool  # accuracy counts texts, not tokens

    @property
    def key(self) -> str:
        """Its name in CSV and JSON."""
        return {TRAINING: "", LAST: "last_", BEST: "best_"}.get(self.group, f"{self.group}:") + self.name

    @property
    def format(self) -> MetricFormat:
        """How it is named and formatted."""
        return _METRICS.get(self.name) or MetricFormat(self.name.replace("_", " "), 4)

    @property
    def title(self) -> str:
        """Its name in tables, with its unit."""
        return self.format.title + (" (%)" if self.format.percent else "")

    @property
    def full_title(self) -> str:
        """Its name and where it was measured."""
        if self.group in (LAST, BEST):
            place, which = self.group.split(", ")
            return f"{place} {self.title}, {which}"
        return self.title if self.group == TRAINING else f"{self.group}: {self.title}"

    @property
    def is_per_token(self) -> bool:
        """Whether it is not comparable between tokenizers."""
        return self.format.per_token or (self.name == "accuracy" and not self.is_classifier)

    def cell(self, value: float | None, *, signed: bool = False) -> str:
        """A formatted value in the column's unit."""
        if value is None or not math.isfinite(value):
            return "–"
        return format(100 * value if self.format.percent else value, f"{'+' if signed else ''},.{self.format.digits}f")


@dataclass(frozen=True)
class ComparedRun:
    """A run as read from disk."""

    folder: RunFolder
    recipe: Recipe
    info: Mapping[str, Any]  # run.json
    rows: tuple[Row, ...]
    evaluations: Mapping[str, Row]  # by name
    is_being_written: bool

    @property
    def name(self) -> str:
        """The run's name."""
        return self.folder.name

    @property
    def seed(self) -> int:
        """Its seed."""
        return self.recipe.train.seed

    @property
    def kind(self) -> str:
        """Its task."""
        return self.recipe.task.kind

    @property
    def valid_rows(self) -> list[Row]:
        """Its validation rows."""
        return [row for row in self.rows if row["split"] == "valid"]

    @property
    def has_metrics(self) -> bool:
        """Whether it has been evaluated."""
        return bool(self.valid_rows or self.evaluations)

    @cached_property
    def final_metrics(self) -> dict[tuple[str, str], float]:
        """Finite metrics by group and name."""
        found: dict[tuple[str, str], float] = {}
        parameters = _parameters(self.recipe)
        if parameters is not None:
            found[TRAINING, "parameters"] = parameters
        if self.rows:
            end = self.rows[-1]
            totals = {"steps": end["step"], "tokens": end["tokens"], "epochs": end["epoch"], "seconds": end["seconds"]}
            found |= {(TRAINING, name): value for name, value in totals.items()}
        if self.valid_rows:
            for group, row in ((LAST, self.valid_rows[-1]), (BEST, self.best_row)):
                assert row is not None
                measured = {"step": row["step"], **{name: row[name] for name in _VALIDATION_METRICS if name in row}}
                token_loss = row.get("lm_loss") if "label_loss" in row else row["loss"]
                if token_loss is not None:
                    measured["perplexity"] = perplexity(token_loss)
                found |= {(group, name): value for name, value in measured.items()}
        for name, evaluation in self.evaluations.items():
            found |= {(name, field): value for field, value in evaluation.items() if isinstance(value, float)}
        return {name: value for name, value in found.items() if math.isfinite(value)}

    @property
    def best_row(self) -> Row | None:
        """The validation row of the best checkpoint."""
        task = self.recipe.task
        if not self.valid_rows:
            return None
        if isinstance(task, ClassifyTask) and task.best in self.valid_rows[0]:
            return max(self.valid_rows, key=lambda row: row[task.best])
        return min(self.valid_rows, key=lambda row: row["loss"])


def read_run(folder: RunFolder) -> ComparedRun:
    """Read a run with its log and evaluations. Raises RunError if it is damaged."""
    return ComparedRun(
        folder, folder.recipe(), folder.info(), tuple(folder.metrics()), _evaluations(folder), _is_locked(folder)
    )


def _evaluations(folder: RunFolder) -> dict[str, Row]:
    found: dict[str, Row] = {}
    for file in sorted((folder.path / "evaluations").glob("*.json")):
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise RunError(
                f"{file} is not valid JSON: {error}.",
                "It should be a file written by `penna evaluate`.",
                "Remove it and evaluate again.",
            ) from error
        if isinstance(content, dict) and "checkpoint" in content:  # other files describe generated text
            found[file.stem] = content
    return found


def _is_locked(folder: RunFolder) -> bool:
    """Whether a process is writing the run."""
    if not (folder.path / ".lock").exists():
        return False
    try:
        with folder.lock():
            return False
    except RunError:
        return True
    except OSError:  # a read-only folder: no process here writes it
        return False


def _parameters(recipe: Recipe) -> int | None:
    """The number of parameters of a recipe's model; None if its vocabulary size is unknown."""
    if recipe.model.vocab_size is None:
        return None
    with torch.device("meta"):
        return count_parameters(build_model(recipe.model))


def metric_columns(runs: Iterable[ComparedRun]) -> list[Column]:
    """The columns in which any run has a value: training, last and best validation, then other evaluations."""
    listed = list(runs)
    found = dict.fromkeys(name for run in listed for name in run.final_metrics)
    groups = [TRAINING, LAST, BEST, *sorted({group for group, _ in found} - {TRAINING, LAST, BEST})]
    order = list(_METRICS)

    def position(name: str) -> tuple[int, str]:
        return (order.index(name), "") if name in _METRICS else (len(order), name)

    is_classifier = listed[0].kind == "classify"
    return [
        Column(group, name, is_classifier)
        for group in groups
        for name in sorted((name for own, name in found if own == group), key=position)
    ]
