"""``penna recipes``: list the shipped recipes, or print one with every field explained."""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

import penna
from penna.cli.console import note
from penna.cli.parser import Verbs

_WIDTH = 116


def add(verbs: Verbs) -> None:
    """Add the verb."""
    verbs.add("recipes", "list the shipped recipes, or explain one", "[NAME] [options]", _add_arguments, run)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="print this recipe with every field explained")


def run(arguments: argparse.Namespace) -> int:
    """List the recipes, or explain one."""
    if arguments.name is None:
        list_recipes()
    else:
        explain_recipe(arguments.name)
    return 0


def list_recipes() -> None:
    """Print the name and description of every shipped recipe. Only parses TOML, so it is fast."""
    import tomllib

    files = sorted((Path(penna.__file__).parent / "recipes").glob("*.toml"))
    width = max(len(file.stem) for file in files)
    for file in files:
        description = tomllib.loads(file.read_text(encoding="utf-8")).get("description", "")
        print(f"{file.stem:<{width}}  {description}")
    note("\n`penna recipes NAME` explains a recipe; `penna train NAME` trains it.")


def explain_recipe(name: str) -> None:
    """Print a recipe as TOML, with a comment above each field."""
    from penna.config.recipe import load_recipe
    from penna.config.schema import SECTIONS

    recipe = load_recipe(name)
    print(f"# {name}: {recipe.description}")
    for section in SECTIONS:
        model = getattr(recipe, section)
        print(f"\n[{section}]")
        _print_comment(type(model).__doc__ or "")
        for field, info in type(model).model_fields.items():
            _explain_field(field, getattr(model, field), info.description or "")


def _explain_field(name: str, value: object, description: str) -> None:
    import tomli_w

    print()
    _print_comment(description)
    print(f"# {name} is not set" if value is None else tomli_w.dumps({name: value}).strip())


def _print_comment(text: str) -> None:
    for line in textwrap.wrap(text.strip(), _WIDTH):
        print(f"# {line}")
