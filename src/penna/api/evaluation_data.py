"""The data on which a model of examples is evaluated.

If the overrides name a path, it is read with the columns of the run's own files, provided that the run learned the same
task. Otherwise the run's own validation part is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penna.config.recipe import build_recipe, merge
from penna.config.sections import DataConfig
from penna.config.tasks import TaskConfig
from penna.data.examples.example import ExampleFormat, T
from penna.data.examples.prepare import EvaluationItems, read_evaluation_items, read_validation_items
from penna.loading import LoadedModel

# Settings of the run's own files that do not apply to another text.
_OWN_FILES = {"path": [], "valid_path": [], "limit": None, "valid_limit": None, "source": "files", "format": "auto"}


@dataclass(frozen=True)
class EvaluationData:
    """The data and the task of an evaluation."""

    data: DataConfig
    task: TaskConfig
    is_own: bool  # the run's own validation part, rather than all of data.path
    name: str  # of the result, among the run's evaluations
    content_hash: str | None  # of the data the run learned from, if they must be the same


def evaluation_data(loaded: LoadedModel, task: TaskConfig, overrides: Mapping[str, Any]) -> EvaluationData:
    """The data and the task for overrides of the sections data and task; ``task`` is the model's own.

    Raises RunError without a path if the model is not a run's.
    """
    is_own = "data.path" not in overrides
    run = loaded.require_run() if is_own else loaded.run
    data: dict[str, Any] = {}
    if run is not None and (is_own or loaded.task.kind == task.kind):
        data = {**run.recipe().data.model_dump(), "windows": "packed", **({} if is_own else _OWN_FILES)}
    recipe = build_recipe(merge({"data": data, "task": task.model_dump()}, overrides), origin="options")
    if not is_own:
        return EvaluationData(recipe.data, recipe.task, False, Path(recipe.data.path[0]).stem, None)
    is_unchanged = run is not None and not any(name.startswith("data.") for name in overrides)
    content_hash = run.info().get("data", {}).get("content_hash") if run is not None and is_unchanged else None
    return EvaluationData(recipe.data, recipe.task, True, "validation-part", content_hash)


def read_evaluation_data(evaluation: EvaluationData, example_format: ExampleFormat[T]) -> EvaluationItems[T]:
    """The items to evaluate. Raises DataError if there are none, or if the run learned from other data."""
    if evaluation.is_own:
        return read_validation_items(evaluation.data, example_format, evaluation.content_hash)
    return read_evaluation_items(evaluation.data, example_format)
