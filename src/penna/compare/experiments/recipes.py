"""Where recipes differ: arms in, the fields that are not the same in all of them out, one row a field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from penna.compare.experiments.arms import Arm, without_seed
from penna.config.recipe import flatten

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
