"""The [model] section: presets, derived fields and invalid shapes."""

import pytest
from pydantic import ValidationError

from penna.config.sections import ModelConfig


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("gpt2", {"n_layer": 12, "n_head": 12, "n_embd": 768, "block_size": 1024, "norm_position": "pre"}),
        ("gpt2-medium", {"n_layer": 24, "n_head": 16, "n_embd": 1024}),
        ("gpt2-large", {"n_layer": 36, "n_head": 20, "n_embd": 1280}),
        ("gpt2-xl", {"n_layer": 48, "n_head": 25, "n_embd": 1600}),
        ("gpt1", {"n_layer": 12, "block_size": 512, "norm_position": "post", "positions": "learned", "tie": True}),
        ("modern", {"positions": "rotary", "norm": "rmsnorm", "mlp": "swiglu", "qk_norm": True, "bias": False}),
    ],
)
def test_a_preset_fills_missing_fields(preset, expected):
    config = ModelConfig(preset=preset)
    assert {name: getattr(config, name) for name in expected} == expected


def test_a_field_overrides_the_preset():
    config = ModelConfig(preset="modern", mlp="gelu", n_layer=3)
    assert (config.mlp, config.n_layer, config.norm) == ("gelu", 3, "rmsnorm")


def test_the_default_preset_is_gpt2():
    assert ModelConfig() == ModelConfig(preset="gpt2")


@pytest.mark.parametrize(
    ("fields", "derived"),
    [
        ({"n_embd": 96, "n_head": 6}, {"head_dim": 16, "n_kv_head": 6, "n_inner": 384}),
        ({"n_embd": 96, "n_head": 6, "head_dim": 10, "n_kv_head": 2}, {"head_dim": 10, "n_kv_head": 2}),
        ({"n_embd": 96, "n_head": 5, "head_dim": 8}, {"head_dim": 8, "n_kv_head": 5}),
        ({"n_embd": 384, "n_head": 6, "mlp": "swiglu"}, {"n_inner": 1024}),  # 8/3 of 384 is a multiple of 64
        ({"n_embd": 100, "n_head": 5, "mlp": "swiglu"}, {"n_inner": 320}),  # 266.7, rounded up to a multiple of 64
        ({"n_inner": 7}, {"n_inner": 7}),
    ],
)
def test_missing_widths_are_derived(fields, derived):
    config = ModelConfig(**fields)
    assert {name: getattr(config, name) for name in derived} == derived
    assert (config.head_width, config.kv_heads, config.inner_width) == (
        config.head_dim,
        config.n_kv_head,
        config.n_inner,
    )


def test_a_dumped_configuration_loads_unchanged():
    config = ModelConfig(preset="modern", n_embd=96, n_head=6, n_kv_head=2, vocab_size=50)
    assert ModelConfig(**config.model_dump()) == config


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n_embd": 100, "n_head": 12}, "n_embd = 100 must be divisible by n_head = 12"),
        ({"n_kv_head": 5}, "n_head = 12 must be divisible by n_kv_head = 5"),
        ({"n_kv_head": 24}, "n_head = 12 must be divisible by n_kv_head = 24"),
        ({"positions": "rotary", "head_dim": 7}, "rotary positions need an even head_dim, not 7"),
        ({"positions": "sinusoidal", "n_embd": 9, "n_head": 3}, "sinusoidal positions need an even n_embd, not 9"),
        ({"n_layer": 0}, "n_layer"),
        ({"dropout": 1.0}, "dropout"),
        ({"position_scale": 0.0}, "position_scale"),
        ({"preset": "gpt5"}, "preset"),
        ({"preset": 2}, "preset"),
        ({"mlp": "relu"}, "mlp"),
        ({"n_heads": 4}, "n_heads"),
        ({"vocab_size": 1}, "vocab_size"),
    ],
)
def test_an_invalid_shape_is_rejected_by_name(fields, message):
    with pytest.raises(ValidationError, match=message):
        ModelConfig(**fields)


def test_a_configuration_is_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        ModelConfig().n_layer = 3


def test_rows_need_a_vocabulary_size():
    assert ModelConfig(vocab_size=50).rows == 50
    with pytest.raises(ValueError, match="vocab_size is not known"):
        _ = ModelConfig().rows
