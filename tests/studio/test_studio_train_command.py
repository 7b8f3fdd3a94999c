"""The choices of the New run page and the command that they become mean the same recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from penna.api.recipes import resolve_recipe
from penna.cli.main import parse
from penna.config.recipe import parse_overrides, shipped_recipes
from penna.config.schema import SECTIONS, Recipe, section_models
from penna.errors import DataError, RecipeError
from penna.studio.train_command import PATH_FIELDS, SIZES, RunChoices, offered_recipes, parse_fields

NOT_PATHS = {  # text fields that hold no path
    "data.format", "data.document", "data.text_column", "data.label_column", "data.pair_column", "data.messages_column",
    "data.prompt_column", "data.completion_column", "data.where", "data.columns", "data.quoting", "data.split",
    "data.windows", "tokenizer.kind", "model.arch", "model.preset", "model.positions", "model.norm_position",
    "model.norm", "model.mlp", "model.residual_init", "task.kind", "task.labels", "task.pooling", "task.class_weights",
    "task.best", "task.cut", "task.loss_on", "task.separator", "optim.kind", "schedule.kind", "schedule.unit",
    "train.evaluate_every", "train.checkpoint_every", "train.device", "train.precision", "train.matmul",
    "train.compile", "train.prompts", "train.sample_every",
}  # fmt: skip


@pytest.fixture
def texts(tmp_path: Path) -> tuple[Path, Path]:
    train, valid = tmp_path / "my text.tsv", tmp_path / "valid.tsv"
    for file in (train, valid):
        file.write_text("text\tlabel\none\ta\ntwo\tb\n")
    return train, valid


def recipe_of_command(words: list[str]) -> Recipe:
    arguments = parse(["train", *words])
    assert arguments is not None
    return resolve_recipe(arguments.target, parse_overrides(arguments.overrides))[0]


@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"recipe": "nsmc-classify"},
        {"recipe": "demo", "size": "tiny"},
        {"task": "classify", "size": "medium"},
        {"fields": {"data.document": "line", "data.text_column": "a b", "train.minutes": 0.5, "model.qk_norm": False}},
        {"fields": {"train.prompts": ["one", "two words"], "model.n_kv_head": None, "train.seed": 3}},
    ],
)
def test_the_command_gives_the_chosen_recipe(texts: tuple[Path, Path], chosen: dict[str, Any]) -> None:
    choices = RunChoices(texts=texts[:1], valid_texts=texts[1:], **chosen)
    recipe, _ = choices.resolved()
    assert recipe_of_command(choices.arguments) == recipe
    assert recipe.data.path == [str(texts[0])]
    assert recipe.data.valid_path == [str(texts[1])]
    assert recipe.data.source == "files"
    if "size" in chosen:
        assert {name: getattr(recipe.model, name) for name in SIZES[chosen["size"]]} == SIZES[chosen["size"]]


def test_every_recipe_for_any_text_reads_a_chosen_text_like_the_default(texts: tuple[Path, Path]) -> None:
    for_any_text = [recipe.name for recipe in offered_recipes() if recipe.any_text]
    assert {"default", "demo", "shakespeare-char", "nsmc-best"} <= set(for_any_text)
    read = {"valid_fraction", "split"}
    default = RunChoices(texts=texts[:1]).resolved()[0].data.model_dump(exclude=read)
    for name in for_any_text:
        assert RunChoices(texts=texts[:1], recipe=name).resolved()[0].data.model_dump(exclude=read) == default, name


def test_recipes_without_their_text_are_not_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PENNA_DATA", raising=False)
    offered = {recipe.name: recipe for recipe in offered_recipes()}
    assert next(iter(offered)) == "default"
    assert [name for name, recipe in offered.items() if recipe.own_text] == ["demo"]
    assert "korean-small" not in offered  # needs validation files that are not here
    assert offered.keys() <= shipped_recipes().keys()
    RunChoices().check_text(offered["demo"])
    RunChoices(texts=(Path("a.txt"),)).check_text(offered["default"])
    with pytest.raises(DataError, match="No text is chosen"):
        RunChoices().check_text(offered["default"])


def test_a_recipe_for_its_own_text_refuses_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "korean-text"
    folder.mkdir()
    for name in ("train.jsonl.gz", "valid.jsonl"):
        (folder / name).write_text("{}")
    monkeypatch.setenv("PENNA_DATA", str(tmp_path))
    korean = next(recipe for recipe in offered_recipes() if recipe.name == "korean-small")
    RunChoices().check_text(korean)
    with pytest.raises(RecipeError, match="korean-small works only with its own text"):
        RunChoices(texts=(Path("a.txt"),)).check_text(korean)


@pytest.mark.parametrize("field", sorted(PATH_FIELDS))
def test_a_field_that_holds_a_path_is_rejected(field: str) -> None:
    with pytest.raises(RecipeError, match=f"{field} cannot be set here"):
        _ = RunChoices(fields={field: "/etc/passwd"}).arguments


def test_every_text_field_is_classified_as_a_path_or_not() -> None:
    found = {
        f"{section}.{name}"
        for section in SECTIONS
        for model in section_models(section)
        for name, field in model.model_fields.items()
        if "str" in repr(field.annotation) or "Literal" in repr(field.annotation)
    }
    assert found == PATH_FIELDS | NOT_PATHS


def test_fields_are_parsed_one_per_line() -> None:
    text = '\n train.batch_size = 32\n--model.n-layer=3\ntask.separator = "a = b"\n'
    assert parse_fields(text) == {"train.batch_size": "32", "model.n_layer": "3", "task.separator": "a = b"}
    for wrong in ("train.batch_size", "train.batch_size =", "nothing.such = 3"):
        with pytest.raises(RecipeError):
            parse_fields(wrong)
