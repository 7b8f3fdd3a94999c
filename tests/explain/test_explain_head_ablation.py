"""Head ablation equals models whose weights have zeros in the columns of the heads."""

from copy import deepcopy

import pytest
import torch
from random_probes import IDS, probe, random_model

import penna.explain.probe as probing
from penna.errors import RecipeError
from penna.explain.head_ablation import head_changes, without_heads
from penna.explain.logit_lens import current_prediction
from penna.explain.probe import Label, NextTokens
from penna.model.gpt import GPT

SHAPES = {
    "gpt2": {},
    "gpt1": {"preset": "gpt1"},
    "grouped, wide": {"preset": "modern", "n_kv_head": 2, "head_dim": 12},
}


def without_columns(model: GPT, *heads: tuple[int, int]) -> GPT:
    """A copy with zeros in the output columns of these heads."""
    copy = deepcopy(model)
    width = model.config.head_width
    for layer, head in heads:
        copy.get_parameter(f"h.{layer}.attn.c_proj.weight").data[:, head * width : (head + 1) * width] = 0
    return copy


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("target", [NextTokens((11, 4)), NextTokens((11,), foil=3), Label(1, "mean")])
def test_each_change_equals_that_of_a_model_without_the_head(shape, target, monkeypatch):
    model = random_model(n_class=3, **SHAPES[shape])
    ids = torch.tensor([IDS])
    found = head_changes(probe(model, target=target))
    hidden = model.hidden(ids)
    value, probability = float(target.value(model, hidden)), float(target.probability(model, hidden))
    for layer in range(3):
        for head in range(4):
            changed = without_columns(model, (layer, head)).hidden(ids)
            assert float(found.value[layer, head]) == pytest.approx(
                float(target.value(model, changed)) - value, abs=1e-4
            )
            expected = float(target.probability(model, changed)) - probability
            assert float(found.probability[layer, head]) == pytest.approx(expected, abs=1e-5)
    monkeypatch.setattr(probing, "TOKENS_AT_ONCE", 20)
    torch.testing.assert_close(head_changes(probe(model, target=target)).value, found.value, atol=1e-4, rtol=0)


def test_several_heads_are_switched_off_only_within_the_context():
    model = random_model()
    probed = probe(model)
    before = current_prediction(probed)
    off = [(0, 1), (2, 3), (0, 2), (0, 1)]
    with without_heads(probed, off):
        found = current_prediction(probed)
    expected = current_prediction(probe(without_columns(model, *off)))
    assert [each.id for each in found.top] == [each.id for each in expected.top]
    assert found.probability == pytest.approx(expected.probability, rel=1e-4)
    assert found.probability != pytest.approx(before.probability, rel=1e-2)
    with pytest.raises(KeyError), without_heads(probed, off):
        raise KeyError
    assert current_prediction(probed) == before


def test_gradients_flow_through_the_remaining_heads():
    probed = probe(random_model())
    with without_heads(probed, [(1, head) for head in range(4)]):
        embeddings = probed.embeddings().requires_grad_()
        (gradient,) = torch.autograd.grad(probed.value(embeddings).sum(), embeddings)
    assert (gradient.abs().sum(-1) > 0).all()


@pytest.mark.parametrize("head", [(3, 0), (0, 4), (-1, 0), (0, -1)])
def test_a_missing_head_is_named(head):
    probed = probe(random_model())
    with (
        pytest.raises(RecipeError, match=rf"no head {head[0]}\.{head[1]}: .* 3 layers of 4 heads"),
        without_heads(probed, [(0, 0), head]),
    ):
        raise AssertionError
