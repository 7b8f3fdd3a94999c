"""Causality for every combination of fields: changing token t changes the logits at t and none before."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from penna.config.sections import ModelConfig
from penna.model.gpt import GPT

POSITIONS = ("learned", "sinusoidal", "rotary", "none")
CHOICES = {
    "norm_position": ("pre", "post"),
    "norm": ("layernorm", "rmsnorm"),
    "mlp": ("gelu", "relu2", "swiglu"),
    "qk_norm": (False, True),
    "tie": (True, False),
}
COMBINATIONS = [dict(zip(CHOICES, values, strict=True)) for values in itertools.product(*CHOICES.values())]


@torch.no_grad()
def check_causality(config: ModelConfig, position: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    model = GPT(config).eval()
    for parameter in model.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    ids = torch.randint(config.rows, (2, config.block_size), generator=generator)
    changed = ids.clone()
    changed[:, position] = (ids[:, position] + 1) % config.rows
    before, after = model(ids), model(changed)
    assert before.shape == (2, config.block_size, config.rows)
    assert before.isfinite().all()
    torch.testing.assert_close(after[:, :position], before[:, :position], atol=1e-5, rtol=1e-5)
    assert (after[:, position] - before[:, position]).abs().amax() > 1e-3


@pytest.mark.parametrize("positions", POSITIONS)
def test_every_combination_of_fields_is_causal(positions):
    for number, fields in enumerate(COMBINATIONS):
        config = ModelConfig(n_layer=2, n_head=2, n_embd=16, block_size=7, vocab_size=11, positions=positions, **fields)
        check_causality(config, position=number % 7, seed=number)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    preset=st.sampled_from(["gpt2", "gpt1", "modern"]),
    n_layer=st.integers(1, 3),
    heads=st.sampled_from([(1, 1), (2, 1), (4, 2), (6, 3), (3, 3)]),
    head_dim=st.sampled_from([2, 4, 6]),
    n_embd=st.sampled_from([6, 12, 16]),
    n_inner=st.integers(1, 40),
    bias=st.booleans(),
    block_size=st.integers(2, 9),
    data=st.data(),
)
def test_every_shape_is_causal(*, preset, n_layer, heads, head_dim, n_embd, n_inner, bias, block_size, data):
    config = ModelConfig(
        preset=preset,
        n_layer=n_layer,
        n_head=heads[0],
        n_kv_head=heads[1],
        head_dim=head_dim,
        n_embd=n_embd,
        n_inner=n_inner,
        bias=bias,
        block_size=block_size,
        vocab_size=13,
    )
    check_causality(config, data.draw(st.integers(0, block_size - 1)), seed=n_inner)
