"""What a model of examples is measured on: a loaded model and overrides in, the data and the task that are meant out.

A path among the overrides is read as the run's own files were where the run learned the same task. Without one it is
the run's own validation part.
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

# What belongs to the run's own files, and not to a text that is named beside them.
_ITS_OWN = {"path": [], "valid_path": [], "limit": None, "valid_limit": None, "source": "files", "format": "auto"}


@dataclass(frozen=True)
class EvaluationData:
    """What is measured."""

    data: DataConfig
    task: TaskConfig
    is_own: bool  # the run's own validation part, rather than all of data.path
    name: str  # of the result, among the run's evaluations
    content_hash: str | None  # of the data the run learned from, where they must be the same


def evaluation_data(loaded: LoadedModel, task: TaskConfig, overrides: Mapping[str, Any]) -> EvaluationData:
    """The data and the task that fields of the sections data and task mean; ``task`` is the model's own.

    Raises RunError where no path is given and the model is not a run's.
    """
    is_own = "data.path" not in overrides
    run = loaded.require_run() if is_own else loaded.run
    data: dict[str, Any] = {}
    if run is not None and (is_own or loaded.task.kind == task.kind):
        data = {**run.recipe().data.model_dump(), "windows": "packed", **({} if is_own else _ITS_OWN)}
    recipe = build_recipe(merge({"data": data, "task": task.model_dump()}, overrides), origin="options")
    if not is_own:
        return EvaluationData(recipe.data, recipe.task, False, Path(recipe.data.path[0]).stem, None)
    same = run is not None and not any(name.startswith("data.") for name in overrides)
    content_hash = run.info().get("data", {}).get("content_hash") if run is not None and same else None
    return EvaluationData(recipe.data, recipe.task, True, "validation-part", content_hash)


def read_evaluation_data(asked: EvaluationData, form: ExampleFormat[T]) -> EvaluationItems[T]:
    """The items to measure on. Raises DataError where there are none, or where they are not what was learned from."""
    if asked.is_own:
        return read_validation_items(asked.data, form, asked.content_hash)
    return read_evaluation_items(asked.data, form)
