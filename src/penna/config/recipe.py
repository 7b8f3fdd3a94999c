"""Recipes: a run described in TOML, read, overridden, checked once, and written back.

A recipe file or shipped name comes in as a dictionary; dotted overrides are merged into it; pydantic checks the whole
once; out goes a frozen ``Recipe`` with every field filled, or a ``RecipeError`` that names the field, the value, what
is allowed and the nearest spelling.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, get_args, get_origin

import tomli_w
from pydantic import BaseModel, ValidationError

from penna.config.schema import SECTIONS, Recipe, explain_error, fields_of_kind, find_fields, unknown_field_error
from penna.config.training import BUDGETS
from penna.errors import RecipeError


def shipped_recipes() -> dict[str, Path]:
    """Names of the recipes that come with Penna, and their files."""
    folder = Path(str(resources.files("penna.recipes")))
    return {file.stem: file for file in sorted(folder.glob("*.toml"))}


def find_recipe(name: str) -> Path | None:
    """The file of a shipped recipe or of a path ending in .toml; None where the name is neither."""
    if name.endswith(".toml"):
        return Path(name)
    return shipped_recipes().get(name)


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file as a dictionary. Raises RecipeError where it is missing or not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(
            f"The recipe {path} cannot be read: {error.strerror or error}.",
            "A recipe is a readable TOML file.",
            "Check the path, or see `penna recipes` for the shipped ones.",
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(
            f"The recipe {path} is not valid TOML: {error}.",
            "A recipe holds sections such as [model] with lines such as n_layer = 4.",
            "Mend that line; `penna recipes default` prints a whole recipe to copy from.",
        ) from error


def merge(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Lay dotted overrides (``{"train.steps": 20}``) over a recipe dictionary; neither is changed.

    Two fields stand for a choice: a new ``kind`` drops the fields that only the old kind had, and a new budget drops
    the old one (a budget of None only takes itself away).
    """
    merged: dict[str, Any] = {key: dict(value) if isinstance(value, dict) else value for key, value in base.items()}
    for dotted in sorted(overrides, key=lambda name: not name.endswith(".kind")):
        section, _, field = dotted.partition(".")
        table = merged.setdefault(section, {})
        if not isinstance(table, dict) or not field:
            raise unknown_field_error(dotted, overrides[dotted])
        if field == "kind" and table.get("kind") != overrides[dotted]:
            allowed = fields_of_kind(section, str(overrides[dotted]))
            table = {key: value for key, value in table.items() if key in allowed}
            merged[section] = table
        if section == "train" and field in BUDGETS and overrides[dotted] is not None:
            for budget in BUDGETS:
                if f"train.{budget}" not in overrides:
                    table.pop(budget, None)
        table[field] = overrides[dotted]
    return merged


def build_recipe(table: Mapping[str, Any], origin: str = "recipe") -> Recipe:
    """Check a recipe dictionary. Raises RecipeError with every fault in it."""
    try:
        return Recipe.model_validate({name: _spelled_out(name, value) for name, value in table.items()})
    except ValidationError as error:
        faults = [explain_error(detail) for detail in error.errors()]
        raise RecipeError(
            f"The {origin} cannot be followed: {faults[0][0]}"
            if len(faults) == 1
            else f"The {origin} cannot be followed:\n" + "\n".join(f"  - {fault[0]}" for fault in faults),
            "\n".join(dict.fromkeys(fault[1] for fault in faults if fault[1])),
            "Correct it in the file or on the command line; `penna recipes NAME` explains every field.",
        ) from error


def load_recipe(name: str, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """A shipped recipe by name or a TOML file by path, with overrides laid over it."""
    return build_recipe(recipe_table(name, overrides), origin=f"recipe {name}")


def recipe_table(name: str, overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A recipe as the dictionary of what it and the overrides say, before any default is filled in."""
    path = find_recipe(name)
    if path is None:
        known = shipped_recipes()
        near = difflib.get_close_matches(name, known, n=1)
        raise RecipeError(
            f"There is no recipe named {name!r}.",
            f"Shipped recipes: {', '.join(known)}.",
            f"Did you mean {near[0]!r}?" if near else "A recipe of your own is a path ending in .toml.",
        )
    return merge(read_toml(path), overrides or {})


def recipe_toml(recipe: BaseModel) -> str:
    """The recipe as TOML, every field written out but those that are none unless said otherwise."""
    return tomli_w.dumps(_toml_table(recipe))


def recipe_differences(old: Recipe, new: Recipe) -> dict[str, tuple[Any, Any]]:
    """Dotted fields whose values differ, with both values."""
    flat_old, flat_new = flatten(old), flatten(new)
    names = sorted(flat_old.keys() | flat_new.keys())
    return {
        name: (flat_old.get(name), flat_new.get(name)) for name in names if flat_old.get(name) != flat_new.get(name)
    }


def flatten(recipe: Recipe) -> dict[str, Any]:
    """All fields of all sections by dotted name."""
    dump = recipe.model_dump(mode="json")
    return {f"{section}.{field}": value for section in SECTIONS for field, value in dump[section].items()}


def expand_path(path: str) -> Path:
    """A path of a recipe with its ``$VARIABLES`` and ``~`` filled in. Raises RecipeError where one is unset."""
    for variable in re.findall(r"\$\{?(\w+)\}?", path):
        if variable not in os.environ:
            raise RecipeError(
                f"The path {path!r} needs the environment variable {variable}, which is not set.",
                f"{variable} names the folder that holds the recipe's data.",
                f"Set it (export {variable}=/path/to/data) or give the file yourself: --data.path FILE.",
            )
    return Path(os.path.expandvars(path)).expanduser()


def parse_overrides(pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Flags as (dotted name, text) to override values: hyphens become underscores, "none" becomes None, a list
    collects every mention. Raises RecipeError for a field no section has."""
    overrides: dict[str, Any] = {}
    for flag, text in pairs:
        dotted = flag.replace("-", "_")
        fields = find_fields(dotted)
        if not fields:
            raise unknown_field_error(dotted, text)
        value = _none_or(text, fields)
        if any(_is_list(field) for field in fields) and value is not None:
            overrides.setdefault(dotted, []).append(value)
        else:
            overrides[dotted] = value
    return overrides


def _spelled_out(section: str, fields: Any) -> Any:
    """A section's dictionary with what TOML cannot say, None for "none", and what it need not, the default kind."""
    if section not in SECTIONS or not isinstance(fields, Mapping):
        return fields
    default = Recipe.model_fields[section].default
    kind = {"kind": default.kind} if "kind" in type(default).model_fields else {}
    given = {name: _none_or(value, find_fields(f"{section}.{name}")) for name, value in fields.items()}
    return {**kind, **given}


def _none_or(value: Any, fields: Sequence[Any]) -> Any:
    return None if value == "none" and any(type(None) in get_args(field.annotation) for field in fields) else value


def _toml_table(model: BaseModel) -> dict[str, Any]:
    """Fields as TOML holds them: a None that the default would not restore is written "none"."""
    table: dict[str, Any] = {}
    for name, value in model:
        if isinstance(value, BaseModel):
            table[name] = _toml_table(value)
        elif value is not None:
            table[name] = value
        elif type(model).model_fields[name].default is not None:
            table[name] = "none"
    return table


def _is_list(field: Any) -> bool:
    return get_origin(field.annotation) is list
