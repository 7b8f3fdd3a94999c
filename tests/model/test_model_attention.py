"""Attention: explicit attention matches fused attention, and its weights are a causal softmax."""

import pytest
import torch

SHAPES = {
    "gpt2": {"preset": "gpt2"},
    "gpt1": {"preset": "gpt1"},
    "modern": {"preset": "modern"},
    "grouped, wide": {"preset": "modern", "n_kv_head": 2, "head_dim": 12},
}


@pytest.fixture(params=SHAPES)
def model(request, build):
    return build(**SHAPES[request.param])


@torch.no_grad()
def test_explicit_attention_matches_fused_attention(model, some_ids):
    ids = some_ids(3, 11)
    torch.testing.assert_close(model.hidden(ids, attention=[]), model.hidden(ids), atol=1e-5, rtol=0)


@torch.no_grad()
def test_attention_weights_are_causal_distributions(model, some_ids):
    attention = []
    model.hidden(some_ids(3, 11), attention=attention)
    assert [weights.shape for weights in attention] == [(3, 4, 11, 11)] * model.config.n_layer
    for weights in attention:
        assert (weights >= 0).all()
        torch.testing.assert_close(weights.sum(-1), torch.ones(3, 4, 11), atol=1e-6, rtol=0)
        assert (weights.triu(1) == 0).all()
        assert (weights.tril() > 0)[..., torch.ones(11, 11).tril().bool()].all()


@torch.no_grad()
def test_grouped_query_attention_equals_full_attention_with_repeated_keys(build, some_ids):
    grouped = build(preset="modern", n_kv_head=2)
    full = build(preset="modern", n_kv_head=4)
    state = dict(grouped.state_dict())
    for name in [name for name in state if name.endswith("attn.c_attn.weight")]:
        q, k, v = state[name].split((32, 16, 16))
        each = [part.view(2, 8, 32).repeat_interleave(2, dim=0).reshape(32, 32) for part in (k, v)]
        state[name] = torch.cat((q, *each))
    full.load_state_dict(state)
    ids = some_ids(2, 9)
    torch.testing.assert_close(grouped(ids), full(ids), atol=1e-5, rtol=0)


@torch.no_grad()
def test_rotary_scores_depend_only_on_distance(build):
    """With one repeated token only the distance differs, so the scores form a Toeplitz matrix."""
    model = build(preset="modern", n_layer=1)
    attention = []
    model.hidden(torch.full((1, 10), 5), attention=attention)
    logs = attention[0][0].log()  # (H, T, T), each row up to a constant
    last, before = logs[:, 9, 1:10], logs[:, 8, 0:9]
    torch.testing.assert_close(last - last[:, -1:], before - before[:, -1:], atol=1e-4, rtol=0)
    assert logs[:, 9].std() > 1e-3


def test_dropout_is_active_only_in_training(build, some_ids):
    model = build(preset="gpt2", dropout=0.5)
    ids = some_ids(2, 9)
    assert torch.equal(model(ids), model(ids))
    model.train()
    assert not torch.equal(model(ids), model(ids))
