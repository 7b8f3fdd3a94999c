"""The runs of an experiment: their names, their recipes, and the runs that they begin from.

Starts come first, then the arms seed by seed, so that an interrupted experiment has every arm with the first seed
before any arm with the second. Only recipes are read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from penna.config.experiment import ARM, Arm, Experiment, Start, axis_values
from penna.config.recipe import build_recipe, flatten, merge, parse_none, recipe_table
from penna.config.schema import Recipe
from penna.config.sections import PRESETS
from penna.errors import PennaError, RecipeError

REFERENCE_FIELDS = ("train.init_from", "tokenizer.path")  # the fields that may have the value arm:NAME
_NOT_IN_WEIGHTS = frozenset({"block_size", "residual_init"})  # a preset may change these for given weights
_MAX_VALUE = 40  # characters of one value in an arm's name
Table = dict[str, Any]


@dataclass(frozen=True)
class RunPlan:
    """One run of an experiment, before it is trained."""

    arm: str
    seed: int
    is_start: bool
    values: dict[str, Any]  # the values of the axes, or of the arm's own fields
    fields: dict[str, Any]  # the dotted recipe fields that these set
    table: Table  # the recipe as a dictionary; a field in ``references`` still has the value "arm:NAME"
    references: dict[str, str]  # dotted field -> the run whose path it gets

    @property
    def name(self) -> str:
        """The run's name."""
        return run_name(self.arm, self.seed)


@dataclass(frozen=True)
class _ArmPlan:
    name: str
    base: str
    seeds: Sequence[int]
    is_start: bool
    values: dict[str, Any]
    overrides: tuple[dict[str, Any], ...]  # of the base, in order; the last are the arm's own


def run_name(arm: str, seed: int) -> str:
    """The name of an arm's run."""
    return f"{arm}-s{seed}"


def plan_runs(experiment: Experiment, folder: Path) -> list[RunPlan]:
    """Every run of an experiment whose file is in ``folder``. Raises RecipeError that names the arm."""
    starts = [_start_plan(start, experiment) for start in experiment.starts]
    arms = _listed_arms(experiment) if experiment.arms else _grid_arms(experiment)
    _check_names([*starts, *arms], experiment)
    tables = {arm.name: _arm_table(arm, folder) for arm in (*starts, *arms)}
    runs = [(arm, seed) for arm in starts for seed in arm.seeds]
    runs += [(arm, seed) for seed in experiment.seeds for arm in arms]
    order = {arm.name: (position, arm) for position, arm in enumerate((*starts, *arms))}
    return [
        RunPlan(
            arm.name,
            seed,
            arm.is_start,
            arm.values,
            arm.overrides[-1],
            merge(tables[arm.name], {"train.seed": seed}),
            _references(arm, tables[arm.name], seed, order),
        )
        for arm, seed in runs
    ]


def arm_recipes(plans: Sequence[RunPlan], with_start: Callable[[Table], Table]) -> dict[str, Recipe]:
    """The validated recipe of each start and arm.

    ``with_start`` fills in the fields that are inherited from a start outside the experiment. Raises RecipeError for an
    invalid recipe, for two arms with equal recipes, and for arms that cannot be compared with the first one.
    """
    recipes: dict[str, Recipe] = {}
    arm_of_run = {plan.name: plan.arm for plan in plans}
    for plan in plans:
        if plan.arm in recipes:
            continue
        source = plan.references.get("train.init_from")
        with add_arm_to_errors(plan.arm):
            table = with_start(plan.table) if source is None else _inherit(plan.table, recipes[arm_of_run[source]])
            recipes[plan.arm] = build_recipe(table, origin=f"recipe of the arm {plan.arm!r}")
    arms = {plan.arm: plan for plan in plans if not plan.is_start}
    _check_arms_differ({name: recipes[name] for name in arms})
    _check_arms_comparable(list(arms.values()), recipes)
    return recipes


def resolved_table(plan: RunPlan, path_of: Callable[[str], str]) -> Table:
    """A run's recipe for TOML, with references replaced by paths: ``path_of`` turns a run's name into its path."""
    table = merge(plan.table, {dotted: path_of(run) for dotted, run in plan.references.items()})
    return {
        name: {key: "none" if inner is None else inner for key, inner in value.items()}
        if isinstance(value, Mapping)
        else value
        for name, value in table.items()
    }


def arm_names(axes: Sequence[tuple[str, Sequence[Any]]]) -> list[str]:
    """A short, unique folder name for every combination of the axes' values, the last axis changing fastest."""
    parts = [_make_unique([_value_name(axis, value) for value in values]) for axis, values in axes]
    return _make_unique(["-".join(combination) for combination in product(*parts)])


def _value_name(axis: str, value: Any) -> str:
    """A value in an arm's name: text as it is, a number after its field's name, a path's last part."""
    field = axis.rpartition(".")[2].replace("_", "-")
    if isinstance(value, bool):
        text = field if value else f"no-{field}"
    elif isinstance(value, str):
        text = _text_name(axis, field, value)
    elif isinstance(value, int | float):
        text = f"{field}-{value:g}" if isinstance(value, float) else f"{field}-{value}"
    elif isinstance(value, list):
        text = "-".join([field, *map(str, value)])
    else:
        text = field
    return re.sub(r"[^\w.]+", "-", text)[:_MAX_VALUE].strip("-._") or field


def _text_name(axis: str, field: str, value: str) -> str:
    if value.startswith(ARM):
        return f"from-{value.removeprefix(ARM)}"
    if "." in axis and value == "none":
        return "scratch" if field == "init-from" else f"no-{field}"
    return Path(value).name


def _make_unique(names: Sequence[str]) -> list[str]:
    """The names, with a number after each that occurred before."""
    unique: list[str] = []
    for name in names:
        free, number = name, 2
        while free in unique:
            free, number = f"{name}-{number}", number + 1
        unique.append(free)
    return unique


def _start_plan(start: Start, experiment: Experiment) -> _ArmPlan:
    seeds = experiment.seeds if start.seeds is None else start.seeds
    return _ArmPlan(start.name, start.base, seeds, True, dict(start.set), (start.set,))


def _listed_arms(experiment: Experiment) -> list[_ArmPlan]:
    def plan(arm: Arm) -> _ArmPlan:
        base = arm.base or experiment.base
        assert base is not None
        values = {**({} if arm.base is None else {"base": arm.base}), **arm.set}
        return _ArmPlan(arm.name, base, experiment.seeds, False, values, (experiment.set, arm.set))

    return [plan(arm) for arm in experiment.arms]


def _grid_arms(experiment: Experiment) -> list[_ArmPlan]:
    """An arm for every combination of the axes' values, the last axis changing fastest."""
    assert experiment.base is not None
    axes = [(axis, axis_values(axis, values)) for axis, values in experiment.axes.items()]
    names = arm_names([(axis, [value for value, _ in values]) for axis, values in axes])
    arms: list[_ArmPlan] = []
    for name, combination in zip(names, product(*(values for _, values in axes)), strict=True):
        values = {axis: value for (axis, _), (value, _) in zip(axes, combination, strict=True)}
        fields = {dotted: value for _, group in combination for dotted, value in group.items()}
        arms.append(_ArmPlan(name, experiment.base, experiment.seeds, False, values, (experiment.set, fields)))
    return arms


def _check_names(arms: Sequence[_ArmPlan], experiment: Experiment) -> None:
    names = [arm.name for arm in arms]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise RecipeError(
            f"A start and an arm are both named {twice[0]!r}.",
            "Each start and arm needs its own name, which is also the name of its folder.",
            "Rename the start.",
        )
    compared = [arm.name for arm in arms if not arm.is_start]
    baseline = experiment.compare.baseline
    if baseline is not None and baseline not in compared:
        raise RecipeError(
            f"compare.baseline = {baseline!r} is not an arm.", f"Arms: {', '.join(compared)}.", "Use one of them."
        )


def _arm_table(arm: _ArmPlan, folder: Path) -> Table:
    """The base recipe with the arm's overrides; a new kind drops the fields that only the old kind has."""
    base = arm.base
    if base.endswith(".toml"):
        base = str(folder / base)
    with add_arm_to_errors(arm.name):
        table = recipe_table(base)
        for fields in arm.overrides:
            table = merge(table, {dotted: parse_none(dotted, value) for dotted, value in fields.items()})
    return table


def _references(arm: _ArmPlan, table: Table, seed: int, order: Mapping[str, tuple[int, _ArmPlan]]) -> dict[str, str]:
    """The runs that an arm's recipe refers to, by field. Raises RecipeError for one that is not trained before it."""
    references: dict[str, str] = {}
    for section, fields in table.items():
        for field, value in fields.items() if isinstance(fields, Mapping) else ():
            dotted = f"{section}.{field}"
            if not isinstance(value, str) or not value.startswith(ARM):
                continue
            if dotted not in REFERENCE_FIELDS:
                raise RecipeError(
                    f"The arm {arm.name!r} has {dotted} = {value!r}.",
                    f"{ARM}NAME refers to the path of a run, and only in {' and '.join(REFERENCE_FIELDS)}.",
                    "Give that field another value.",
                )
            references[dotted] = _referenced_run(arm, value, seed, order)
    return references


def _referenced_run(arm: _ArmPlan, value: str, seed: int, order: Mapping[str, tuple[int, _ArmPlan]]) -> str:
    """The run that ``arm:NAME`` refers to: the one with the same seed, or the only one."""
    position, _ = order[arm.name]
    earlier = [name for name, (number, _) in order.items() if number < position]
    name = value.removeprefix(ARM)
    if name not in earlier:
        problem = "itself" if name == arm.name else "an arm that comes after it" if name in order else "not an arm"
        raise RecipeError(
            f"The arm {arm.name!r} begins from {value!r}, which is {problem}.",
            f"An arm can begin from a start or arm before it: {', '.join(earlier) or 'there is none'}.",
            "Correct the name, or move that arm up.",
        )
    seeds = order[name][1].seeds
    if seed not in seeds and len(seeds) > 1:
        raise RecipeError(
            f"The arm {arm.name!r} with seed {seed} begins from {value!r}, which has seeds {list(seeds)}.",
            "It needs a run with the same seed, or a single run for all seeds.",
            f"Give {name!r} the experiment's seeds (leave out its own), or a single seed.",
        )
    return run_name(name, seed if seed in seeds else seeds[0])


def _inherit(table: Table, start: Recipe) -> Table:
    """A recipe's dictionary with its start's tokenizer and the start's values for [model] fields that it leaves out."""
    source = table["train"]["init_from"]
    fields = start.model.model_dump(exclude={"vocab_size", "n_class", "preset"}, exclude_none=True)
    tokenizer, model = table.get("tokenizer", {}), table.get("model", {})
    if tokenizer.get("kind") != "file":
        tokenizer = {"kind": "file", "path": source}
    for name, value in PRESETS.get(str(model.get("preset")), {}).items():
        if name not in {*model, *_NOT_IN_WEIGHTS} and fields[name] != value:
            raise RecipeError(
                f"model.preset = {model['preset']} means {name} = {value}, but the weights of {source!r} have "
                f"{fields[name]}.",
                "The model must have the shape of the weights.",
                f"Use the same base or preset in both, or set model.{name} in both.",
            )
    return {**table, "tokenizer": tokenizer, "model": {**fields, **model}}


def _check_arms_differ(recipes: Mapping[str, Recipe]) -> None:
    seen: dict[str, str] = {}
    for name, recipe in recipes.items():
        same = seen.setdefault(repr(flatten(recipe)), name)
        if same != name:
            raise RecipeError(
                f"The arms {same!r} and {name!r} have the same recipe.",
                "The recipes of arms must differ; use seeds to train the same recipe several times.",
                "Remove one of them, or correct its fields.",
            )


def _check_arms_comparable(arms: Sequence[RunPlan], recipes: Mapping[str, Recipe]) -> None:
    """Raise if arms have different tasks, or differ in data fields that no axis or arm sets."""
    first = recipes[arms[0].arm]
    for plan in arms[1:]:
        recipe = recipes[plan.arm]
        if recipe.task.kind != first.task.kind:
            raise RecipeError(
                f"The arms {arms[0].arm!r} and {plan.arm!r} have different tasks: {first.task.kind} and "
                f"{recipe.task.kind}.",
                "Arms need the same task, so that their metrics can be compared.",
                f"Make {plan.arm!r} a start ([[starts]]), which is not compared, or put it into another experiment.",
            )
        named = {dotted for each in arms for dotted in each.fields}
        first_fields, fields = flatten(first), flatten(recipe)
        for dotted in (name for name in fields if name.startswith("data.") and name not in named):
            if fields[dotted] != first_fields[dotted]:
                raise RecipeError(
                    f"The arms {arms[0].arm!r} and {plan.arm!r} differ in {dotted}: {first_fields[dotted]!r} and "
                    f"{fields[dotted]!r}.",
                    "Arms must use the same data, unless an axis or an arm's `set` names the field that differs.",
                    f"Put {dotted} into [set], or into `set` of the arms that should differ.",
                )


@contextmanager
def add_arm_to_errors(arm: str) -> Generator[None]:
    """Begin the message of an error about an arm's recipe with the arm's name."""
    try:
        yield
    except PennaError as error:
        if repr(arm) in error.happened:
            raise
        raise type(error)(f"The arm {arm!r}: {error.happened}", error.expected, error.advice) from error
