"""An experiment to the runs it consists of: which recipe each follows, and which runs have to be there before it.

An ``Experiment`` comes in; out goes a list of ``RunPlan``, the starts first, then the arms seed by seed, so that an
experiment that was cut off has every arm with the first seed before any with the second. Nothing is read but recipes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, get_args

from penna.config.experiment import ARM, Arm, Experiment, Start, axis_values
from penna.config.recipe import build_recipe, flatten, merge, recipe_table
from penna.config.schema import Recipe, find_fields
from penna.config.sections import PRESETS
from penna.errors import PennaError, RecipeError

# MERGED config.arm_names: Names of a grid's arms, made of the values of its axes: short, different from each other,
# and fit for a folder.


_LONGEST = 40  # characters of one value in a name


def arm_names(axes: Sequence[tuple[str, Sequence[Any]]]) -> list[str]:
    """A name for every combination of the axes' values, the last axis changing fastest."""
    pieces = [_unique([_piece(axis, value) for value in values]) for axis, values in axes]
    return _unique(["-".join(parts) for parts in product(*pieces)])


def _piece(axis: str, value: Any) -> str:
    """A word as it is, a number behind its field's name, a path by its last part."""
    leaf = axis.rpartition(".")[2].replace("_", "-")
    if isinstance(value, bool):
        text = leaf if value else f"no-{leaf}"
    elif isinstance(value, str):
        text = _word(axis, leaf, value)
    elif isinstance(value, int | float):
        text = f"{leaf}-{value:g}" if isinstance(value, float) else f"{leaf}-{value}"
    elif isinstance(value, list):
        text = "-".join([leaf, *map(str, value)])
    else:
        text = leaf
    return re.sub(r"[^\w.]+", "-", text)[:_LONGEST].strip("-._") or leaf


def _word(axis: str, leaf: str, value: str) -> str:
    if value.startswith(ARM):
        return f"from-{value.removeprefix(ARM)}"
    if "." in axis and value == "none":
        return "scratch" if leaf == "init-from" else f"no-{leaf}"
    return Path(value).name


def _unique(names: Sequence[str]) -> list[str]:
    """The names, a number behind those that came before."""
    found: list[str] = []
    for name in names:
        free, number = name, 2
        while free in found:
            free, number = f"{name}-{number}", number + 1
        found.append(free)
    return found


REFERENCE_FIELDS = ("train.init_from", "tokenizer.path")  # the fields where it may stand
_FREE_OF_A_PRESET = frozenset({"block_size", "residual_init"})  # the weights mean the same with another
Table = dict[str, Any]


@dataclass(frozen=True)
class RunPlan:
    """One run of an experiment, before it is trained."""

    arm: str
    seed: int
    is_start: bool
    values: dict[str, Any]  # what the axes, or the arm's own lines, say for it
    fields: dict[str, Any]  # the dotted recipe fields these set
    table: Table  # its recipe's dictionary; a field of ``references`` still holds "arm:NAME"
    references: dict[str, str]  # dotted field -> the run whose path is to stand there

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
    layers: tuple[dict[str, Any], ...]  # fields laid over the base one behind another; the last are its own


def run_name(arm: str, seed: int) -> str:
    """The name of an arm's run."""
    return f"{arm}-s{seed}"


def plan_runs(experiment: Experiment, folder: Path) -> list[RunPlan]:
    """Every run of an experiment whose file lies in ``folder``. Raises RecipeError, which names the arm."""
    starts = [_start_plan(start, experiment) for start in experiment.starts]
    arms = _listed(experiment) if experiment.arms else _grid(experiment)
    _check_names([*starts, *arms], experiment)
    tables = {arm.name: _table_of(arm, folder) for arm in (*starts, *arms)}
    in_order = [(arm, seed) for arm in starts for seed in arm.seeds]
    in_order += [(arm, seed) for seed in experiment.seeds for arm in arms]
    order = {arm.name: (place, arm) for place, arm in enumerate((*starts, *arms))}
    return [
        RunPlan(
            arm.name,
            seed,
            arm.is_start,
            arm.values,
            arm.layers[-1],
            merge(tables[arm.name], {"train.seed": seed}),
            _references(arm, tables[arm.name], seed, order),
        )
        for arm, seed in in_order
    ]


def arm_recipes(plans: Sequence[RunPlan], with_start: Callable[[Table], Table]) -> dict[str, Recipe]:
    """Each start's and arm's recipe, checked once; ``with_start`` fills in what a start from elsewhere settles.

    Raises RecipeError for a recipe that cannot be followed, for two arms with the same one, and for arms that learn
    another task, or from other data, than the first where none of their own lines says so.
    """
    recipes: dict[str, Recipe] = {}
    arm_of_run = {plan.name: plan.arm for plan in plans}
    for plan in plans:
        if plan.arm in recipes:
            continue
        source = plan.references.get("train.init_from")
        with add_arm_to_errors(plan.arm):
            table = with_start(plan.table) if source is None else _begun_from(plan.table, recipes[arm_of_run[source]])
            recipes[plan.arm] = build_recipe(table, origin=f"recipe of the arm {plan.arm!r}")
    arms = {plan.arm: plan for plan in plans if not plan.is_start}
    _check_arms_differ({name: recipes[name] for name in arms})
    _check_arms_compare(list(arms.values()), recipes)
    return recipes


def resolved_table(plan: RunPlan, path_of: Callable[[str], str]) -> Table:
    """A run's recipe as it is written down: ``path_of`` turns the name of a run it refers to into its path."""
    return spelled_out(merge(plan.table, {dotted: path_of(run) for dotted, run in plan.references.items()}))


def spelled_out(table: Mapping[str, Any]) -> Table:
    """A recipe's dictionary with "none" for None, which TOML cannot say."""
    return {
        name: {key: "none" if inner is None else inner for key, inner in value.items()}
        if isinstance(value, Mapping)
        else value
        for name, value in table.items()
    }


def _start_plan(start: Start, experiment: Experiment) -> _ArmPlan:
    seeds = experiment.seeds if start.seeds is None else start.seeds
    return _ArmPlan(start.name, start.base, seeds, True, dict(start.set), (start.set,))


def _listed(experiment: Experiment) -> list[_ArmPlan]:
    def plan(arm: Arm) -> _ArmPlan:
        base = arm.base or experiment.base
        assert base is not None
        values = {**({} if arm.base is None else {"base": arm.base}), **arm.set}
        return _ArmPlan(arm.name, base, experiment.seeds, False, values, (experiment.set, arm.set))

    return [plan(arm) for arm in experiment.arms]


def _grid(experiment: Experiment) -> list[_ArmPlan]:
    """An arm for every combination of the axes' values, the last axis changing fastest."""
    assert experiment.base is not None
    axes = [(axis, axis_values(axis, values)) for axis, values in experiment.axes.items()]
    names = arm_names([(axis, [value for value, _ in values]) for axis, values in axes])
    found: list[_ArmPlan] = []
    for name, chosen in zip(names, product(*(values for _, values in axes)), strict=True):
        values = {axis: value for (axis, _), (value, _) in zip(axes, chosen, strict=True)}
        fields = {dotted: value for _, held in chosen for dotted, value in held.items()}
        found.append(_ArmPlan(name, experiment.base, experiment.seeds, False, values, (experiment.set, fields)))
    return found


def _check_names(arms: Sequence[_ArmPlan], experiment: Experiment) -> None:
    names = [arm.name for arm in arms]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise RecipeError(
            f"A start and an arm are both named {twice[0]!r}.",
            "Each start and each arm has a name, and so a folder, of its own.",
            "Rename the start.",
        )
    compared = [arm.name for arm in arms if not arm.is_start]
    baseline = experiment.compare.baseline
    if baseline is not None and baseline not in compared:
        raise RecipeError(
            f"compare.baseline = {baseline!r} is no arm.", f"Arms: {', '.join(compared)}.", "Name one of them."
        )


def _table_of(arm: _ArmPlan, folder: Path) -> Table:
    """The base with all fields laid over it, the arm's own last: a kind it sets drops what only the other had."""
    base = arm.base
    if base.endswith(".toml"):
        base = str(folder / base)
    with add_arm_to_errors(arm.name):
        table = recipe_table(base)
        for fields in arm.layers:
            table = merge(table, {dotted: _none_or(dotted, value) for dotted, value in fields.items()})
    return table


def _none_or(dotted: str, value: Any) -> Any:
    """None for "none" where a field takes it, so that a budget of none takes itself away."""
    optional = any(type(None) in get_args(field.annotation) for field in find_fields(dotted))
    return None if value == "none" and optional else value


def _references(arm: _ArmPlan, table: Table, seed: int, order: Mapping[str, tuple[int, _ArmPlan]]) -> dict[str, str]:
    """The runs an arm's recipe refers to, by field. Raises RecipeError for one that is not there before it."""
    found: dict[str, str] = {}
    for section, fields in table.items():
        for field, value in fields.items() if isinstance(fields, Mapping) else ():
            dotted = f"{section}.{field}"
            if not isinstance(value, str) or not value.startswith(ARM):
                continue
            if dotted not in REFERENCE_FIELDS:
                raise RecipeError(
                    f"The arm {arm.name!r} has {dotted} = {value!r}.",
                    f"{ARM}NAME stands for the path of a run, in {' and '.join(REFERENCE_FIELDS)} alone.",
                    "Give that field a value of its own.",
                )
            found[dotted] = _run_meant(arm, value, seed, order)
    return found


def _run_meant(arm: _ArmPlan, value: str, seed: int, order: Mapping[str, tuple[int, _ArmPlan]]) -> str:
    """The run of the same seed, or the only one, that ``arm:NAME`` stands for."""
    place, _ = order[arm.name]
    earlier = [name for name, (number, _) in order.items() if number < place]
    wanted = value.removeprefix(ARM)
    if wanted not in earlier:
        circular = "itself" if wanted == arm.name else "an arm that comes after it" if wanted in order else "no arm"
        raise RecipeError(
            f"The arm {arm.name!r} is to begin from {value!r}, which is {circular}.",
            f"A start or an arm that stands before it: {', '.join(earlier) or 'there is none'}.",
            "Correct the name, or put that arm first; what two arms need of each other cannot be trained.",
        )
    seeds = order[wanted][1].seeds
    if seed not in seeds and len(seeds) > 1:
        raise RecipeError(
            f"The arm {arm.name!r} with seed {seed} is to begin from {value!r}, which has seeds {list(seeds)}.",
            "A run of the same seed, or one run for all seeds.",
            f"Give {wanted!r} the experiment's seeds (leave its own out), or one seed.",
        )
    return run_name(wanted, seed if seed in seeds else seeds[0])


def _begun_from(table: Table, start: Recipe) -> Table:
    """A recipe's dictionary with what its start settles: the tokenizer, and the [model] fields it leaves out."""
    source = table["train"]["init_from"]
    fields = start.model.model_dump(exclude={"vocab_size", "n_class", "preset"}, exclude_none=True)
    tokenizer, model = table.get("tokenizer", {}), table.get("model", {})
    if tokenizer.get("kind") != "file":
        tokenizer = {"kind": "file", "path": source}
    for name, value in PRESETS.get(str(model.get("preset")), {}).items():
        if name not in {*model, *_FREE_OF_A_PRESET} and fields[name] != value:
            raise RecipeError(
                f"model.preset = {model['preset']} says {name} = {value}, and the weights of {source!r} have "
                f"{fields[name]}.",
                "The shape that the weights have.",
                f"Give both the same base or preset, or name model.{name} in both.",
            )
    return {**table, "tokenizer": tokenizer, "model": {**fields, **model}}


def _check_arms_differ(recipes: Mapping[str, Recipe]) -> None:
    seen: dict[str, str] = {}
    for name, recipe in recipes.items():
        same = seen.setdefault(repr(flatten(recipe)), name)
        if same != name:
            raise RecipeError(
                f"The arms {same!r} and {name!r} follow the same recipe: what sets them apart sets nothing different.",
                "Arms whose recipes differ; the same one several times is what seeds are for.",
                "Take one of them out, or correct its fields.",
            )


def _check_arms_compare(arms: Sequence[RunPlan], recipes: Mapping[str, Recipe]) -> None:
    """Refuse arms whose figures mean different things: of another task, or of other data without having said so."""
    first = recipes[arms[0].arm]
    for plan in arms[1:]:
        own = recipes[plan.arm]
        if own.task.kind != first.task.kind:
            raise RecipeError(
                f"The arm {plan.arm!r} learns another task ({own.task.kind}) than {arms[0].arm!r} ({first.task.kind}).",
                "Arms of one task: their figures are compared.",
                "Make it a start ([[starts]]), which is trained but not compared, or an experiment of its own.",
            )
        named = {dotted for each in arms for dotted in each.fields}
        other, mine = flatten(first), flatten(own)
        for dotted in (name for name in mine if name.startswith("data.") and name not in named):
            if mine[dotted] != other[dotted]:
                raise RecipeError(
                    f"The arm {plan.arm!r} cannot share a data set with {arms[0].arm!r}: {dotted} is {mine[dotted]!r}, "
                    f"not {other[dotted]!r}.",
                    "Arms that learn from the same data, unless an axis or an arm's `set` names what differs.",
                    f"Put {dotted} into [set], or into `set` of the arms where it is meant to differ.",
                )


@contextmanager
def add_arm_to_errors(arm: str) -> Generator[None]:
    """Put the arm's name in front of what is wrong with its recipe."""
    try:
        yield
    except PennaError as error:
        if repr(arm) in error.happened:
            raise
        raise type(error)(f"The arm {arm!r}: {error.happened}", error.expected, error.advice) from error
