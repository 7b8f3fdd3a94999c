"""Recipes from words: what ``penna train`` is given, and what a pretrained start adds to it."""

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

_FREE_OF_A_PRESET = frozenset({"block_size", "residual_init"})  # the weights mean the same with another


def resolve_recipe(
    targets: Sequence[str], overrides: Mapping[str, Any] | None = None, *, runs_dir: Path = RUNS
) -> tuple[Recipe, str]:
    """The recipe that ``penna train`` means by its words, and a name for the run.

    A first word that names a recipe (shipped, or a .toml file) is one; all other words are paths of text. Without a
    recipe, ``default`` is taken.
    """
    overrides = dict(overrides or {})
    words = list(targets)
    named = bool(words) and find_recipe(words[0]) is not None and not Path(words[0]).is_dir()
    name = words.pop(0) if named else "default"
    if not named and words and not Path(words[0]).exists() and "." not in words[0] and "/" not in words[0]:
        recipe_table(words[0])  # raises, with the nearest shipped name
    stem = Path(name).stem
    if words:
        overrides["data.path"] = words
        if name == "default":
            stem = Path(words[0]).resolve().stem or "text"
    table = recipe_table(name, overrides)
    if not named and _start_of(table) is not None:  # nobody chose the model of the default recipe
        chosen = {dotted: value for dotted, value in overrides.items() if dotted.startswith("model.")}
        table["model"] = {dotted.removeprefix("model."): value for dotted, value in chosen.items()}
    if _start_of(table) is not None:
        _check_tokenizer_is_the_starts(overrides)
    table = with_init_from(table, runs_dir)
    return build_recipe(table, origin=f"recipe {name}"), stem


def with_init_from(table: Mapping[str, Any], runs_dir: Path) -> dict[str, Any]:
    """A recipe's dictionary with what ``train.init_from`` settles: its tokenizer, and the [model] fields not given.

    A tokenizer that would be learned is not: weights mean something only with the one they learned with. A file that
    the recipe names is left, and compared later.
    """
    filled = {name: dict(value) if isinstance(value, Mapping) else value for name, value in table.items()}
    source = _start_of(filled)
    tokenizer, model = filled.get("tokenizer", {}), filled.get("model", {})
    if source is None or not isinstance(tokenizer, dict) or not isinstance(model, dict):
        return filled  # what is wrong with a section is said where the recipe is built
    if tokenizer.get("kind") != "file":
        filled["tokenizer"] = {"kind": "file", "path": str(init_tokenizer_path(source, runs_dir))}
    fields = init_model_fields(source, runs_dir)
    _check_preset_is_the_starts(source, fields, model)
    filled["model"] = {**fields, **model}
    return filled


def _check_tokenizer_is_the_starts(overrides: Mapping[str, Any]) -> None:
    """Raise where another tokenizer is asked for than the one that weights learned with."""
    for name in ("kind", "vocab_size"):
        given = overrides.get(f"tokenizer.{name}")
        if given not in (None, "file"):
            raise RecipeError(
                f"tokenizer.{name} = {given} cannot be chosen beside train.init_from.",
                "The tokenizer that the weights learned with: they mean nothing with another.",
                "Leave it out; or leave train.init_from out and begin from random weights.",
            )


def _check_preset_is_the_starts(source: str, fields: Mapping[str, Any], model: Mapping[str, Any]) -> None:
    """Raise where a preset would fill a field that is left out with something else than the weights have."""
    preset = model.get("preset")
    for name, value in PRESETS.get(preset, {}).items() if isinstance(preset, str) else ():
        if name not in {*model, *_FREE_OF_A_PRESET} and name in fields and fields[name] != value:
            raise RecipeError(
                f"model.preset = {preset} says {name} = {value}, and the model at {source} has {fields[name]}.",
                "The shape that the weights have.",
                "Leave model.preset out; all fields are then those of the start.",
            )


def _start_of(table: Mapping[str, Any]) -> str | None:
    train = table.get("train")
    source = train.get("init_from") if isinstance(train, Mapping) else None
    return source if isinstance(source, str) and source != "none" else None
