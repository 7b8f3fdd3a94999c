"""Attention maps equal those of transformers, and scores equal sums over all maps by hand."""

from itertools import product
from pathlib import Path

import pytest
import torch
from random_probes import IDS, gpt2_and_ours, probe, qwen3_and_ours, random_model

from penna.explain.attention import attention_maps, attention_scores, first_token_share, rollout
from penna.explain.probe import Label, NextTokens


@pytest.mark.parametrize("both", [gpt2_and_ours, qwen3_and_ours])
def test_the_maps_equal_those_of_transformers(both, tmp_path: Path):
    theirs, ours = both(tmp_path)
    with torch.no_grad():
        expected = torch.cat(theirs(torch.tensor([IDS]), output_attentions=True).attentions)
    torch.testing.assert_close(attention_maps(probe(ours)), expected, atol=1e-5, rtol=0)


def test_a_score_is_the_mean_attention_of_the_last_token_over_layers_and_heads():
    probed = probe(random_model(), first=2)
    maps = attention_maps(probed)
    found = attention_scores(probed)
    expected = [sum(float(maps[layer, head, 8, j]) for layer in range(3) for head in range(4)) / 12 for j in range(9)]
    assert found.method == "attention"
    assert found.values == pytest.approx(expected[2:], abs=1e-6)
    assert found.about == {"places": 1, "elsewhere": pytest.approx(expected[0] + expected[1], abs=1e-6)}


def test_a_continuation_uses_its_last_positions_and_mean_pooling_uses_all():
    model = random_model(n_class=3)
    for target, positions in [
        (NextTokens((11, 4, 9)), [6, 7, 8]),
        (Label(1, "mean"), list(range(9))),
        (Label(1, "last"), [8]),
    ]:
        probed = probe(model, target=target)
        rows = attention_maps(probed).mean((0, 1))[positions].mean(0)
        found = attention_scores(probed)
        assert found.values == pytest.approx(rows.tolist(), abs=1e-6)
        assert found.about["places"] == len(positions)
        assert sum(found.values) == pytest.approx(1, abs=1e-5)


def test_rollout_is_the_sum_over_all_paths_through_the_layers(tmp_path: Path):
    theirs, ours = gpt2_and_ours(tmp_path)
    ids = IDS[:4]
    with torch.no_grad():
        heads = torch.cat(theirs(torch.tensor([ids]), output_attentions=True).attentions).mean(1)
    steps = [[[0.5 * float(layer[i, j]) + 0.5 * (i == j) for j in range(4)] for i in range(4)] for layer in heads]
    expected = [
        sum(steps[2][3][a] * steps[1][a][b] * steps[0][b][token] for a, b in product(range(4), repeat=2))
        for token in range(4)
    ]
    found = rollout(probe(ours, ids))
    assert found.method == "rollout"
    assert found.values == pytest.approx(expected, abs=1e-6)


def test_the_share_of_the_first_token_excludes_its_own_attention():
    maps = attention_maps(probe(random_model()))
    expected = [[sum(float(head[i, 0]) for i in range(1, 9)) / 8 for head in layer] for layer in maps]
    torch.testing.assert_close(first_token_share(maps), torch.tensor(expected))
    alone = attention_maps(probe(random_model(), IDS[:1]))
    torch.testing.assert_close(first_token_share(alone), torch.ones(3, 4))
