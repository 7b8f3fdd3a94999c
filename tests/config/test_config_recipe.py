"""Recipes: reading, overriding, validating and writing; and errors that name the field, value and nearest spelling."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penna.config.recipe import (
    build_recipe,
    expand_path,
    flatten,
    load_recipe,
    merge,
    parse_overrides,
    recipe_differences,
    recipe_toml,
    shipped_recipes,
)
from penna.config.schema import SECTIONS, Recipe, section_models
from penna.config.tasks import ClassifyTask
from penna.config.training import MultiStepSchedule
from penna.errors import RecipeError


def errors_of(table: dict) -> str:
    with pytest.raises(RecipeError) as caught:
        build_recipe(table)
    return str(caught.value)


# --- round trip


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_is_valid_and_has_a_description(name: str):
    recipe = load_recipe(name)
    assert 10 <= len(recipe.description) <= 100
    assert "\n" not in recipe.description
    assert build_recipe(tomllib.loads(recipe_toml(recipe))) == recipe


def test_the_basic_recipes_are_shipped():
    assert {"default", "demo", "shakespeare-char"} <= shipped_recipes().keys()


FRACTIONS = st.floats(0.0009765625, 0.9990234375)
POSITIVE = st.floats(1e-12, 1e12)
TABLES = st.fixed_dictionaries(
    {},
    optional={
        "description": st.text(max_size=20),
        "data": st.fixed_dictionaries(
            {}, optional={"path": st.lists(st.text(max_size=8), max_size=3), "valid_fraction": FRACTIONS}
        ),
        "model": st.fixed_dictionaries(
            {"preset": st.sampled_from(["gpt2", "gpt1", "modern"])},
            optional={"n_head": st.sampled_from([1, 2, 12]), "dropout": FRACTIONS, "tie": st.booleans()},
        ),
        "optim": st.fixed_dictionaries(
            {"kind": st.sampled_from(["adamw", "muon"])},
            optional={"grad_clip": st.none() | POSITIVE, "learning_rate": POSITIVE, "eps": POSITIVE},
        ),
        "schedule": st.one_of(
            st.fixed_dictionaries({"kind": st.just("cosine")}, optional={"final_ratio": FRACTIONS}),
            st.fixed_dictionaries(
                {
                    "kind": st.just("multi_step"),
                    "milestones": st.lists(st.integers(1, 99), min_size=1, unique=True).map(sorted),
                }
            ),
        ),
        "train": st.one_of(
            st.fixed_dictionaries({"steps": st.integers(1, 10**12)}, optional={"minutes": st.none()}),
            st.fixed_dictionaries({"epochs": POSITIVE}, optional={"prompts": st.lists(st.text(max_size=9))}),
        ),
    },
)


@settings(max_examples=60, deadline=None)
@given(TABLES)
def test_a_recipe_survives_a_round_trip_through_toml(table: dict):
    recipe = build_recipe(table)
    assert build_recipe(tomllib.loads(recipe_toml(recipe))) == recipe


def test_a_none_that_is_not_the_default_survives_toml():
    recipe = build_recipe({"optim": {"grad_clip": None}})
    assert 'grad_clip = "none"' in recipe_toml(recipe)
    assert build_recipe(tomllib.loads(recipe_toml(recipe))).optim.grad_clip is None
    assert build_recipe({}).optim.grad_clip == 1.0


def test_the_toml_contains_every_field_that_is_not_none():
    recipe = load_recipe("default")
    table = tomllib.loads(recipe_toml(recipe))
    written = {f"{section}.{field}" for section in SECTIONS for field in table[section]}
    assert written == {name for name, value in flatten(recipe).items() if value is not None}


def test_a_section_without_a_kind_has_the_default_kind():
    assert build_recipe({"optim": {"learning_rate": 0.5}}).optim.kind == "adamw"
    assert build_recipe({"schedule": {"warmup_steps": 3}}).schedule.kind == "linear"
    assert build_recipe(merge({}, {"optim.beta1": "0.5"})).optim.beta1 == 0.5


# --- overrides


def test_overrides_change_only_the_fields_that_they_name():
    base = {"train": {"steps": 5, "prompts": ["a"]}, "model": {"n_layer": 2}}
    merged = merge(base, {"train.steps": 9, "optim.learning_rate": 0.1})
    assert merged == {
        "train": {"steps": 9, "prompts": ["a"]},
        "model": {"n_layer": 2},
        "optim": {"learning_rate": 0.1},
    }
    assert base == {"train": {"steps": 5, "prompts": ["a"]}, "model": {"n_layer": 2}}


def test_a_new_kind_drops_the_fields_that_only_the_old_kind_has():
    base = {"optim": {"kind": "muon", "momentum": 0.9, "matrix_learning_rate": 0.3, "beta1": 0.8}}
    assert merge(base, {"optim.kind": "adamw"}) == {"optim": {"kind": "adamw", "beta1": 0.8}}
    recipe = build_recipe(merge(base, {"optim.kind": "adamw"}))
    assert (recipe.optim.kind, recipe.optim.beta1) == ("adamw", 0.8)


def test_an_unchanged_kind_drops_nothing():
    base = {"optim": {"kind": "muon", "momentum": 0.9}}
    assert merge(base, {"optim.kind": "muon"}) == base


@pytest.mark.parametrize("order", [1, -1])
def test_fields_of_a_new_kind_can_come_before_or_after_it(order: int):
    base = {"schedule": {"kind": "linear", "final_ratio": 0.2, "warmup_steps": 4}}
    pairs = [("schedule.kind", "multi_step"), ("schedule.every", 10)][::order]
    assert merge(base, dict(pairs)) == {"schedule": {"kind": "multi_step", "warmup_steps": 4, "every": 10}}


@pytest.mark.parametrize("order", [1, -1])
def test_an_override_that_the_new_kind_does_not_have_is_refused(order: int):
    pairs = [("optim.kind", "adamw"), ("optim.momentum", 0.9)][::order]
    message = errors_of(merge({"optim": {"kind": "muon"}}, dict(pairs)))
    assert "there is no field optim.momentum with optim.kind = 'adamw' (got 0.9)" in message


@pytest.mark.parametrize("old", ["steps", "epochs", "tokens", "minutes"])
@pytest.mark.parametrize("new", ["steps", "epochs", "tokens", "minutes"])
def test_a_new_budget_replaces_the_old_one(old: str, new: str):
    recipe = build_recipe(merge({"train": {old: 3, "batch_size": 4}}, {f"train.{new}": 8}))
    given = {name: getattr(recipe.train, name) for name in ("steps", "epochs", "tokens", "minutes")}
    assert {name: value for name, value in given.items() if value is not None} == {new: 8}
    assert recipe.train.batch_size == 4


def test_a_budget_of_none_removes_only_itself():
    assert build_recipe(merge({"train": {"minutes": 2}}, {"train.steps": None})).train.minutes == 2
    assert build_recipe(merge({"train": {"steps": 2}}, {"train.steps": None})).train.minutes == 5


def test_two_budgets_are_refused():
    for table in (
        merge({}, {"train.steps": 3, "train.minutes": 2}),
        merge({"train": {"epochs": 1}}, {"train.steps": 3, "train.tokens": 2}),
        {"train": {"steps": 3, "tokens": 9}},
    ):
        assert "in [train], give one budget of steps, epochs, tokens, minutes, not steps and" in errors_of(table)


@pytest.mark.parametrize("dotted", ["train", "train.", "description", "modle.n_layer", "model.kind", "x.kind"])
def test_an_override_of_an_unknown_field_is_a_recipe_error(dotted: str):
    with pytest.raises(RecipeError):
        build_recipe(merge({}, {dotted: "x"}))


def test_flags_become_overrides():
    pairs = [
        ("optim.learning-rate", "3e-4"),
        ("model.n_layer", "3"),
        ("train.grad-clip", "none"),
    ]
    with pytest.raises(RecipeError, match=r"no field train\.grad_clip"):
        parse_overrides(pairs)
    overrides = parse_overrides([*pairs[:2], ("optim.grad-clip", "none"), ("model.positions", "none")])
    assert overrides == {
        "optim.learning_rate": "3e-4",
        "model.n_layer": "3",
        "optim.grad_clip": None,
        "model.positions": "none",  # here "none" is one of the choices
    }
    recipe = build_recipe(merge({}, overrides))
    assert (recipe.optim.learning_rate, recipe.model.n_layer, recipe.model.positions) == (3e-4, 3, "none")
    assert recipe.optim.grad_clip is None


def test_a_list_collects_repeated_flags_and_a_single_value_takes_the_last():
    overrides = parse_overrides(
        [
            ("train.prompts", "one"),
            ("train.steps", "3"),
            ("train.prompts", ""),
            ("train.steps", "4"),
            ("schedule.kind", "multi_step"),
            ("schedule.milestones", "5"),
            ("schedule.milestones", "9"),
        ]
    )
    recipe = build_recipe(merge({"train": {"prompts": ["old"]}}, overrides))
    assert recipe.train.prompts == ["one", ""]
    assert recipe.train.steps == 4
    assert isinstance(recipe.schedule, MultiStepSchedule)
    assert recipe.schedule.milestones == [5, 9]


def test_every_field_can_be_a_flag():
    names = {(s, field) for s in SECTIONS for model in section_models(s) for field in model.model_fields}
    assert len(names) > 60
    for section, field in names:
        assert parse_overrides([(f"{section}.{field.replace('_', '-')}", "1")])


# --- errors


def test_a_misspelled_field_is_reported_with_its_value_and_the_nearest_field():
    message = errors_of({"model": {"n_layr": 3}})
    assert "there is no field model.n_layr (got 3). Did you mean model.n_layer?" in message
    assert "`penna recipes NAME`" in message
    assert "Fields of model: arch, bias, block_size, dropout" in message


def test_a_field_of_another_kind_is_refused_with_the_fields_of_this_kind():
    message = errors_of({"optim": {"kind": "adamw", "momentum": 0.9}})
    assert "there is no field optim.momentum with optim.kind = 'adamw' (got 0.9)" in message
    fields = "beta1, beta2, eps, grad_clip, kind, learning_rate, ngram_learning_rate, weight_decay"
    assert f"Fields of optim with optim.kind = 'adamw': {fields}." in message
    assert "Did you mean optim.momentum?" in errors_of({"optim": {"kind": "muon", "momentun": 0.9}})


@pytest.mark.parametrize("value", [3, {"n_layer": 3}])
def test_a_misspelled_section_is_reported_with_the_nearest_section(value: object):
    message = errors_of({"modle": value})
    assert "there is no section 'modle'. Did you mean 'model'?" in message
    assert "Correct it in the file" in message
    assert "Sections: data, tokenizer, model, task, optim, schedule, train." in message


@pytest.mark.parametrize(
    ("section", "field", "value", "allowed", "nearest"),
    [
        ("optim", "kind", "adam", "'adamw', 'muon'", "adamw"),
        ("schedule", "kind", "cosin", "'constant', 'linear', 'cosine', 'trapezoid', 'multi_step'", "cosine"),
        ("tokenizer", "kind", "bp", "'char', 'bpe', 'unigram', 'file'", "bpe"),
        ("task", "kind", "pretrian", "'pretrain', 'classify', 'chat', 'complete'", "pretrain"),
        ("model", "preset", "modren", "'gpt2', 'gpt2-medium', 'gpt2-large', 'gpt2-xl', 'gpt1', 'modern'", "modern"),
        ("model", "norm", "rms_norm", "'layernorm', 'rmsnorm'", "rmsnorm"),
    ],
)
def test_a_misspelled_choice_is_reported_with_the_nearest_choice(section, field, value, allowed, nearest):
    message = errors_of({section: {field: value}})
    assert f"{section}.{field} must be one of {allowed} (got {value!r}). Did you mean {nearest!r}?" in message


def test_a_misspelled_flag_is_reported_with_its_value_and_the_nearest_field():
    with pytest.raises(RecipeError) as caught:
        parse_overrides([("optim.lerning-rate", "0.1")])
    assert caught.value.happened == "There is no field optim.lerning_rate (got '0.1')."
    assert "matrix_learning_rate" in caught.value.expected
    assert caught.value.advice == "Did you mean optim.learning_rate?"
    with pytest.raises(RecipeError, match="no section 'optm'") as caught:
        parse_overrides([("optm.beta1", "0.1")])
    assert caught.value.advice == "Did you mean 'optim'?"


def test_all_errors_are_reported_at_once():
    message = errors_of({"model": {"n_layer": "x"}, "train": {"stepz": 1, "seed": -1}, "trian": {}})
    for part in (
        "model.n_layer must be",
        "no field train.stepz",
        "train.seed must be at least 0",
        "no section 'trian'",
    ):
        assert part in message


@pytest.mark.parametrize("table", [{"model": 3}, {"optim": 3}, {"optim": None}, {"optim": {"kind": 3}}, {"model": []}])
def test_a_section_that_is_not_a_table_is_a_recipe_error(table: dict):
    assert next(iter(table)) in errors_of(table)


# --- files


def test_overrides_apply_to_a_recipe_file(tmp_path: Path):
    file = tmp_path / "own.toml"
    file.write_text('[train]\nsteps = 5\n[tokenizer]\nkind = "char"\n', encoding="utf-8")
    recipe = load_recipe(str(file), {"train.minutes": 1})
    assert (recipe.train.steps, recipe.train.minutes, recipe.tokenizer.kind) == (None, 1, "char")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"steps = ", "not valid TOML"), (b"\xff", "not valid TOML"), (None, "cannot be read")],
)
def test_an_unreadable_recipe_file_is_reported(tmp_path: Path, content: bytes | None, message: str):
    file = tmp_path / "own.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(RecipeError, match=message) as caught:
        load_recipe(str(file))
    assert str(file) in caught.value.happened


def test_an_unknown_recipe_name_is_reported_with_the_nearest_shipped_recipe():
    with pytest.raises(RecipeError) as caught:
        load_recipe("shakespere-char")
    assert "'shakespere-char'" in caught.value.happened
    assert all(name in caught.value.expected for name in shipped_recipes())
    assert "'shakespeare-char'" in caught.value.advice


def test_paths_expand_variables_and_home(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PENNA_DATA", "/data")
    monkeypatch.setenv("HOME", "/home/someone")
    assert expand_path("$PENNA_DATA/a.txt") == expand_path("${PENNA_DATA}/a.txt") == Path("/data/a.txt")
    assert expand_path("~/a.txt") == Path("/home/someone/a.txt")


def test_a_path_with_an_unset_variable_names_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("PENNA_DATA", raising=False)
    for path in ("$PENNA_DATA/a.txt", "${PENNA_DATA}/a.txt"):
        with pytest.raises(RecipeError) as caught:
            expand_path(path)
        assert "PENNA_DATA" in caught.value.happened
        assert "not set" in caught.value.happened
        assert "export PENNA_DATA=" in caught.value.advice


# --- differences


def test_differences_list_each_changed_field_with_both_values():
    old = build_recipe({"train": {"steps": 5}, "optim": {"kind": "muon", "momentum": 0.9}})
    new = build_recipe({"train": {"steps": 6}, "optim": {"kind": "adamw"}, "model": {"n_layer": 3}})
    assert recipe_differences(old, new) == {
        "model.n_layer": (12, 3),
        "optim.kind": ("muon", "adamw"),
        "optim.matrix_learning_rate": (0.02, None),
        "optim.momentum": (0.9, None),
        "train.steps": (5, 6),
        "optim.matrix_weight_decay": (0.0, None),
    }
    assert recipe_differences(old, old) == {}


def test_every_section_and_field_is_described():
    assert SECTIONS == ("data", "tokenizer", "model", "task", "optim", "schedule", "train")
    assert all(field.description for s in SECTIONS for m in section_models(s) for field in m.model_fields.values())
    assert isinstance(build_recipe({}), Recipe)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ("balanced", "balanced"),
        ("spam=4,ham=0.5", {"spam": 4.0, "ham": 0.5}),
        ("a=b=2", {"a=b": 2.0}),
        ({"spam": 4}, {"spam": 4.0}),
    ],
)
def test_class_weights_are_a_word_or_a_table_and_also_parse_from_a_flag(weights: Any, expected: Any) -> None:
    recipe = build_recipe({"data": {"path": "x"}, "task": {"kind": "classify", "class_weights": weights}})
    assert isinstance(recipe.task, ClassifyTask)
    assert recipe.task.class_weights == expected


@pytest.mark.parametrize("weights", ["many", "spam=x", {"spam": "x"}, 3])
def test_invalid_class_weights_are_refused_with_the_rule(weights: Any) -> None:
    with pytest.raises(
        RecipeError, match="class_weights must be none, balanced, or label weights such as spam=4,ham=1"
    ):
        build_recipe({"data": {"path": "x"}, "task": {"kind": "classify", "class_weights": weights}})
