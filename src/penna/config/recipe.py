"""Recipes as TOML files: reading, overriding, validating and writing them."""

from __future__ import annotations

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
from penna.config.validation import did_you_mean
from penna.errors import RecipeError


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with Penna: name and file."""
    folder = Path(str(resources.files("penna.recipes")))
    return {file.stem: file for file in sorted(folder.glob("*.toml"))}


def find_recipe(name: str) -> Path | None:
    """The file of a shipped recipe, or a path ending in .toml; None if ``name`` is neither."""
    if name.endswith(".toml"):
        return Path(name)
    return shipped_recipes().get(name)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file. Raises RecipeError if it is missing or not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(
            f"The recipe {path} cannot be read: {error.strerror or error}.",
            "A recipe is a TOML file.",
            "Check the path, or list the shipped recipes with `penna recipes`.",
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(
            f"The recipe {path} is not valid TOML: {error}.",
            "A recipe has sections such as [model] with lines such as n_layer = 4.",
            "Fix that line; `penna recipes default` prints a complete recipe to copy from.",
        ) from error


def merge(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a recipe dictionary with dotted overrides (``{"train.steps": 20}``).

    A new ``kind`` drops the fields that only the old kind has. A new budget replaces the old one; a budget of None
    removes only itself.
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
    """Validate a recipe dictionary. Raises RecipeError that names every error."""
    try:
        return Recipe.model_validate({name: _normalize_section(name, value) for name, value in table.items()})
    except ValidationError as error:
        errors = [explain_error(detail) for detail in error.errors()]
        raise RecipeError(
            f"The {origin} is invalid: {errors[0][0]}"
            if len(errors) == 1
            else f"The {origin} is invalid:\n" + "\n".join(f"  - {happened}" for happened, _ in errors),
            "\n".join(dict.fromkeys(expected for _, expected in errors if expected)),
            "Correct it in the file or on the command line; `penna recipes NAME` explains every field.",
        ) from error


def load_recipe(name: str, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """A shipped recipe or a TOML file, with overrides."""
    return build_recipe(recipe_table(name, overrides), origin=f"recipe {name}")


def recipe_table(name: str, overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A recipe as a dictionary of the values that it and the overrides give, without defaults."""
    path = find_recipe(name)
    if path is None:
        known = shipped_recipes()
        raise RecipeError(
            f"There is no recipe named {name!r}.",
            f"Shipped recipes: {', '.join(known)}.",
            did_you_mean(name, known).strip() or "To use your own recipe, give a path ending in .toml.",
        )
    return merge(read_toml(path), overrides or {})


def recipe_toml(recipe: BaseModel) -> str:
    """The recipe as TOML, with every field except those that are None by default."""
    return tomli_w.dumps(_toml_table(recipe))


def recipe_differences(old: Recipe, new: Recipe) -> dict[str, tuple[Any, Any]]:
    """The dotted fields whose values differ, with both values."""
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
    """A path with ``$VARIABLES`` and ``~`` expanded. Raises RecipeError if a variable is not set."""
    for variable in re.findall(r"\$\{?(\w+)\}?", path):
        if variable not in os.environ:
            raise RecipeError(
                f"The path {path!r} needs the environment variable {variable}, which is not set.",
                f"{variable} names the folder that contains the recipe's data.",
                f"Set it (export {variable}=/path/to/data), or give the file directly: --data.path FILE.",
            )
    return Path(os.path.expandvars(path)).expanduser()


def parse_overrides(pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Turn flags, as (dotted name, text), into overrides.

    Hyphens in names become underscores, and "none" becomes None if the field allows it. A list field collects repeated
    flags. Raises RecipeError for an unknown field.
    """
    overrides: dict[str, Any] = {}
    for flag, text in pairs:
        dotted = flag.replace("-", "_")
        fields = find_fields(dotted)
        if not fields:
            raise unknown_field_error(dotted, text)
        value = parse_none(dotted, text)
        if any(get_origin(field.annotation) is list for field in fields) and value is not None:
            overrides.setdefault(dotted, []).append(value)
        else:
            overrides[dotted] = value
    return overrides


def parse_none(dotted: str, value: Any) -> Any:
    """``value``, or None for "none" if the field with this dotted name is optional."""
    optional = any(type(None) in get_args(field.annotation) for field in find_fields(dotted))
    return None if value == "none" and optional else value


def _normalize_section(section: str, fields: Any) -> Any:
    """A section's dictionary with its default kind added and "none" replaced by None, which TOML does not have."""
    if section not in SECTIONS or not isinstance(fields, Mapping):
        return fields
    default = Recipe.model_fields[section].default
    kind = {"kind": default.kind} if "kind" in type(default).model_fields else {}
    return {**kind, **{name: parse_none(f"{section}.{name}", value) for name, value in fields.items()}}


def _toml_table(model: BaseModel) -> dict[str, Any]:
    """The fields of a model for TOML; a None that is not the default is written as "none"."""
    table: dict[str, Any] = {}
    for name, value in model:
        if isinstance(value, BaseModel):
            table[name] = _toml_table(value)
        elif value is not None:
            table[name] = value
        elif type(model).model_fields[name].default is not None:
            table[name] = "none"
    return table
