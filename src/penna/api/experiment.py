"""Experiments: plan the runs of an experiment file, check them, and open the folder that they are trained in.

An existing folder is resumed if it has the same plan; otherwise the differences are reported. ``api.experiment_runner``
trains the runs.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from penna.api.recipes import with_init_from
from penna.config.experiment import Experiment, build_experiment, find_experiment_file, read_experiment
from penna.config.experiment_plan import RunPlan, add_arm_to_errors, arm_recipes, plan_runs, resolved_table
from penna.config.recipe import read_toml
from penna.config.schema import Recipe
from penna.config.sections import DataConfig
from penna.data.sources.reader import find_sources
from penna.errors import DeviceError, RunError
from penna.runs.experiment import ExperimentFolder, PlannedRun, find_experiment, new_experiment
from penna.runs.folder import RUNS, check_name
from penna.storage import free_disk

_SHOWN = 6  # differences between plans that a message lists
_NO_RUN = ("description", "compare", "name")  # lines of an experiment file that do not affect its runs
_CHECKPOINT_BYTES = 12  # per parameter: its weight and two moments of four bytes
_MIN_VOCAB = 64  # the assumed vocabulary if only the text decides it


@dataclass(frozen=True)
class ExperimentPlan:
    """A checked experiment: its file, and its runs in the order in which they are trained."""

    name: str
    text: str
    experiment: Experiment
    runs: list[RunPlan]
    recipes: dict[str, Recipe]  # of each start and arm


def plan_experiment(target: str, *, name: str | None = None, runs_dir: Path = RUNS) -> ExperimentPlan:
    """Check an experiment file, or a shipped experiment, and plan its runs.

    Raises RecipeError, which names the invalid arm, and DataError if a text does not exist.
    """
    file = find_experiment_file(target)
    table = read_experiment(file)
    experiment = build_experiment(table, str(file))
    name = name or experiment.name or file.stem
    check_name(name)
    plans = [_with_init_path(plan, runs_dir) for plan in plan_runs(experiment, file.parent)]
    recipes = arm_recipes(plans, lambda table: with_init_from(table, runs_dir))
    for arm, recipe in recipes.items():
        with add_arm_to_errors(arm):
            _check_text_exists(recipe.data)
    return ExperimentPlan(name, file.read_text(encoding="utf-8"), experiment, plans, recipes)


def open_experiment(plan: ExperimentPlan, *, runs_dir: Path = RUNS, overwrite: bool = False) -> ExperimentFolder:
    """The folder of a plan: the existing one, or a new one.

    Raises RunError that lists the differences if the existing one has another plan, and DeviceError if a new one does
    not fit on the disk.
    """
    found = find_experiment(str(runs_dir / plan.name), runs_dir)
    if found is not None and not overwrite:
        _check_same_plan(found, plan)
        found.replace_text(plan.text)
        return found
    check_disk([plan.recipes[run.arm] for run in plan.runs], runs_dir)
    by_name = {run.name: run for run in plan.runs}
    return new_experiment(
        runs_dir,
        plan.name,
        plan.text,
        [_planned(run) for run in plan.runs],
        lambda folder, run: _recipe_table(folder, by_name[run.name]),
        overwrite=overwrite,
    )


def _planned(run: RunPlan) -> PlannedRun:
    needs = tuple(dict.fromkeys(run.references.values()))
    return PlannedRun(run.arm, run.seed, run.is_start, run.values, run.fields, needs=needs)


def _check_text_exists(data: DataConfig) -> None:
    if data.source == "files":
        find_sources(data)
    if data.valid_path:
        find_sources(data, "valid")


def _with_init_path(plan: RunPlan, runs_dir: Path) -> RunPlan:
    """The plan with the path of ``train.init_from`` instead of a run's name, which works from any folder."""
    train = plan.table.get("train", {})
    source = train.get("init_from") if isinstance(train, Mapping) else None
    if not isinstance(source, str) or "train.init_from" in plan.references or Path(source).exists():
        return plan
    if not (runs_dir / source / "recipe.toml").is_file():
        return plan
    return replace(plan, table={**plan.table, "train": {**train, "init_from": str(runs_dir / source)}})


def _check_same_plan(folder: ExperimentFolder, plan: ExperimentPlan) -> None:
    """Raise RunError if the experiment in ``folder`` has another plan."""
    existing, new = (
        {name: value for name, value in settings.items() if name not in _NO_RUN}
        for settings in (folder.settings(), tomllib.loads(plan.text))
    )
    differences = _differences(existing, new)
    if not differences:
        planned = {run.name: run for run in folder.runs()}
        for run in plan.runs:
            old_recipe = read_toml(folder.recipe_file(planned[run.name]))
            new_recipe = _recipe_table(folder, run)
            differences += [f"{run.arm}: {line}" for line in _differences(_flat(old_recipe), _flat(new_recipe))]
    if differences:
        shown = [*differences[:_SHOWN], *(["…"] if len(differences) > _SHOWN else [])]
        raise RunError(
            f"The experiment {folder.path} has another plan. These settings changed: {'; '.join(shown)}.",
            "A resumed experiment follows the plan that it began with.",
            f"Restore the file, resume the experiment without it (`penna experiment {folder.path}`), start again with "
            "--overwrite, or choose another --name.",
        )


def _recipe_table(folder: ExperimentFolder, plan: RunPlan) -> dict[str, Any]:
    return resolved_table(plan, lambda needed: str(folder.path / needed))


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The differences between two dictionaries, one line each."""
    return [
        f"{name} from {_shown(old, name)} to {_shown(new, name)}"
        for name in [*old, *(name for name in new if name not in old)]
        if old.get(name) != new.get(name)
    ]


def _shown(table: Mapping[str, Any], name: str) -> str:
    return repr(table[name]) if name in table else "nothing"


def _flat(table: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's sections as a dictionary of dotted fields."""
    return {
        f"{section}.{field}": value
        for section, fields in table.items()
        if isinstance(fields, Mapping)
        for field, value in fields.items()
    }


def check_disk(recipes: Sequence[Recipe], runs_dir: Path) -> None:
    """Raise DeviceError if the checkpoints of all runs do not fit on the disk."""
    needed = sum(checkpoint_bytes(recipe, min_parameters(recipe)) for recipe in recipes)
    free = free_disk(runs_dir)
    if free < needed:
        raise DeviceError(
            f"The disk of {runs_dir} has {free / 1e6:,.0f} MB free; the checkpoints of {len(recipes)} runs need "
            f"{needed / 1e6:,.0f} MB.",
            "The checkpoints that each run keeps must fit (train.keep_checkpoints, and its best).",
            'Free some space, choose another --runs-dir, or keep fewer: "train.keep_checkpoints" = 1 in [set].',
        )


def checkpoint_bytes(recipe: Recipe, parameters: int) -> int:
    """The bytes of the checkpoints that a run keeps: the newest ones, and the best."""
    return (recipe.train.keep_checkpoints + 1) * _CHECKPOINT_BYTES * parameters


def min_parameters(recipe: Recipe) -> int:
    """The parameters in the matrices of a recipe's model; without a known vocabulary, a lower bound."""
    model = recipe.model
    vocab_size = recipe.tokenizer.vocab_size if recipe.tokenizer.kind in ("bpe", "unigram") else _MIN_VOCAB
    attention = 2 * model.n_embd * model.head_width * (model.n_head + model.kv_heads)
    mlp = (3 if model.mlp == "swiglu" else 2) * model.n_embd * model.inner_width
    matrices = model.n_layer * (attention + mlp)
    if model.arch == "seq2seq":  # an encoder, and cross-attention in each decoder block
        matrices += model.encoder_layers * (attention + mlp) + model.n_layer * attention
    if model.ngram_rows is not None and model.ngram_width is not None:
        matrices += model.ngram_width * (model.ngram_rows + model.n_embd)
    return matrices + (model.vocab_size or vocab_size) * model.n_embd * (1 if model.tie else 2)
