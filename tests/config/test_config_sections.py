"""Sections: presets, derived fields, and errors for values that are out of range or do not fit together."""

import pytest

from penna.config.recipe import build_recipe
from penna.config.sections import PRESETS, ModelConfig
from penna.errors import RecipeError

# Radford et al. 2019, table 2 (layers, width); heads from OpenAI's hparams.json; parameters counted in their files.
PUBLISHED = {
    "gpt2": (12, 12, 768, 124_439_808),
    "gpt2-medium": (24, 16, 1024, 354_823_168),
    "gpt2-large": (36, 20, 1280, 774_030_080),
    "gpt2-xl": (48, 25, 1600, 1_557_611_200),
}


@pytest.mark.parametrize("preset", PUBLISHED)
def test_gpt2_presets_have_the_published_shapes_and_sizes(preset: str):
    model = ModelConfig(preset=preset)
    layers, heads, width, parameters = PUBLISHED[preset]
    assert (model.n_layer, model.n_head, model.n_embd, model.block_size) == (layers, heads, width, 1024)
    block = 12 * width**2 + 13 * width  # 4 matrices of width squared and 8 in the MLP, their biases, two norms
    assert 50257 * width + 1024 * width + layers * block + 2 * width == parameters
    assert (model.head_dim, model.n_inner, model.tie, model.bias) == (64, 4 * width, True, True)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_fills_exactly_the_fields_that_are_not_given(preset: str):
    whole = ModelConfig(preset=preset)
    assert {name: getattr(whole, name) for name in PRESETS[preset]} == PRESETS[preset]
    given = {"n_layer": 3, "norm_eps": 0.5, "positions": "none", "tie": False}
    mixed = ModelConfig(preset=preset, **given)
    assert {name: getattr(mixed, name) for name in given} == given
    others = PRESETS[preset].keys() - given.keys()
    assert {name: getattr(mixed, name) for name in others} == {name: PRESETS[preset][name] for name in others}


def test_the_default_model_is_gpt2():
    assert ModelConfig() == ModelConfig(preset="gpt2")


@pytest.mark.parametrize(("width", "inner"), [(192, 512), (768, 2048), (100, 320), (24, 64), (25, 128)])
def test_swiglu_width_is_eight_thirds_rounded_up_to_a_multiple_of_64(width: int, inner: int):
    model = ModelConfig(preset="modern", n_embd=width, n_head=1, head_dim=2)
    assert model.n_inner == inner
    assert inner % 64 == 0
    assert 0 <= inner - width * 8 / 3 < 64


def test_sections_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        build_recipe({}).model.n_layer = 3


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"model": {"n_embd": 10, "n_head": 3}}, "n_embd = 10 must be divisible by n_head = 3"),
        ({"model": {"n_head": 6, "n_kv_head": 4}}, "n_head = 6 must be divisible by n_kv_head = 4"),
        ({"model": {"preset": "modern", "n_embd": 12, "n_head": 4}}, "rotary positions need an even head_dim, not 3"),
        ({"model": {"positions": "rotary", "head_dim": 5}}, "rotary positions need an even head_dim, not 5"),
        (
            {"model": {"positions": "sinusoidal", "n_embd": 9, "n_head": 3}},
            "sinusoidal positions need an even n_embd, not 9",
        ),
        ({"tokenizer": {"kind": "file"}}, 'kind = "file" needs a path'),
        ({"tokenizer": {"path": "tok"}}, 'a path needs kind = "file"'),
        ({"tokenizer": {"kind": "char", "path": "tok"}}, 'a path needs kind = "file"'),
        ({"schedule": {"kind": "multi_step"}}, "give either every or milestones"),
        ({"schedule": {"kind": "multi_step", "every": 5, "milestones": [3]}}, "give either every or milestones"),
        ({"schedule": {"kind": "multi_step", "milestones": [5, 3]}}, "must be positive and ascending, not [5, 3]"),
        ({"schedule": {"kind": "multi_step", "milestones": [3, 3]}}, "must be positive and ascending, not [3, 3]"),
        ({"schedule": {"kind": "multi_step", "milestones": [0]}}, "must be positive and ascending, not [0]"),
        ({"train": {"steps": 5, "epochs": 2}}, "not steps and epochs"),
    ],
)
def test_fields_that_do_not_fit_together_are_refused(table: dict, message: str):
    with pytest.raises(RecipeError) as caught:
        build_recipe(table)
    (section,) = table
    assert f"in [{section}], " in caught.value.happened
    assert message in caught.value.happened
    assert caught.value.advice


@pytest.mark.parametrize(
    ("dotted", "value"),
    [
        ("data.valid_fraction", 0.0),
        ("data.valid_fraction", 1.0),
        ("data.allow_bad_records", 1.5),
        ("data.limit", 0),
        ("tokenizer.vocab_size", 1),
        ("tokenizer.vocab_size", 1_000_001),
        ("model.n_layer", 0),
        ("model.dropout", 1.0),
        ("model.dropout", -0.1),
        ("model.vocab_size", 1),
        ("optim.learning_rate", 0),
        ("optim.learning_rate", float("nan")),
        ("optim.beta2", 1.0),
        ("optim.grad_clip", 0),
        ("schedule.final_ratio", 1.1),
        ("schedule.warmup_steps", -1),
        ("train.seed", -1),
        ("train.seed", 2**31),
        ("train.steps", 0),
        ("train.minutes", 0),
        ("train.sample_tokens", -1),
        ("train.device", "gpu"),
        ("train.device", "cuda:x"),
        # wrong types
        ("model.n_layer", "four"),
        ("model.n_layer", 2.5),
        ("model.tie", "perhaps"),
        ("train.steps", [3]),
        ("data.path", 3),
        ("train.precision", "float16"),
    ],
)
def test_a_value_out_of_range_or_of_the_wrong_type_is_reported_with_its_field_and_rule(dotted: str, value: object):
    section, field = dotted.split(".")
    with pytest.raises(RecipeError) as caught:
        build_recipe({section: {field: value}})
    assert f"{dotted} must be " in caught.value.happened and f"(got {value!r})" in caught.value.happened
    assert "expected_tags" not in str(caught.value)


def test_the_limits_of_the_ranges_are_allowed():
    recipe = build_recipe(
        {
            "data": {"allow_bad_records": 1, "limit": 1},
            "train": {"seed": 2**31 - 1, "sample_tokens": 0, "device": "cuda:1", "steps": 1},
            "optim": {"weight_decay": 0, "beta1": 0},
            "schedule": {"final_ratio": 1},
        }
    )
    assert recipe.train.device == "cuda:1"


def test_the_default_budget_is_five_minutes():
    assert build_recipe({}).train.minutes == 5
    train = build_recipe({"train": {"steps": 7}}).train
    assert (train.steps, train.minutes, train.epochs, train.tokens) == (7, None, None, None)


def test_one_path_becomes_a_list_and_character_becomes_char():
    recipe = build_recipe({"data": {"path": "a.txt"}, "tokenizer": {"kind": "character"}})
    assert recipe.data.path == ["a.txt"]
    assert recipe.tokenizer.kind == "char"
