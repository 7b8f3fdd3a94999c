"""Value zeroing equals a GPT-2 block in float64 by hand, with one zeroed value vector at a time."""

import math

import pytest
import torch
import torch.nn.functional as F
from random_probes import IDS, probe, random_model
from torch import Tensor

import penna.explain.probe as probing
from penna.explain.attention import attention_maps
from penna.explain.value_zeroing import value_zeroing, value_zeroing_maps
from penna.model.gpt import GPT


def block_by_hand(weights: dict[str, Tensor], layer: int, x: Tensor, zeroed: int | None) -> Tensor:
    """The output of GPT-2's block ``layer`` with four heads for x (T, 32), without the value vector of one token."""
    w = {name.removeprefix(f"h.{layer}."): tensor.double() for name, tensor in weights.items()}
    T = len(x)
    normed = F.layer_norm(x, (32,), w["ln_1.weight"], w["ln_1.bias"])
    q, k, v = (normed @ w["attn.c_attn.weight"].T + w["attn.c_attn.bias"]).split(32, dim=1)
    if zeroed is not None:
        v[zeroed] = 0
    heads = []
    for head in range(4):
        at = slice(8 * head, 8 * head + 8)
        scores = q[:, at] @ k[:, at].T / math.sqrt(8)
        scores[torch.ones(T, T).triu(1).bool()] = -math.inf
        heads.append(scores.softmax(1) @ v[:, at])
    x = x + torch.cat(heads, dim=1) @ w["attn.c_proj.weight"].T + w["attn.c_proj.bias"]
    normed = F.layer_norm(x, (32,), w["ln_2.weight"], w["ln_2.bias"])
    inner = F.gelu(normed @ w["mlp.c_fc.weight"].T + w["mlp.c_fc.bias"], approximate="tanh")
    return x + inner @ w["mlp.c_proj.weight"].T + w["mlp.c_proj.bias"]


def maps_by_hand(model: GPT) -> Tensor:
    weights = model.state_dict()
    x = (weights["wte.weight"][list(IDS)] + weights["wpe.weight"][: len(IDS)]).double()
    found = torch.zeros(3, len(IDS), len(IDS), dtype=torch.float64)
    for layer in range(3):
        whole = block_by_hand(weights, layer, x, None)
        for j in range(len(IDS)):
            found[layer, :, j] = 1 - F.cosine_similarity(block_by_hand(weights, layer, x, j), whole, dim=1)
        x = whole
    return found / found.sum(-1, keepdim=True)


def test_the_maps_equal_those_of_zeroing_values_by_hand():
    model = random_model()
    torch.testing.assert_close(value_zeroing_maps(probe(model)).double(), maps_by_hand(model), atol=1e-5, rtol=1e-3)


def test_a_score_is_the_last_row_of_the_product_of_all_maps():
    model = random_model()
    first, second, third = maps_by_hand(model)
    found = value_zeroing(probe(model))
    assert found.method == "value-zeroing"
    assert found.values == pytest.approx((third @ second @ first)[-1].tolist(), abs=1e-5)


def test_heads_with_shared_values_lose_them_together():
    """The maps equal those of a model in which each head has a copy of the values."""
    grouped, full = random_model(preset="modern", n_kv_head=2), random_model(preset="modern", n_kv_head=4)
    state = dict(grouped.state_dict())
    for name in [name for name in state if name.endswith("attn.c_attn.weight")]:
        q, k, v = state[name].split((32, 16, 16))
        copied = [part.view(2, 8, 32).repeat_interleave(2, dim=0).reshape(32, 32) for part in (k, v)]
        state[name] = torch.cat((q, *copied))
    full.load_state_dict(state)
    expected = value_zeroing_maps(probe(full))
    torch.testing.assert_close(value_zeroing_maps(probe(grouped)), expected, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("fields", [{"preset": "gpt1"}, {"preset": "modern"}, {"ngram_size": 2}])
def test_every_row_is_a_distribution_over_earlier_tokens_with_any_batch_size(fields, monkeypatch):
    probed = probe(random_model(**fields))
    maps = value_zeroing_maps(probed)
    assert (maps.triu(1) == 0).all()
    torch.testing.assert_close(maps.sum(-1), torch.ones(3, 9))
    monkeypatch.setattr(probing, "TOKENS_AT_ONCE", 20)
    torch.testing.assert_close(value_zeroing_maps(probed), maps, atol=1e-5, rtol=1e-3)


def test_a_token_without_attention_output_consists_of_itself():
    model = random_model()
    before = attention_maps(probe(model))
    for name, parameter in model.named_parameters():
        if name.endswith("attn.c_proj.weight"):
            parameter.data.zero_()
    maps = value_zeroing_maps(probe(model))
    torch.testing.assert_close(maps, torch.eye(9).expand(3, 9, 9))
    assert value_zeroing(probe(model)).values == (0.0,) * 8 + (1.0,)
    torch.testing.assert_close(attention_maps(probe(model))[0], before[0])  # attention is unchanged but has no effect
