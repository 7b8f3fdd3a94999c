"""The learned noise equals theory where it is known, and is largest on words that cannot matter."""

import math
from typing import Any

import pytest
import torch
from random_probes import IDS, probe, random_model

from penna.config.sections import ModelConfig
from penna.errors import RecipeError
from penna.explain.information import LOST, _NoisedState, information, information_by_layer
from penna.explain.probe import Label, NextTokens, Probe, Question
from penna.model.gpt import GPT


@torch.no_grad()
def model_that_attends_to(position: int) -> GPT:
    """One head that attends to a single position and copies its token, amplified, to every position."""
    model = GPT(ModelConfig(n_layer=1, n_head=1, n_embd=16, block_size=8, vocab_size=40, bias=True)).eval()
    model.init_weights(3)
    for parameter in (*model.h[0].parameters(), model.wpe.weight):
        parameter.zero_()
    model.wte.weight.normal_(generator=torch.Generator().manual_seed(1))
    model.wpe.weight[position, 8] = 20.0
    block: Any = model.h[0]
    block.ln_1.weight.fill_(1.0)
    attn = block.attn
    attn.c_attn.bias[0] = 4.0  # every query matches the first dimension of the keys
    attn.c_attn.weight[16, 8] = 20.0  # which is large at the marked position
    attn.c_attn.weight[32:48] = torch.eye(16)
    attn.c_proj.weight.copy_(50 * torch.eye(16))
    return model


@pytest.mark.parametrize("position", [1, 4])
def test_the_only_token_that_matters_scores_highest(position):
    ids = (3, 17, 8, 25, 30, 11, 2)
    probed = Probe(model_that_attends_to(position), Question(ids, 0, 6, NextTokens((1,))))
    found = information(probed)
    assert found.values[position] > 1
    assert all(score < 0.1 for at, score in enumerate(found.values) if at != position)


def test_words_of_equal_importance_lose_equal_shares():
    probed = probe(random_model(n_class=3), first=1, target=Label(0, "mean"))
    found = information(probed, layer=0, draws=16, steps=200)
    # The mean of embeddings: the minimum of s² / F - 2 LOST / F · log s is at s² = LOST.
    assert found.values == pytest.approx([-math.log(LOST) / 2] * 8, abs=0.12)
    assert sum(found.values) / 8 == pytest.approx(-math.log(LOST) / 2, abs=0.03)
    assert found.about["lost"] == pytest.approx(LOST, rel=0.1)
    width = 32 * found.about["sigma_max"] ** 2 * 8 / 9**2  # of 8 of the 9 embeddings in the mean
    assert found.about["state_variance"] == pytest.approx(width, rel=0.1)


def test_before_the_first_block_only_the_last_token_matters():
    found = information(probe(random_model(), first=1), layer=0, draws=16, steps=200)
    # The minimum of s² - 2 LOST / F · log s for the last of F = 8 tokens, and of -log s for the others.
    assert found.values[-1] == pytest.approx(-math.log(LOST / 8) / 2, abs=0.1)
    assert max(found.values[:-1]) < 0.1


@pytest.mark.parametrize(
    ("fields", "target", "layer"),
    [
        ({}, NextTokens((11, 4)), 3),
        ({"preset": "modern"}, NextTokens((11,)), 2),
        ({"preset": "gpt1"}, Label(1, "mean"), 3),
        ({"preset": "modern"}, Label(1, "last"), 3),
    ],
)
@torch.no_grad()
def test_the_lost_share_equals_one_measured_by_hand(fields, target, layer):
    model = random_model(n_class=3, **fields)
    found = information(probe(model, first=2, target=target), layer=layer, steps=60)
    about = found.about
    ids = torch.tensor([IDS])
    positions = slice(None) if target == Label(1, "mean") else slice(-len(getattr(target, "tokens", "1")), None)

    def state(x):
        if model.config.positions == "learned":
            x = x + model.wpe.weight[: len(IDS)]
        context = model.context(ids, None)
        for block in list(model.h)[:layer]:
            x = block(x, context)
        x = (model.ln_f(x) if layer == 3 else x)[:, positions]
        return x.mean(1) if positions == slice(None) else x.flatten(1)

    def squares(deviations):
        noise = torch.randn(1500, len(IDS), 32, generator=torch.Generator().manual_seed(8))
        noise[:, :2] = 0
        noise[:, 2:] *= deviations[:, None]
        x = model.wte(ids)
        return float((state(x + noise) - state(x)).square().sum(-1).mean())

    sigma_max = float(model.wte.weight.std())
    scores = torch.tensor(found.values)
    assert about["sigma_max"] == pytest.approx(sigma_max)
    assert about["state_variance"] == pytest.approx(squares(torch.full((7,), sigma_max)), rel=0.25)
    lost = squares(sigma_max * torch.exp(-scores)) / about["state_variance"]
    assert about["lost"] == pytest.approx(lost, rel=0.25)
    assert about["weight"] == pytest.approx(2 * LOST / 7)
    assert about["loss"] == pytest.approx(about["lost"] + about["weight"] * sum(found.values))
    normal = torch.distributions.Normal(0.0, sigma_max * torch.exp(-scores))
    assert about["entropies"] == pytest.approx(normal.entropy().tolist(), abs=1e-5)


def test_less_and_more_noise_than_learned_cost_more():
    probed = probe(random_model(n_class=3), target=Label(1, "last"))
    found = information(probed, draws=16, steps=200)
    assert found.about["converged"]
    model, weight = probed.model, found.about["weight"]
    x = probed.embeddings()
    noise = torch.randn(1500, len(IDS), 32, generator=torch.Generator().manual_seed(8))

    def loss(scores):
        deviations = found.about["sigma_max"] * torch.exp(-scores)
        moved = probed.final_norm(probed.run_blocks(probed.add_positions(x + deviations[:, None] * noise)))[:, -1]
        clean = model.hidden(torch.tensor([IDS]))[:, -1]
        return float((moved - clean).square().sum(-1).mean()) / found.about["state_variance"] + weight * scores.sum()

    scores = torch.tensor(found.values)
    least = loss(scores)
    assert loss(scores + 0.4) > least
    assert loss((scores - 0.4).clamp(min=0)) > least
    assert loss(scores.flip(0)) > least


def test_the_loss_falls_and_at_most_fifty_values_are_reported():
    found = information(probe(random_model()), steps=120)
    losses = found.about["losses"]
    assert len(losses) == 40
    assert sum(losses[-8:]) / 8 < 0.9 * losses[0]
    assert len(information(probe(random_model()), steps=7).about["losses"]) == 7


def test_scores_depend_on_the_seed_but_not_on_the_batch_size(monkeypatch):
    probed = probe(random_model())
    once, again, other = (information(probed, steps=20, seed=seed).values for seed in (0, 0, 1))
    assert once == again
    assert once != other
    monkeypatch.setattr("penna.explain.probe.TOKENS_AT_ONCE", 3 * len(IDS))
    assert information(probed, steps=20).values == pytest.approx(once, abs=1e-3)


def test_each_layer_has_the_same_scores_as_on_its_own():
    probed = probe(random_model())
    layers = information_by_layer(probed, steps=10)
    assert [found.about["layer"] for found in layers] == [0, 1, 2, 3]
    assert layers[2] == information(probed, layer=2, steps=10)
    assert layers[3] == information(probed, steps=10)


def test_words_that_cannot_reach_the_answer_keep_nothing():
    model = random_model()
    for block in model.h:
        block.get_parameter("attn.c_proj.weight").zero_()
    probed = Probe(model, Question(IDS, 0, 5, NextTokens((11,))))
    assert max(information(probed).values) < 0.1


@pytest.mark.parametrize("layer", [-1, 4])
def test_a_missing_layer_is_refused(layer):
    with pytest.raises(RecipeError, match=f"layer = {layer}, but the model has 3 blocks"):
        information(probe(random_model()), layer=layer)


def test_every_draw_has_its_opposite_and_is_new():
    noised = _NoisedState(probe(random_model(), first=3), layer=3, seed=0)
    first, second = (torch.cat(list(noised._draw(6))) for _ in range(2))
    assert first.shape == (6, 6, 32)
    assert torch.equal(first[:3], -first[3:])
    assert not torch.equal(first, second)
    assert len(torch.cat((first[:3], second[:3])).unique(dim=0)) == 6
