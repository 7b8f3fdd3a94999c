"""The recipe of ``penna train``'s arguments, completed from the model that it starts from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from penna.config.recipe import build_recipe, find_recipe, recipe_table
from penna.config.schema import Recipe
from penna.config.sections import PRESETS
from penna.errors import RecipeError
from penna.runs.folder import RUNS
from penna.train.init_from import init_model_fields, init_tokenizer_path

_MAY_DIFFER = frozenset({"block_size", "residual_init"})  # pretrained weights keep their meaning


def resolve_recipe(
    targets: Sequence[str], overrides: Mapping[str, Any] | None = None, *, runs_dir: Path = RUNS
) -> tuple[Recipe, str]:
    """The recipe of ``penna train TARGETS``, and a name for the run.

    The first target may name a recipe (shipped, or a .toml file); all others are paths of text. Without a recipe,
    ``default`` is used.
    """
    overrides = dict(overrides or {})
    paths = list(targets)
    named = bool(paths) and find_recipe(paths[0]) is not None and not Path(paths[0]).is_dir()
    name = paths.pop(0) if named else "default"
    if not named and paths and not Path(paths[0]).exists() and "." not in paths[0] and "/" not in paths[0]:
        recipe_table(paths[0])  # raises, and suggests the nearest shipped name
    stem = Path(name).stem
    if paths:
        overrides["data.path"] = paths
        if name == "default":
            stem = Path(paths[0]).resolve().stem or "text"
    table = recipe_table(name, overrides)
    if not named and _init_source(table) is not None:  # the default recipe's model was not chosen by the user
        chosen = {dotted: value for dotted, value in overrides.items() if dotted.startswith("model.")}
        table["model"] = {dotted.removeprefix("model."): value for dotted, value in chosen.items()}
    if _init_source(table) is not None:
        _check_tokenizer_matches_init(overrides)
    table = with_init_from(table, runs_dir)
    return build_recipe(table, origin=f"recipe {name}"), stem


def with_init_from(table: Mapping[str, Any], runs_dir: Path) -> dict[str, Any]:
    """A recipe's dictionary, completed from ``train.init_from``: its tokenizer, and the [model] fields left out.

    A tokenizer is never trained then: weights have a meaning only with their own. If the recipe names a tokenizer file,
    it stays, and is compared later.
    """
    filled = {name: dict(value) if isinstance(value, Mapping) else value for name, value in table.items()}
    source = _init_source(filled)
    tokenizer, model = filled.get("tokenizer", {}), filled.get("model", {})
    if source is None or not isinstance(tokenizer, dict) or not isinstance(model, dict):
        return filled  # validation reports an invalid section
    if tokenizer.get("kind") != "file":
        filled["tokenizer"] = {"kind": "file", "path": str(init_tokenizer_path(source, runs_dir))}
    fields = init_model_fields(source, runs_dir)
    _check_preset_matches_init(source, fields, model)
    filled["model"] = {**fields, **model}
    return filled


def _check_tokenizer_matches_init(overrides: Mapping[str, Any]) -> None:
    """Raise RecipeError if the overrides ask for another tokenizer than the pretrained one."""
    for name in ("kind", "vocab_size"):
        given = overrides.get(f"tokenizer.{name}")
        if given not in (None, "file"):
            raise RecipeError(
                f"tokenizer.{name} = {given} cannot be combined with train.init_from.",
                "Pretrained weights need the tokenizer that they were trained with.",
                "Remove it, or remove train.init_from to start from random weights.",
            )


def _check_preset_matches_init(source: str, fields: Mapping[str, Any], model: Mapping[str, Any]) -> None:
    """Raise RecipeError if a preset would set a field that is left out to another value than the weights have."""
    preset = model.get("preset")
    for name, value in PRESETS.get(preset, {}).items() if isinstance(preset, str) else ():
        if name not in {*model, *_MAY_DIFFER} and name in fields and fields[name] != value:
            raise RecipeError(
                f"model.preset = {preset} sets {name} = {value}, but the model at {source} has {fields[name]}.",
                "The shape must be that of the weights.",
                "Remove model.preset; all fields are then those of the pretrained model.",
            )


def _init_source(table: Mapping[str, Any]) -> str | None:
    train = table.get("train")
    source = train.get("init_from") if isinstance(train, Mapping) else None
    return source if isinstance(source, str) and source != "none" else None
