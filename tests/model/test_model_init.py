"""Parameter counts and initialization."""

import math

import pytest
import torch

from penna.config.sections import ModelConfig
from penna.model.gpt import GPT, count_parameters, sinusoidal_table


@pytest.mark.parametrize(
    ("preset", "count"),
    [("gpt2", 124_439_808), ("gpt2-medium", 354_823_168), ("gpt2-large", 774_030_080), ("gpt2-xl", 1_557_611_200)],
)
def test_gpt2_models_have_their_published_parameter_counts(preset, count):
    with torch.device("meta"):
        assert count_parameters(GPT(ModelConfig(preset=preset, vocab_size=50257))) == count


def test_gpt1_has_its_published_parameter_count():
    with torch.device("meta"):
        assert count_parameters(GPT(ModelConfig(preset="gpt1", vocab_size=40478))) == 116_534_784


def initialized(seed=0, **fields):
    shape = {"n_layer": 3, "n_head": 4, "n_embd": 128, "block_size": 64, "vocab_size": 200}
    model = GPT(ModelConfig(**{**shape, **fields}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(math.nan)  # to find parameters that are not initialized
    model.init_weights(seed)
    return model


@pytest.mark.parametrize("preset", ["gpt2", "gpt1", "modern"])
def test_weights_depend_on_the_seed(preset):
    first, again, other = (initialized(seed, preset=preset).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
    assert not torch.equal(first["wte.weight"], other["wte.weight"])
    assert not torch.equal(first["h.0.attn.c_attn.weight"], first["h.1.attn.c_attn.weight"])


def test_weights_of_equal_shape_are_the_same_in_different_models():
    plain = initialized(1, positions="learned", norm_position="pre").state_dict()
    other = initialized(1, positions="rotary", norm_position="post", n_layer=2, n_inner=96).state_dict()
    shared = [name for name, tensor in other.items() if name in plain and tensor.shape == plain[name].shape]
    assert {"wte.weight", "h.0.attn.c_attn.weight", "h.1.attn.c_attn.weight"} <= set(shared)
    assert all(torch.equal(plain[name], other[name]) for name in shared if "c_proj" not in name)


@pytest.mark.parametrize("preset", ["gpt2", "gpt1", "modern"])
@pytest.mark.parametrize("tie", [True, False])
@pytest.mark.parametrize("residual_init", ["scaled", "zero"])
def test_every_parameter_has_its_standard_deviation(preset, tie, residual_init):
    model = initialized(preset=preset, tie=tie, residual_init=residual_init)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            assert (parameter == (0 if name.endswith("bias") else 1)).all(), name
            continue
        expected = 0.02
        if name.endswith("c_proj.weight"):
            expected = 0.02 / math.sqrt(6) if residual_init == "scaled" else 0.0
        assert parameter.std().item() == pytest.approx(expected, rel=0.05), name
        assert abs(parameter.mean().item()) <= expected * 0.05, name


def test_zero_residual_init_makes_each_block_the_identity():
    model = initialized(preset="modern", residual_init="zero")
    ids = torch.arange(8)[None]
    with torch.no_grad():
        torch.testing.assert_close(model.hidden(ids), model.ln_f(model.wte(ids)), atol=0, rtol=0)


def test_a_new_model_predicts_nearly_uniformly():
    model = initialized(preset="gpt2").eval()
    with torch.no_grad():
        entropy = torch.distributions.Categorical(logits=model(torch.arange(50)[None])).entropy()
    assert entropy.min().item() == pytest.approx(math.log(200), abs=0.1)


def test_sinusoids_are_those_of_the_paper_times_the_scale():
    table = sinusoidal_table(50, 16, 0.02)
    assert table.shape == (50, 16)
    assert table.abs().max().item() == pytest.approx(0.02)
    for position, pair in ((0, 0), (7, 0), (7, 3), (49, 7)):
        angle = position / 10000 ** (2 * pair / 16)
        assert table[position, 2 * pair].item() == pytest.approx(0.02 * math.sin(angle), abs=1e-8)
        assert table[position, 2 * pair + 1].item() == pytest.approx(0.02 * math.cos(angle), abs=1e-8)


def test_sinusoids_are_not_saved_as_weights():
    model = initialized(positions="sinusoidal")
    assert not any("sinusoids" in name or "wpe" in name for name in model.state_dict())


def test_a_tied_head_is_the_embedding_and_an_untied_head_is_not():
    assert "lm_head.weight" not in initialized(tie=True).state_dict()
    own = initialized(tie=False)
    hidden = torch.randn(2, 3, 128)
    assert torch.equal(own.logits(hidden), hidden @ own.lm_head.weight.T)
