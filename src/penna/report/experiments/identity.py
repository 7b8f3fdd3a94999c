"""What the arms of an experiment share, proved: planned runs and their folders in, what was found to be the same out.

The arms of one seed are held against each other. Their recipes may differ in what the arms name, and in what follows
from it; their text, the weights they begin with and the batches they read are told by hashes in run.json.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from penna.config.recipe import recipe_differences
from penna.config.schema import Recipe, find_fields, section_models
from penna.config.training import BUDGETS
from penna.formatting import plural
from penna.runs.experiment import PlannedRun
from penna.runs.folder import RunFolder

_NAMED = 8  # fields or tensors that are named one by one
_START = "train.init_from"
_LEARNED_FROM_DATA = frozenset({"model.vocab_size", "model.n_class", "task.labels"})
_DERIVED = frozenset({
    "model.head_dim", "model.n_kv_head", "model.n_inner", "model.n_encoder_layer", "model.source_size",
    "model.ngram_rows", "model.ngram_width",
})  # fmt: skip
# What a residual projection's first weights are scaled by.
_SCALES_RESIDUALS = frozenset({"model.n_layer", "model.n_encoder_layer", "model.residual_init"})


@dataclass(frozen=True)
class Finding:
    """Whether one thing is the same in all arms, in words."""

    name: str
    is_same: bool  # but for what the arms name and what follows from it
    text: str


@dataclass(frozen=True)
class _Run:
    planned: PlannedRun
    recipe: Recipe
    info: Mapping[str, Any]

    @property
    def start(self) -> str | None:
        return self.recipe.train.init_from


def findings(runs: Sequence[tuple[PlannedRun, RunFolder]]) -> list[Finding]:
    """What was found of recipe, data, first weights and batch order; starts are left out, and runs not yet begun.

    Empty where no seed has two arms to hold against each other.
    """
    by_seed: dict[int, list[_Run]] = {}
    for planned, folder in runs:
        if not planned.is_start and (folder.path / "recipe.toml").is_file():
            by_seed.setdefault(planned.seed, []).append(_Run(planned, folder.recipe(), folder.info()))
    groups = [group for group in by_seed.values() if len(group) > 1]
    if not groups:
        return []
    named = {dotted for group in groups for run in group for dotted in run.planned.fields}
    return [_recipe(groups, named), _data(groups, named), _weights(groups, named), _order(groups, named)]


def _recipe(groups: Sequence[Sequence[_Run]], named: set[str]) -> Finding:
    own_base = any("base" in run.planned.values for group in groups for run in group)
    differing: set[str] = set()
    for first, *others in groups:
        for other in others:
            differing |= recipe_differences(first.recipe, other.recipe).keys()
    follows = {dotted for dotted in differing - named if _follows(dotted, named)}
    unexplained = sorted(differing - named - follows)
    text = f"the same but for {_listed(sorted(differing & named))}" if differing & named else "the same in every field"
    if follows:
        text += f", and what follows from that: {_listed(sorted(follows))}"
    if unexplained and own_base:
        text += f"; the arms' own base recipes say {_listed(unexplained)}"
    elif unexplained:
        text = f"NOT the same: {_listed(unexplained)}, which no arm names"
    return Finding("recipe", not unexplained or own_base, text)


def _follows(dotted: str, named: set[str]) -> bool:
    """Whether a field may differ because another one that is named decides it."""
    section, _, field = dotted.partition(".")
    sections = {name.partition(".")[0] for name in named}
    if dotted in _DERIVED and "model" in sections:
        return True
    if dotted in _LEARNED_FROM_DATA and sections & {"data", "tokenizer"}:
        return True
    if field in BUDGETS and any(f"train.{budget}" in named for budget in BUDGETS):
        return True
    if len(section_models(section)) > 1 and f"{section}.kind" in named:
        return True
    if section == "model" and "model.preset" in named:
        return True
    # Weights bring along their tokenizer, and each field of [model] that a recipe leaves out.
    return _START in named and bool(find_fields(dotted)) and section in ("tokenizer", "model")


def _data(groups: Sequence[Sequence[_Run]], named: set[str]) -> Finding:
    varied = sorted(name for name in named if name.startswith("data."))
    return _by_hash("data", groups, lambda run: run.info.get("data", {}).get("content_hash"), varied)


def _order(groups: Sequence[Sequence[_Run]], named: set[str]) -> Finding:
    decides = ("data.", "tokenizer.", "task.")
    varied = {name for name in named if name.startswith(decides)} | (
        named & {"train.batch_size", "train.accumulation", "model.block_size", "model.source_size", "model.arch"}
    )
    tokenizers = {(run.info.get("data") or {}).get("tokenizer_hash") for group in groups for run in group}
    if _START in named and len(tokenizers) > 1:
        varied.add(_START)
    return _by_hash("batch_order", groups, lambda run: run.info.get("batch_order"), sorted(varied))


def _by_hash(
    name: str, groups: Sequence[Sequence[_Run]], hash_of: Callable[[_Run], str | None], varied: Sequence[str]
) -> Finding:
    """Whether a hash is the same in all arms of each seed; a field that is varied may be why it is not."""
    unknown = [run.planned.name for group in groups for run in group if hash_of(run) is None]
    if unknown:
        return Finding(name, False, f"not known: run.json of {_listed(unknown)} does not tell")
    differing = [run.planned.name for first, *others in groups for run in others if hash_of(run) != hash_of(first)]
    if not differing:
        hashes = sorted({str(hash_of(group[0]))[:12] for group in groups})
        by = f"by its hash {hashes[0]}" if len(hashes) == 1 else f"by their hashes, in each of {len(groups)} seeds"
        return Finding(name, True, f"the same, {by}")
    if varied:
        return Finding(name, True, f"not the same in all arms, since {_listed(varied)} differs")
    return Finding(name, False, f"NOT the same: {_listed(differing)} differ from {groups[0][0].planned.arm}")


def _weights(groups: Sequence[Sequence[_Run]], named: set[str]) -> Finding:
    """Whether tensors of one name and shape begin alike; arms that begin from other weights are held apart."""
    shared = alone = 0
    differing: set[str] = set()
    unknown = [run.planned.name for group in groups for run in group if not run.info.get("initial_weights")]
    if unknown:
        return Finding("initial_weights", False, f"not known: run.json of {_listed(unknown)} does not tell")
    starts = {run.start for group in groups for run in group}
    for group in groups:
        for start in {run.start for run in group}:
            first, *others = [run.info["initial_weights"] for run in group if run.start == start]
            for other in others:
                same_shape = [name for name in other if name in first and first[name][0] == other[name][0]]
                shared += len(same_shape)
                alone += len(other) - len(same_shape)
                differing |= {name for name in same_shape if first[name][1] != other[name][1]}
    scaled = {name for name in differing if name.endswith("c_proj.weight")} if named & _SCALES_RESIDUALS else set()
    unexplained = sorted(differing - scaled)
    if unexplained:
        return Finding("initial_weights", False, f"NOT the same: {_listed(unexplained)}")
    if not shared:
        why = "every arm begins from other weights" if len(starts) > 1 else "no tensor has the same shape in two arms"
        return Finding("initial_weights", True, f"nothing to hold against each other: {why}")
    text = "the same, bit for bit, in every tensor that two arms share"
    text += f" ({plural(shared, 'pair', 'pairs')}"
    text += f"; {plural(alone, 'tensor has', 'tensors have')} no counterpart of its shape)" if alone else ")"
    if scaled:
        text += f", but for {_listed(sorted(scaled))}, whose scale {_listed(sorted(named & _SCALES_RESIDUALS))} decides"
    if _START in named:
        text += "; arms that begin from other weights are held apart"
    return Finding("initial_weights", True, text)


def _listed(names: Iterable[str]) -> str:
    """Names with commas, the first ones where they are many."""
    listed = list(names)
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return ", ".join(listed[:_NAMED]) + more
