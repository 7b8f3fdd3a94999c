"""Choices of a page as the words of ``penna train``: what the words mean to the command line is what was chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from penna.api.recipes import resolve_recipe
from penna.cli.main import parse
from penna.config.recipe import parse_overrides, shipped_recipes
from penna.config.schema import SECTIONS, Recipe, section_models
from penna.errors import DataError, RecipeError
from penna.studio.plans import PATHS, SIZES, Choices, check_text, offered_recipes, written_fields

NO_PATHS = {  # fields of text that name no file
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


def as_the_terminal_means_it(words: list[str]) -> Recipe:
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
def test_the_command_is_the_choice(texts: tuple[Path, Path], chosen: dict[str, Any]) -> None:
    choices = Choices(texts=texts[:1], tests=texts[1:], **chosen)
    recipe, _ = choices.resolved()
    assert as_the_terminal_means_it(choices.words) == recipe
    assert recipe.data.path == [str(texts[0])]
    assert recipe.data.valid_path == [str(texts[1])]
    assert recipe.data.source == "files"
    if "size" in chosen:
        assert {name: getattr(recipe.model, name) for name in SIZES[chosen["size"]]} == SIZES[chosen["size"]]


def test_every_recipe_for_any_text_reads_a_chosen_text_as_the_default_does(texts: tuple[Path, Path]) -> None:
    fit_for_all = [recipe.name for recipe in offered_recipes() if recipe.any_text]
    assert {"default", "demo", "shakespeare-char", "nsmc-best"} <= set(fit_for_all)
    read = {"valid_fraction", "split"}
    default = Choices(texts=texts[:1]).resolved()[0].data.model_dump(exclude=read)
    for name in fit_for_all:
        assert Choices(texts=texts[:1], recipe=name).resolved()[0].data.model_dump(exclude=read) == default, name


def test_recipes_whose_text_is_not_here_are_not_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PENNA_DATA", raising=False)
    offered = {recipe.name: recipe for recipe in offered_recipes()}
    assert next(iter(offered)) == "default"
    assert [name for name, recipe in offered.items() if recipe.own_text] == ["demo"]
    assert "korean-small" not in offered  # bound to validation files that are not here
    assert offered.keys() <= shipped_recipes().keys()
    check_text(offered["demo"], has_text=False)
    check_text(offered["default"], has_text=True)
    with pytest.raises(DataError, match="No text is chosen"):
        check_text(offered["default"], has_text=False)


def test_a_recipe_bound_to_its_text_refuses_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "korean-text"
    folder.mkdir()
    for name in ("train.jsonl.gz", "valid.jsonl"):
        (folder / name).write_text("{}")
    monkeypatch.setenv("PENNA_DATA", str(tmp_path))
    korean = next(recipe for recipe in offered_recipes() if recipe.name == "korean-small")
    check_text(korean, has_text=False)
    with pytest.raises(RecipeError, match="korean-small names validation files"):
        check_text(korean, has_text=True)


@pytest.mark.parametrize("field", sorted(PATHS))
def test_no_field_that_holds_a_path_can_be_written(field: str) -> None:
    with pytest.raises(RecipeError, match=f"{field} cannot be written here"):
        _ = Choices(fields={field: "/etc/passwd"}).words


def test_every_field_of_text_is_known_to_hold_a_path_or_none() -> None:
    found = {
        f"{section}.{name}"
        for section in SECTIONS
        for model in section_models(section)
        for name, field in model.model_fields.items()
        if "str" in repr(field.annotation) or "Literal" in repr(field.annotation)
    }
    assert found == PATHS | NO_PATHS


def test_fields_are_written_one_a_line() -> None:
    text = '\n train.batch_size = 32\n--model.n-layer=3\ntask.separator = "a = b"\n'
    assert written_fields(text) == {"train.batch_size": "32", "model.n_layer": "3", "task.separator": "a = b"}
    for wrong in ("train.batch_size", "train.batch_size =", "nothing.such = 3"):
        with pytest.raises(RecipeError):
            written_fields(wrong)
