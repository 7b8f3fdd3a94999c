"""What a person chose for a new run, as the words of ``penna train``: choices in, recipe, fields and command out.

Paths come from the lists of ``texts.py`` and from the runs there are; a field in which a page could write another path
is refused. What a recipe says of its own text is taken back where another text is chosen, as far as words can.
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
PATHS = frozenset({
    "data.path", "data.valid_path", "data.source", "tokenizer.path", "train.init_from", "task.template",
})  # fmt: skip
_STAYS = ("path", "split", "valid_fraction", "allow_bad_records")  # of a recipe's [data], whatever text it is
_BOUND = ("valid_path", "where", "columns")  # lists that no word takes back


@dataclass(frozen=True)
class OfferedRecipe:
    """A shipped recipe, and what can be done with it here."""

    name: str
    description: str
    task: str
    any_text: bool  # whether it goes with a text of one's own
    own_text: bool  # whether the text it names is there


@dataclass(frozen=True)
class Choices:
    """All that a person chose; None and "" leave it to the recipe."""

    texts: tuple[Path, ...] = ()  # none: the recipe's own
    tests: tuple[Path, ...] = ()  # validation files
    recipe: str = DEFAULT
    task: str | None = None
    size: str | None = None  # one of SIZES
    start: Path | None = None  # a run whose weights it begins with
    fields: Mapping[str, Any] = field(default_factory=dict[str, Any])  # dotted

    @property
    def targets(self) -> list[str]:
        """What stands behind ``penna train`` before its flags."""
        named = [] if self.texts and self.recipe == DEFAULT else [self.recipe]
        return [*named, *map(str, self.texts)]

    @property
    def overrides(self) -> dict[str, Any]:
        """The recipe fields that are laid over. Raises RecipeError for a field that would name a path."""
        barred = sorted(PATHS & self.fields.keys())
        if barred:
            raise RecipeError(
                f"The field {barred[0]} cannot be written here.",
                "Texts and runs are chosen from lists, so that no page names a file outside the studio's folders.",
                "Leave it out; in a terminal, `penna train` takes it.",
            )
        table = recipe_table(self.recipe)
        found = _anew(table) if self.texts else {}
        if self.tests:
            found["data.valid_path"] = list(map(str, self.tests))
        if self.task is not None and self.task != _kind(table):
            found["task.kind"] = self.task
        if self.size is not None:
            found |= {f"model.{name}": value for name, value in SIZES[self.size].items()}
        if self.start is not None:
            found["train.init_from"] = str(self.start)
        return {**found, **self.fields}

    @property
    def words(self) -> list[str]:
        """What stands behind ``penna train``, as a person would type it."""
        return [*self.targets, *flags(self.overrides)]

    def resolved(self, runs_dir: Path = RUNS) -> tuple[Recipe, str]:
        """The recipe that would be trained, and a name for the run; raises as ``penna train`` would."""
        return resolve_recipe(self.targets, self.overrides, runs_dir=runs_dir)


def flags(overrides: Mapping[str, Any]) -> list[str]:
    """Dotted fields as flags: ``--train.batch-size 8``; a list is named once for each of its values."""
    words: list[str] = []
    for dotted, value in overrides.items():
        for one in value if isinstance(value, list) else [value]:
            words += [f"--{dotted.replace('_', '-')}", _as_word(one)]
    return words


def written_fields(text: str) -> dict[str, Any]:
    """Fields as a person writes them, one a line: ``train.batch_size = 32``. Raises RecipeError for what is none."""
    pairs: list[tuple[str, str]] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        name, equals, value = line.partition("=")
        if not equals or not value.strip():
            raise RecipeError(
                f"{line!r} is no field with a value.",
                "A field, an equals sign and a value on each line.",
                "Such as train.batch_size = 32; `penna recipes default` names all fields.",
            )
        pairs.append((name.strip().removeprefix("--"), value.strip().strip('"')))
    return parse_overrides(pairs)


def offered_recipes(runs_dir: Path = RUNS) -> tuple[OfferedRecipe, ...]:
    """The shipped recipes that a run can be begun with from here, the default first."""
    found = [_offered(name, file, runs_dir) for name, file in shipped_recipes().items()]
    usable = [recipe for recipe in found if recipe.any_text or recipe.own_text]
    return tuple(sorted(usable, key=lambda recipe: (recipe.name != DEFAULT, recipe.name)))


def _offered(name: str, file: Path, runs_dir: Path) -> OfferedRecipe:
    table = read_toml(file)
    data = table.get("data", {})
    bound = any(data.get(each) for each in _BOUND) or "init_from" in table.get("train", {})
    is_lent = table.get("tokenizer", {}).get("kind") == "file"
    return OfferedRecipe(
        name=name,
        description=table.get("description", ""),
        task=_kind(table),
        any_text=not bound and not is_lent,
        own_text=_has_text(name, runs_dir),
    )


def _has_text(name: str, runs_dir: Path) -> bool:
    """Whether all that a recipe names is there: its text, its start and its tokenizer."""
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


def _anew(table: Mapping[str, Any]) -> dict[str, Any]:
    """Fields that take back what a recipe says of its own text."""
    given = table.get("data", {})
    names = [name for name in given if name not in (*_STAYS, *_BOUND)]
    return {f"data.{name}": DataConfig.model_fields[name].default for name in names}


def _kind(table: Mapping[str, Any]) -> str:
    return table.get("task", {}).get("kind", "pretrain")


def _as_word(value: Any) -> str:
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def check_text(recipe: OfferedRecipe, *, has_text: bool) -> None:
    """Refuse a recipe without a text, and one that is bound to its own. Raises DataError or RecipeError."""
    if has_text and not recipe.any_text:
        raise RecipeError(
            f"The recipe {recipe.name} names validation files, columns, a tokenizer or a start of its own text.",
            "A recipe that goes with any text, such as default.",
            "Choose another recipe, or no text to train on the recipe's own.",
        )
    if not has_text and not recipe.own_text:
        raise DataError(
            f"No text is chosen, and the recipe {recipe.name} has none of its own here.",
            "A text to learn from.",
            "Upload or choose one; the recipe demo needs none.",
        )


def fields_from(values: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """The fields of a form that were filled in."""
    return {dotted: value for dotted, value in values if value not in (None, "")}
