"""The choices of the New run page as arguments of ``penna train``.

Paths come from the lists of ``text_files.py`` and from existing runs; a page cannot set a field that holds a path.
Fields in which a recipe describes its own text are reset to their defaults when another text is chosen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from penna.api.recipes import resolve_recipe
from penna.config.recipe import parse_overrides, read_toml, recipe_table, shipped_recipes
from penna.config.schema import Recipe
from penna.config.sections import DataConfig
from penna.data.sources.reader import find_sources
from penna.errors import DataError, PennaError, RecipeError
from penna.runs.folder import RUNS

DEFAULT = "default"
SIZES: Mapping[str, Mapping[str, int]] = {
    "tiny": {"n_layer": 2, "n_head": 2, "n_embd": 64, "block_size": 64},
    "small": {"n_layer": 4, "n_head": 4, "n_embd": 192, "block_size": 128},
    "medium": {"n_layer": 6, "n_head": 6, "n_embd": 384, "block_size": 256},
    "large": {"n_layer": 12, "n_head": 12, "n_embd": 768, "block_size": 512},
}
PATH_FIELDS = frozenset({
    "data.path", "data.valid_path", "data.source", "tokenizer.path", "train.init_from", "task.template",
})  # fmt: skip
_TEXT_INDEPENDENT = ("path", "split", "valid_fraction", "allow_bad_records")  # fields of [data] that are kept
_NOT_RESETTABLE = ("valid_path", "where", "columns")  # no flag empties these lists


@dataclass(frozen=True)
class OfferedRecipe:
    """A shipped recipe and the texts it can be used with here."""

    name: str
    description: str
    task: str
    any_text: bool  # works with any text
    own_text: bool  # its own text is available


@dataclass(frozen=True)
class RunChoices:
    """All choices for a new run. None or an empty value keeps the recipe's own."""

    texts: tuple[Path, ...] = ()
    valid_texts: tuple[Path, ...] = ()
    recipe: str = DEFAULT
    task: str | None = None
    size: str | None = None  # one of SIZES
    init_from: Path | None = None  # a run whose weights are the start
    fields: Mapping[str, Any] = field(default_factory=dict[str, Any])  # by dotted name

    @property
    def targets(self) -> list[str]:
        """The arguments of ``penna train`` before its flags."""
        recipe = [] if self.texts and self.recipe == DEFAULT else [self.recipe]
        return [*recipe, *map(str, self.texts)]

    @property
    def overrides(self) -> dict[str, Any]:
        """The recipe fields that override the recipe. Raises RecipeError for a field that holds a path."""
        forbidden = sorted(PATH_FIELDS & self.fields.keys())
        if forbidden:
            raise RecipeError(
                f"The field {forbidden[0]} cannot be set here.",
                "Choose texts and runs from the lists: pages cannot name files outside the studio's folders.",
                "Leave the field out, or use `penna train` in a terminal.",
            )
        table = recipe_table(self.recipe)
        overrides = _reset_data_fields(table) if self.texts else {}
        if self.valid_texts:
            overrides["data.valid_path"] = list(map(str, self.valid_texts))
        if self.task is not None and self.task != _task(table):
            overrides["task.kind"] = self.task
        if self.size is not None:
            overrides |= {f"model.{name}": value for name, value in SIZES[self.size].items()}
        if self.init_from is not None:
            overrides["train.init_from"] = str(self.init_from)
        return {**overrides, **self.fields}

    @property
    def arguments(self) -> list[str]:
        """All arguments of ``penna train``, as a person would type them."""
        return [*self.targets, *recipe_flags(self.overrides)]

    def resolved(self, runs_dir: Path = RUNS) -> tuple[Recipe, str]:
        """The recipe to train and a name for the run. Raises what ``penna train`` raises."""
        return resolve_recipe(self.targets, self.overrides, runs_dir=runs_dir)

    def check_text(self, recipe: OfferedRecipe) -> None:
        """Raise DataError or RecipeError unless the recipe and the chosen text work together."""
        if self.texts and not recipe.any_text:
            raise RecipeError(
                f"The recipe {recipe.name} works only with its own text: it names validation files, columns, a "
                "tokenizer or a start of its own.",
                "Another text needs a recipe for any text, such as default.",
                "Choose another recipe, or no text to train on the recipe's own.",
            )
        if not self.texts and not recipe.own_text:
            raise DataError(
                f"No text is chosen, and the text of the recipe {recipe.name} is not available here.",
                "Training needs a text.",
                "Upload or choose one, or use the recipe demo, which needs none.",
            )


def recipe_flags(overrides: Mapping[str, Any]) -> list[str]:
    """Dotted fields as flags, such as ``--train.batch-size 8``. A list repeats its flag for each value."""
    words: list[str] = []
    for dotted, value in overrides.items():
        for item in value if isinstance(value, list) else [value]:
            words += [f"--{dotted.replace('_', '-')}", _flag_value(item)]
    return words


def _flag_value(value: Any) -> str:
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def parse_fields(text: str) -> dict[str, Any]:
    """Parse fields, one per line: ``train.batch_size = 32``. Raises RecipeError for a line that is not a field."""
    pairs: list[tuple[str, str]] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        name, equals, value = line.partition("=")
        if not equals or not value.strip():
            raise RecipeError(
                f"The line {line!r} is not a field with a value.",
                "Write a field, an equals sign and a value on each line, such as train.batch_size = 32.",
                "`penna recipes default` lists all fields.",
            )
        pairs.append((name.strip().removeprefix("--"), value.strip().strip('"')))
    return parse_overrides(pairs)


def filled_fields(values: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """The fields of a form that are not empty."""
    return {dotted: value for dotted, value in values if value not in (None, "")}


def offered_recipes(runs_dir: Path = RUNS) -> tuple[OfferedRecipe, ...]:
    """The shipped recipes that can start a run here, the default first."""
    recipes = [_offered(name, file, runs_dir) for name, file in shipped_recipes().items()]
    usable = [recipe for recipe in recipes if recipe.any_text or recipe.own_text]
    return tuple(sorted(usable, key=lambda recipe: (recipe.name != DEFAULT, recipe.name)))


def _offered(name: str, file: Path, runs_dir: Path) -> OfferedRecipe:
    table = read_toml(file)
    data = table.get("data", {})
    is_bound = any(data.get(each) for each in _NOT_RESETTABLE) or "init_from" in table.get("train", {})
    needs_tokenizer_file = table.get("tokenizer", {}).get("kind") == "file"
    return OfferedRecipe(
        name=name,
        description=table.get("description", ""),
        task=_task(table),
        any_text=not is_bound and not needs_tokenizer_file,
        own_text=_has_own_text(name, runs_dir),
    )


def _has_own_text(name: str, runs_dir: Path) -> bool:
    """Whether everything that a recipe names exists: its text, its start and its tokenizer."""
    try:
        recipe, _ = resolve_recipe([name], runs_dir=runs_dir)
        if recipe.tokenizer.path is not None and not (Path(recipe.tokenizer.path).exists()):
            return False
        if recipe.data.source == "files":
            find_sources(recipe.data)
            find_sources(recipe.data, "valid")
    except PennaError:
        return False
    return recipe.data.source == "python" or bool(recipe.data.path)


def _reset_data_fields(table: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults of the fields in which a recipe describes its own text."""
    names = [name for name in table.get("data", {}) if name not in (*_TEXT_INDEPENDENT, *_NOT_RESETTABLE)]
    return {f"data.{name}": DataConfig.model_fields[name].default for name in names}


def _task(table: Mapping[str, Any]) -> str:
    return table.get("task", {}).get("kind", "pretrain")
