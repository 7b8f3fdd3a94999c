"""Experiments, planned: a file in, checked recipes out, and the folder they are trained in.

A folder that was begun with the same plan is gone on with; what differs from it is named. How the runs are trained is
in ``api/experiment_runner.py``.
"""

from __future__ import annotations

import shutil
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

# MERGED api.experiment_disk: How much of a disk an experiment's checkpoints take: recipes in, bytes out, before any
# model is made.


_BYTES = 12  # of a checkpoint, for each parameter: its weight and two moments of four bytes
_LEAST_VOCAB = 64  # rows of a vocabulary that its text alone knows, where it is asked what is surely needed


def check_disk(recipes: Sequence[Recipe], runs_dir: Path) -> None:
    """Refuse to begin runs whose checkpoints do not fit, by the matrices of their models."""
    needed = sum(checkpoint_bytes(recipe, min_parameters(recipe)) for recipe in recipes)
    free = free_disk(runs_dir)
    if free < needed:
        raise DeviceError(
            f"The disk of {runs_dir} has {free / 1e6:,.0f} MB free; the checkpoints of {len(recipes)} runs need "
            f"{needed / 1e6:,.0f} MB.",
            "Room for the checkpoints that each run keeps (train.keep_checkpoints, and its best).",
            'Free some space, choose another --runs-dir, or keep fewer: "train.keep_checkpoints" = 1 in [set].',
        )


def free_disk(folder: Path) -> int:
    """Bytes that are free where a folder is, or will be."""
    folder = folder.resolve()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def checkpoint_bytes(recipe: Recipe, parameters: int) -> int:
    """Bytes of the checkpoints a run keeps: the newest ones, and the best."""
    return (recipe.train.keep_checkpoints + 1) * _BYTES * parameters


def min_parameters(recipe: Recipe) -> int:
    """How many parameters the matrices of a recipe's model have; its vocabulary may be known to its text alone."""
    model = recipe.model
    learned = recipe.tokenizer.vocab_size if recipe.tokenizer.kind in ("bpe", "unigram") else _LEAST_VOCAB
    attention = 2 * model.n_embd * model.head_width * (model.n_head + model.kv_heads)
    mlp = (3 if model.mlp == "swiglu" else 2) * model.n_embd * model.inner_width
    matrices = model.n_layer * (attention + mlp)
    if model.arch == "seq2seq":  # an encoder, and cross-attention in each block of the decoder
        matrices += model.encoder_layers * (attention + mlp) + model.n_layer * attention
    if model.ngram_rows is not None and model.ngram_width is not None:
        matrices += model.ngram_width * (model.ngram_rows + model.n_embd)
    return matrices + (model.vocab_size or learned) * model.n_embd * (1 if model.tie else 2)


_SHOWN = 6  # differences of a plan that are named
_NO_RUN = ("description", "compare", "name")  # lines of an experiment file that no run depends on


@dataclass(frozen=True)
class ExperimentPlan:
    """An experiment that was checked and not begun: its file, and its runs in the order they are trained in."""

    name: str
    text: str
    experiment: Experiment
    runs: list[RunPlan]
    recipes: dict[str, Recipe]  # of each start and arm


def plan_experiment(target: str, *, name: str | None = None, runs_dir: Path = RUNS) -> ExperimentPlan:
    """Check a file, or a shipped experiment, and work out its runs.

    Raises RecipeError, which names the arm at fault, and DataError for text that is not there.
    """
    file = find_experiment_file(target)
    table = read_experiment(file)
    experiment = build_experiment(table, str(file))
    name = name or experiment.name or file.stem
    check_name(name)
    plans = [_with_runs_found(plan, runs_dir) for plan in plan_runs(experiment, file.parent)]
    recipes = arm_recipes(plans, lambda table: with_init_from(table, runs_dir))
    for arm, recipe in recipes.items():
        with add_arm_to_errors(arm):
            _check_text_is_there(recipe.data)
    return ExperimentPlan(name, file.read_text(encoding="utf-8"), experiment, plans, recipes)


def open_experiment(plan: ExperimentPlan, *, runs_dir: Path = RUNS, overwrite: bool = False) -> ExperimentFolder:
    """The folder of a plan: a new one, or the one that was begun with it.

    Raises RunError where it was begun with another plan, naming what differs, and DeviceError where a new one does not
    fit on the disk.
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


def _check_text_is_there(data: DataConfig) -> None:
    if data.source == "files":
        find_sources(data)
    if data.valid_path:
        find_sources(data, "valid")


def _with_runs_found(plan: RunPlan, runs_dir: Path) -> RunPlan:
    """A plan whose start is named by path where it is a run by name, for it will be looked for from elsewhere."""
    train = plan.table.get("train", {})
    source = train.get("init_from") if isinstance(train, Mapping) else None
    if not isinstance(source, str) or "train.init_from" in plan.references or Path(source).exists():
        return plan
    if not (runs_dir / source / "recipe.toml").is_file():
        return plan
    return replace(plan, table={**plan.table, "train": {**train, "init_from": str(runs_dir / source)}})


def _check_same_plan(folder: ExperimentFolder, plan: ExperimentPlan) -> None:
    """Raise where an experiment was begun with other runs than a plan has."""
    begun, wanted = (
        {k: v for k, v in t.items() if k not in _NO_RUN} for t in (folder.settings(), tomllib.loads(plan.text))
    )
    differences = _differences(begun, wanted)
    if not differences:
        planned = {run.name: run for run in folder.runs()}
        for run in plan.runs:
            old = read_toml(folder.recipe_file(planned[run.name]))
            new = _recipe_table(folder, run)
            differences += [f"{run.arm}: {line}" for line in _differences(_flat(old), _flat(new))]
    if differences:
        shown = [*differences[:_SHOWN], *(["…"] if len(differences) > _SHOWN else [])]
        raise RunError(
            f"The experiment {folder.path} was begun with another plan; since then there changed: {'; '.join(shown)}.",
            "Going on with an experiment follows the plan it was begun with.",
            f"Put the file back; go on as it was begun (`penna experiment {folder.path}`); start anew with "
            "--overwrite, or beside it under another --name.",
        )


def _recipe_table(folder: ExperimentFolder, plan: RunPlan) -> dict[str, Any]:
    return resolved_table(plan, lambda needed: str(folder.path / needed))


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs between two dictionaries, a line each."""
    return [
        f"{name} from {_shown(old, name)} to {_shown(new, name)}"
        for name in [*old, *(name for name in new if name not in old)]
        if old.get(name) != new.get(name)
    ]


def _shown(table: Mapping[str, Any], name: str) -> str:
    return repr(table[name]) if name in table else "nothing"


def _flat(table: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's dictionary by dotted field, without what no run depends on."""
    return {
        f"{section}.{field}": value
        for section, fields in table.items()
        if isinstance(fields, Mapping)
        for field, value in fields.items()
    }
