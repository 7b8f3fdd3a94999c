"""Which conditions are equal in all arms of an experiment.

Arms with the same seed are compared. Their recipes may differ in the fields that the arms name and in what follows from
them; text, first weights and batch order are compared by their hashes in run.json.
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

_NAMED = 8  # longest list of fields or tensors
_START = "train.init_from"
_LEARNED_FROM_DATA = frozenset({"model.vocab_size", "model.n_class", "task.labels"})
_DERIVED = frozenset({
    "model.head_dim", "model.n_kv_head", "model.n_inner", "model.n_encoder_layer", "model.source_size",
    "model.ngram_rows", "model.ngram_width",
})  # fmt: skip
# The first weights of residual projections are scaled by these.
_SCALES_RESIDUALS = frozenset({"model.n_layer", "model.n_encoder_layer", "model.residual_init"})


@dataclass(frozen=True)
class EqualityCheck:
    """Whether one condition is equal in all arms, with an explanation."""

    name: str
    is_equal: bool  # except for what the arms name and what follows from it
    text: str


@dataclass(frozen=True)
class _Run:
    planned: PlannedRun
    recipe: Recipe
    info: Mapping[str, Any]

    @property
    def start(self) -> str | None:
        return self.recipe.train.init_from


def check_equality(runs: Sequence[tuple[PlannedRun, RunFolder]]) -> list[EqualityCheck]:
    """Check recipe, data, first weights and batch order, without starts and runs that have not begun.

    Empty if no seed has two arms.
    """
    by_seed: dict[int, list[_Run]] = {}
    for planned, folder in runs:
        if not planned.is_start and (folder.path / "recipe.toml").is_file():
            by_seed.setdefault(planned.seed, []).append(_Run(planned, folder.recipe(), folder.info()))
    groups = [group for group in by_seed.values() if len(group) > 1]
    if not groups:
        return []
    named = {dotted for group in groups for run in group for dotted in run.planned.fields}
    return [_recipe(groups, named), _data(groups, named), _weights(groups, named), _batch_order(groups, named)]


def _recipe(groups: Sequence[Sequence[_Run]], named: set[str]) -> EqualityCheck:
    own_base = any("base" in run.planned.values for group in groups for run in group)
    differing: set[str] = set()
    for first, *others in groups:
        for other in others:
            differing |= recipe_differences(first.recipe, other.recipe).keys()
    follows = {dotted for dotted in differing - named if _follows(dotted, named)}
    unexplained = sorted(differing - named - follows)
    text = "equal in every field"
    if differing & named:
        text = f"equal except for {_list_names(sorted(differing & named))}"
    if follows:
        text += f" and what follows from that: {_list_names(sorted(follows))}"
    if unexplained and own_base:
        text += f"; the arms have different base recipes, which differ in {_list_names(unexplained)}"
    elif unexplained:
        text = f"NOT equal: {_list_names(unexplained)}, which no arm names"
    return EqualityCheck("recipe", not unexplained or own_base, text)


def _follows(dotted: str, named: set[str]) -> bool:
    """Whether a field may differ because it depends on a named one."""
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
    # A pretrained start provides the tokenizer and the [model] fields that a recipe leaves out.
    return _START in named and bool(find_fields(dotted)) and section in ("tokenizer", "model")


def _data(groups: Sequence[Sequence[_Run]], named: set[str]) -> EqualityCheck:
    varied = sorted(name for name in named if name.startswith("data."))
    return _by_hash("data", groups, lambda run: run.info.get("data", {}).get("content_hash"), varied)


def _batch_order(groups: Sequence[Sequence[_Run]], named: set[str]) -> EqualityCheck:
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
) -> EqualityCheck:
    """Compare a hash between the arms of each seed; varied fields may explain a difference."""
    unknown = [run.planned.name for group in groups for run in group if hash_of(run) is None]
    if unknown:
        return EqualityCheck(name, False, f"unknown: run.json of {_list_names(unknown)} has no hash")
    differing = [run.planned.name for first, *others in groups for run in others if hash_of(run) != hash_of(first)]
    if not differing:
        hashes = sorted({str(hash_of(group[0]))[:12] for group in groups})
        by = f"hash {hashes[0]}" if len(hashes) == 1 else f"by hash, for each of {len(groups)} seeds"
        return EqualityCheck(name, True, f"equal ({by})")
    if varied:
        return EqualityCheck(name, True, f"different between arms, because {_list_names(varied)} differs")
    return EqualityCheck(name, False, f"NOT equal: {_list_names(differing)} differ from {groups[0][0].planned.arm}")


def _weights(groups: Sequence[Sequence[_Run]], named: set[str]) -> EqualityCheck:
    """Compare first weights of the same name and shape between arms with the same pretrained start."""
    shared = alone = 0
    differing: set[str] = set()
    unknown = [run.planned.name for group in groups for run in group if not run.info.get("initial_weights")]
    if unknown:
        return EqualityCheck("initial_weights", False, f"unknown: run.json of {_list_names(unknown)} has no hash")
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
        return EqualityCheck("initial_weights", False, f"NOT equal: {_list_names(unexplained)}")
    if not shared:
        why = "every arm starts from other weights" if len(starts) > 1 else "no tensor has the same shape in two arms"
        return EqualityCheck("initial_weights", True, f"nothing to compare: {why}")
    text = "bit-identical in every tensor that two arms share"
    text += f" ({plural(shared, 'pair', 'pairs')}"
    text += f"; {plural(alone, 'tensor has', 'tensors have')} no counterpart of the same shape)" if alone else ")"
    if scaled:
        causes = _list_names(sorted(named & _SCALES_RESIDUALS))
        text += f", except {_list_names(sorted(scaled))}, whose scale depends on {causes}"
    if _START in named:
        text += "; arms that start from other weights are compared separately"
    return EqualityCheck("initial_weights", True, text)


def _list_names(names: Iterable[str]) -> str:
    """Names separated by commas; a long list is shortened."""
    listed = list(names)
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return ", ".join(listed[:_NAMED]) + more
