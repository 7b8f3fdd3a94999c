"""What a run came to: a run folder in, its figures by name out, and how each figure is called and written.

The figures are those of the last validation row, of the row the run calls its best (as its ``best`` checkpoint does:
of a classifier by ``task.best``, else by the loss), what training took, and every share or mean at the top level of
the JSON files in ``evaluations/`` that tell which checkpoint they measured.
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
class Field:
    """A figure, wherever it was measured."""

    title: str
    digits: int
    percent: bool = False
    more_is_better: bool | None = None
    per_token: bool = False  # means another thing with another tokenizer


_FIELDS = {  # in the order of columns
    "parameters": Field("parameters", 0),
    "steps": Field("steps", 0),
    "step": Field("step", 0),
    "tokens": Field("tokens", 0),
    "epochs": Field("epochs", 2),
    "seconds": Field("seconds", 1),
    "accuracy": Field("accuracy", 2, percent=True, more_is_better=True),
    "macro_f1": Field("macro F1", 4, more_is_better=True),
    "loss": Field("loss", 4, more_is_better=False, per_token=True),
    "label_loss": Field("label loss", 4, more_is_better=False),
    "lm_loss": Field("LM loss", 4, more_is_better=False, per_token=True),
    "perplexity": Field("perplexity", 2, more_is_better=False, per_token=True),
    "token_perplexity": Field("perplexity", 2, more_is_better=False, per_token=True),
    "word_perplexity": Field("word perplexity", 2, more_is_better=False),
    "character_perplexity": Field("character perplexity", 2, more_is_better=False),
    "bits_per_byte": Field("bits per byte", 4, more_is_better=False),
    "lm_accuracy": Field("LM accuracy", 2, percent=True, more_is_better=True, per_token=True),
    "majority": Field("largest class", 2, percent=True),
    "log_loss": Field("log loss", 4, more_is_better=False),
    "calibration_error": Field("calibration error", 4, more_is_better=False),
}
_MEASURED = (
    "accuracy", "macro_f1", "loss", "label_loss", "lm_loss", "bits_per_byte", "lm_accuracy",
)  # fmt: skip


@dataclass(frozen=True)
class Column:
    """A figure of runs, as one column of tables."""

    group: str  # what it is of: TRAINING, LAST, BEST, or the name of an evaluation
    name: str  # as metrics.jsonl and evaluations have it
    is_classifier: bool  # whose accuracy is of texts, not of tokens

    @property
    def key(self) -> str:
        """Its name in CSV and JSON."""
        return {TRAINING: "", LAST: "last_", BEST: "best_"}.get(self.group, f"{self.group}:") + self.name

    @property
    def field(self) -> Field:
        """How it is called and written."""
        return _FIELDS.get(self.name) or Field(self.name.replace("_", " "), 4)

    @property
    def title(self) -> str:
        """Its name in tables, with its unit."""
        return self.field.title + (" (%)" if self.field.percent else "")

    @property
    def full_title(self) -> str:
        """Its name and what it is of."""
        if self.group in (LAST, BEST):
            place, which = self.group.split(", ")
            return f"{place} {self.title}, {which}"
        return self.title if self.group == TRAINING else f"{self.group}: {self.title}"

    @property
    def is_per_token(self) -> bool:
        """Whether it means another thing with another tokenizer."""
        return self.field.per_token or (self.name == "accuracy" and not self.is_classifier)

    def cell(self, value: float | None, *, signed: bool = False) -> str:
        """A value as a person reads it, in the column's unit."""
        if value is None or not math.isfinite(value):
            return "–"
        return format(100 * value if self.field.percent else value, f"{'+' if signed else ''},.{self.field.digits}f")


@dataclass(frozen=True)
class ComparedRun:
    """A run as it is on disk, read once."""

    folder: RunFolder
    recipe: Recipe
    info: Mapping[str, Any]  # run.json
    rows: tuple[Row, ...]
    evaluations: Mapping[str, Row]  # by their names
    is_being_written: bool

    @property
    def name(self) -> str:
        """The run's name."""
        return self.folder.name

    @property
    def seed(self) -> int:
        """The seed it was trained with."""
        return self.recipe.train.seed

    @property
    def kind(self) -> str:
        """Its task."""
        return self.recipe.task.kind

    @property
    def valid_rows(self) -> list[Row]:
        """Its evaluations on the validation part while it was trained."""
        return [row for row in self.rows if row["split"] == "valid"]

    @property
    def is_measured(self) -> bool:
        """Whether there is anything to compare."""
        return bool(self.valid_rows or self.evaluations)

    @cached_property
    def finals(self) -> dict[tuple[str, str], float]:
        """Finite figures by group and name."""
        found: dict[tuple[str, str], float] = {}
        parameters = _parameters(self.recipe)
        if parameters is not None:
            found[TRAINING, "parameters"] = parameters
        if self.rows:
            end = self.rows[-1]
            taken = {"steps": end["step"], "tokens": end["tokens"], "epochs": end["epoch"], "seconds": end["seconds"]}
            found |= {(TRAINING, name): value for name, value in taken.items()}
        if self.valid_rows:
            for group, row in ((LAST, self.valid_rows[-1]), (BEST, self.best_row)):
                assert row is not None
                measured = {"step": row["step"], **{name: row[name] for name in _MEASURED if name in row}}
                of_tokens = row.get("lm_loss") if "label_loss" in row else row["loss"]
                if of_tokens is not None:
                    measured["perplexity"] = perplexity(of_tokens)
                found |= {(group, name): value for name, value in measured.items()}
        for name, evaluation in self.evaluations.items():
            found |= {(name, field): value for field, value in evaluation.items() if isinstance(value, float)}
        return {name: value for name, value in found.items() if math.isfinite(value)}

    @property
    def best_row(self) -> Row | None:
        """The validation row that the run calls its best."""
        task = self.recipe.task
        if not self.valid_rows:
            return None
        if isinstance(task, ClassifyTask) and task.best in self.valid_rows[0]:
            return max(self.valid_rows, key=lambda row: row[task.best])
        return min(self.valid_rows, key=lambda row: row["loss"])


def read_run(folder: RunFolder) -> ComparedRun:
    """A run with its log, its evaluations, and whether a process is writing it. Raises RunError where it is damaged."""
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
                "Penna writes this file whole.",
                "Remove it and run `penna evaluate` again.",
            ) from error
        if isinstance(content, dict) and "checkpoint" in content:  # others tell of what was written, not of a text
            found[file.stem] = content
    return found


def _is_locked(folder: RunFolder) -> bool:
    """Whether a process holds the run for writing."""
    if not (folder.path / ".lock").exists():
        return False
    try:
        with folder.lock():
            return False
    except RunError:
        return True
    except OSError:  # a folder that may be read only: nobody here writes it
        return False


def _parameters(recipe: Recipe) -> int | None:
    """How many numbers a recipe's model learns; None where the recipe does not say how many tokens it knows."""
    if recipe.model.vocab_size is None:
        return None
    with torch.device("meta"):
        return count_parameters(build_model(recipe.model))


def columns_of(runs: Iterable[ComparedRun]) -> list[Column]:
    """The columns in which any run has a value: training, the last and best validation, then other texts."""
    listed = list(runs)
    found = dict.fromkeys(name for run in listed for name in run.finals)
    groups = [TRAINING, LAST, BEST, *sorted({group for group, _ in found} - {TRAINING, LAST, BEST})]
    order = list(_FIELDS)

    def place(name: str) -> tuple[int, str]:
        return (order.index(name), "") if name in _FIELDS else (len(order), name)

    classifies = listed[0].kind == "classify"
    return [
        Column(group, name, classifies)
        for group in groups
        for name in sorted((name for own, name in found if own == group), key=place)
    ]
