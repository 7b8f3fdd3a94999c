"""Arms of a comparison: runs in, groups of runs that differ in nothing but their seed out.

Runs given by hand are one arm where their recipes agree in every field but ``train.seed``; a start or a tokenizer of
the same seed (a path ending in ``-s1`` in a run of seed 1) counts as the same. Their description and their name do not
matter. The name of an arm is that of its runs without the seed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import takewhile
from typing import Any

from penna.config.recipe import flatten
from penna.errors import RunError
from penna.report.experiments.results import Column, ComparedRun
from penna.report.experiments.statistics import PairedDifference, Spread, paired_difference, spread

_OF_A_SEED = ("train.init_from", "tokenizer.path")  # paths that may be of runs of the same seed
_SEED = "train.seed"


@dataclass(frozen=True)
class Arm:
    """Runs of one recipe, and what they come to together."""

    name: str
    runs: tuple[ComparedRun, ...]  # by seed
    values: Mapping[str, Any] = field(default_factory=dict[str, Any])  # of an experiment's axes

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of its runs, each once."""
        return tuple(sorted({run.seed for run in self.runs}))

    @property
    def first(self) -> ComparedRun:
        """The run of its lowest seed."""
        return self.runs[0]

    def by_seed(self, column: Column) -> dict[int, float]:
        """A figure for each seed that has it; of several runs of one seed, their mean."""
        values: dict[int, list[float]] = {}
        for run in self.runs:
            if (column.group, column.name) in run.finals:
                values.setdefault(run.seed, []).append(run.finals[column.group, column.name])
        return {seed: sum(own) / len(own) for seed, own in values.items()}

    def spread(self, column: Column) -> Spread | None:
        """A figure over its seeds; None where no run has it."""
        return spread(list(self.by_seed(column).values()))

    def difference(self, baseline: Arm, column: Column) -> PairedDifference | None:
        """By how much a figure lies above the baseline's, seed by seed; None where they share no seed."""
        return paired_difference(baseline.by_seed(column), self.by_seed(column))


def group_by_recipe(runs: Sequence[ComparedRun], pattern: str | None = None) -> list[Arm]:
    """Runs as arms, in the order in which they were given.

    With ``pattern``, runs are one arm where the regular expression finds the same in their names (its first group,
    where it has one). Raises RunError where it is none, or does not find anything in a name.
    """
    groups: dict[str, list[ComparedRun]] = {}
    for run in runs:
        groups.setdefault(_key(run) if pattern is None else _matched(run, pattern), []).append(run)
    by_seed = [sorted(own, key=lambda run: run.seed) for own in groups.values()]
    names = list(groups) if pattern is not None else _different([_name(own) for own in by_seed], by_seed)
    return [Arm(name, tuple(own)) for name, own in zip(names, by_seed, strict=True)]


def _key(run: ComparedRun) -> str:
    """A recipe without its seed, as text."""
    fields = {name: value for name, value in flatten(run.recipe).items() if name != _SEED}
    for name in _OF_A_SEED:
        if isinstance(fields.get(name), str):
            fields[name] = without_seed(fields[name], run.seed)
    return json.dumps(fields, sort_keys=True)


def without_seed(name: str, seed: int) -> str:
    """A name or a path of a run without the seed at its end: "decay-s3" of seed 3 is "decay"."""
    return re.sub(rf"(?<=.)[-_.](?:s|seed)[-_]?{seed}$", "", name)


def _matched(run: ComparedRun, pattern: str) -> str:
    try:
        found = re.search(pattern, run.name)
    except re.error as error:
        raise RunError(
            f"{pattern!r} is no regular expression: {error}.",
            "One that finds the arm's name in the names of its runs.",
            r"Such as --group '^(.*)-\d+$'.",
        ) from error
    name = "" if found is None else next((group for group in found.groups() if group), found.group())
    if not name:
        raise RunError(
            f"{pattern!r} finds nothing in the run name {run.name!r}.",
            "A regular expression that finds the arm's name in the name of every run.",
            r"Such as --group '^(.*)-\d+$'.",
        )
    return name


def _name(runs: Sequence[ComparedRun]) -> str:
    """What the names of an arm's runs share."""
    bare = {without_seed(run.name, run.seed) for run in runs}
    if len(bare) == 1:
        return bare.pop()
    letters = zip(*(run.name for run in runs), strict=False)
    shared = "".join(alike[0] for alike in takewhile(lambda alike: len(set(alike)) == 1, letters))
    return re.sub(r"[-_.]+(?:s|seed)?$", "", shared) or runs[0].name


def _different(names: Sequence[str], groups: Sequence[Sequence[ComparedRun]]) -> list[str]:
    """Names of arms that are all different: where two are alike, those of the first runs, or else their folders."""
    for others in (
        [runs[0].name for runs in groups],
        [str(runs[0].folder.path) for runs in groups],
    ):
        if len(set(names)) == len(names):
            break
        names = [other if names.count(name) > 1 else name for name, other in zip(names, others, strict=True)]
    return list(names)


# MERGED report.experiments.recipes: Where recipes differ: arms in, the fields that are not the same in all of them
# out, one row a field.


NOT_THERE = "–"  # a field that the recipe's kind does not have, or that is none


@dataclass(frozen=True)
class RecipeRow:
    """A field and what it says in each arm."""

    field: str  # dotted
    values: tuple[str, ...]  # in the order of arms

    def as_json(self) -> dict[str, Any]:
        """A dictionary for JSON."""
        return {**asdict(self), "values": list(self.values)}


def recipe_rows(arms: Sequence[Arm]) -> list[RecipeRow]:
    """The fields that do not say the same in every arm; where runs of an arm differ, all that they say."""
    flat = [[_seedless(flatten(run.recipe), run.seed) for run in arm.runs] for arm in arms]
    names = dict.fromkeys(name for runs in flat for fields in runs for name in fields)
    rows = [RecipeRow(name, tuple(_said(runs, name) for runs in flat)) for name in names]
    return [row for row in rows if len(set(row.values)) > 1]


def _seedless(fields: Mapping[str, Any], seed: int) -> dict[str, Any]:
    return {name: without_seed(value, seed) if isinstance(value, str) else value for name, value in fields.items()}


def _said(runs: Sequence[Mapping[str, Any]], name: str) -> str:
    """What the runs of an arm say for a field; each value once."""
    return ", ".join(dict.fromkeys(value_text(fields.get(name)) for fields in runs))


def value_text(value: Any) -> str:
    """A recipe's value as a person reads it."""
    if value is None:
        return NOT_THERE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    if isinstance(value, list):
        return ", ".join(map(value_text, value)) if value else "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={value_text(own)}" for key, own in value.items())
    return str(value)
