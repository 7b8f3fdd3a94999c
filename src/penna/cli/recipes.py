"""`penna recipes`: the shipped recipes with a line each, or one with every field explained."""

from __future__ import annotations

import sys
import textwrap
import tomllib
from pathlib import Path

import penna


def list_recipes() -> None:
    """Print name and description of every shipped recipe. Reads TOML only, so it is quick."""
    files = sorted((Path(penna.__file__).parent / "recipes").glob("*.toml"))
    width = max(len(file.stem) for file in files)
    for file in files:
        description = tomllib.loads(file.read_text(encoding="utf-8")).get("description", "")
        print(f"{file.stem:<{width}}  {description}")
    print("\n`penna recipes NAME` explains one; `penna train NAME` runs it.", file=sys.stderr)


def explain_recipe(name: str) -> None:
    """Print a recipe as TOML, each field with what it means and what it may be."""
    from penna.config.recipe import load_recipe
    from penna.config.schema import SECTIONS

    recipe = load_recipe(name)
    print(f"# {name}: {recipe.description}")
    for section in SECTIONS:
        model = getattr(recipe, section)
        print(f"\n[{section}]")
        for line in textwrap.wrap((type(model).__doc__ or "").strip(), 116):
            print(f"# {line}")
        for field, info in type(model).model_fields.items():
            _explain_field(field, getattr(model, field), info.description or "")


def _explain_field(name: str, value: object, description: str) -> None:
    import tomli_w

    print()
    for line in textwrap.wrap(description, 116):
        print(f"# {line}")
    print(f"# {name} is not set" if value is None else tomli_w.dumps({name: value}).strip())
