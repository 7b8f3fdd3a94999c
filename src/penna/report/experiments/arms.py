"""Arms of a comparison: groups of runs that differ only in their seed, and the recipe fields in which arms differ.

Runs form one arm if their recipes agree in every field except ``train.seed``. Paths that end in the seed (``-s1`` in a
run of seed 1) count as equal. An arm is named after its runs, without the seed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from penna.config.recipe import flatten
from penna.errors import RunError
from penna.report.experiments.results import Column, ComparedRun
from penna.report.experiments.statistics import PairedDifference, Spread, paired_difference, spread

_SEED_PATHS = ("train.init_from", "tokenizer.path")  # paths that may name runs of the same seed
_SEED = "train.seed"
MISSING = "–"  # the recipe does not have the field, or it is none


@dataclass(frozen=True)
class Arm:
    """Runs of one recipe with different seeds."""

    name: str
    runs: tuple[ComparedRun, ...]  # by seed
    values: Mapping[str, Any] = field(default_factory=dict[str, Any])  # of the experiment's axes

    @property
    def seeds(self) -> tuple[int, ...]:
        """The distinct seeds of its runs."""
        return tuple(sorted({run.seed for run in self.runs}))

    @property
    def first(self) -> ComparedRun:
        """The run with the lowest seed."""
        return self.runs[0]

    def by_seed(self, column: Column) -> dict[int, float]:
        """A metric by seed; several runs with one seed are averaged."""
        values: dict[int, list[float]] = {}
        for run in self.runs:
            if (column.group, column.name) in run.final_metrics:
                values.setdefault(run.seed, []).append(run.final_metrics[column.group, column.name])
        return {seed: sum(own) / len(own) for seed, own in values.items()}

    def spread(self, column: Column) -> Spread | None:
        """A metric over the seeds; None if no run has it."""
        return spread(list(self.by_seed(column).values()))

    def difference(self, baseline: Arm, column: Column) -> PairedDifference | None:
        """The difference of a metric from the baseline, seed by seed; None without a common seed."""
        return paired_difference(baseline.by_seed(column), self.by_seed(column))


def group_by_recipe(runs: Sequence[ComparedRun], pattern: str | None = None) -> list[Arm]:
    """Group runs into arms, in the order of the runs.

    With ``pattern``, runs form one arm if the regular expression matches the same text in their names (its first group,
    if it has groups). Raises RunError if the pattern is invalid or does not match a name.
    """
    groups: dict[str, list[ComparedRun]] = {}
    for run in runs:
        groups.setdefault(_recipe_key(run) if pattern is None else _match_pattern(run, pattern), []).append(run)
    by_seed = [sorted(own, key=lambda run: run.seed) for own in groups.values()]
    names = list(groups) if pattern is not None else _unique_names([_common_name(own) for own in by_seed], by_seed)
    return [Arm(name, tuple(own)) for name, own in zip(names, by_seed, strict=True)]


def _recipe_key(run: ComparedRun) -> str:
    """A recipe without its seed, as text."""
    fields = {name: value for name, value in flatten(run.recipe).items() if name != _SEED}
    for name in _SEED_PATHS:
        if isinstance(fields.get(name), str):
            fields[name] = without_seed(fields[name], run.seed)
    return json.dumps(fields, sort_keys=True)


def without_seed(name: str, seed: int) -> str:
    """The name or path of a run without the seed at its end: "decay-s3" with seed 3 is "decay"."""
    return re.sub(rf"(?<=.)[-_.](?:s|seed)[-_]?{seed}$", "", name)


def _match_pattern(run: ComparedRun, pattern: str) -> str:
    try:
        found = re.search(pattern, run.name)
    except re.error as error:
        raise RunError(
            f"--group {pattern!r} is not a valid regular expression: {error}.",
            "It must match the arm in the name of each run.",
            r"For example: --group '^(.*)-\d+$'.",
        ) from error
    name = "" if found is None else next((group for group in found.groups() if group), found.group())
    if not name:
        raise RunError(
            f"--group {pattern!r} does not match the run name {run.name!r}.",
            "It must match the arm in the name of every run.",
            r"For example: --group '^(.*)-\d+$'.",
        )
    return name


def _common_name(runs: Sequence[ComparedRun]) -> str:
    """The common part of the names of an arm's runs."""
    bare = {without_seed(run.name, run.seed) for run in runs}
    if len(bare) == 1:
        return bare.pop()
    letters = zip(*(run.name for run in runs), strict=False)
    shared = "".join(column[0] for column in takewhile(lambda column: len(set(column)) == 1, letters))
    return re.sub(r"[-_.]+(?:s|seed)?$", "", shared) or runs[0].name


def _unique_names(names: Sequence[str], groups: Sequence[Sequence[ComparedRun]]) -> list[str]:
    """Distinct arm names: equal ones are replaced by the name of the first run, or by its path."""
    for others in (
        [runs[0].name for runs in groups],
        [str(runs[0].folder.path) for runs in groups],
    ):
        if len(set(names)) == len(names):
            break
        names = [other if names.count(name) > 1 else name for name, other in zip(names, others, strict=True)]
    return list(names)


@dataclass(frozen=True)
class RecipeRow:
    """A recipe field and its value in each arm."""

    field: str  # dotted
    values: tuple[str, ...]  # in the order of the arms


def recipe_rows(arms: Sequence[Arm]) -> list[RecipeRow]:
    """The fields that differ between arms; if the runs of an arm differ, all their values."""
    flat = [[_without_seeds(flatten(run.recipe), run.seed) for run in arm.runs] for arm in arms]
    names = dict.fromkeys(name for runs in flat for fields in runs for name in fields)
    rows = [RecipeRow(name, tuple(_values_text(runs, name) for runs in flat)) for name in names]
    return [row for row in rows if len(set(row.values)) > 1]


def _without_seeds(fields: Mapping[str, Any], seed: int) -> dict[str, Any]:
    return {name: without_seed(value, seed) if isinstance(value, str) else value for name, value in fields.items()}


def _values_text(runs: Sequence[Mapping[str, Any]], name: str) -> str:
    """The distinct values of a field in the runs of an arm."""
    return ", ".join(dict.fromkeys(format_value(fields.get(name)) for fields in runs))


def format_value(value: Any) -> str:
    """A recipe value as text."""
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    if isinstance(value, list):
        return ", ".join(map(format_value, value)) if value else "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={format_value(own)}" for key, own in value.items())
    return str(value)
