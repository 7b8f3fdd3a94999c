"""Information: the noise that is learned is the one that theory gives, and lands on words that cannot matter."""

import math

import pytest
import torch
from random_probes import IDS, probe, random_model

from penna.config.sections import ModelConfig
from penna.errors import RecipeError
from penna.explain.information import LOST, _NoisedState, information, information_by_layer
from penna.explain.probe import Label, NextTokens, Probe, Question
from penna.model.gpt import GPT


@torch.no_grad()
def model_that_looks_at(place: int) -> GPT:
    """One head that looks at one place alone and copies what stands there, loud, onto every place."""
    model = GPT(ModelConfig(n_layer=1, n_head=1, n_embd=16, block_size=8, vocab_size=40, bias=True)).eval()
    model.init_weights(3)
    for parameter in (*model.h[0].parameters(), model.wpe.weight):
        parameter.zero_()
    model.wte.weight.normal_(generator=torch.Generator().manual_seed(1))
    model.wpe.weight[place, 8] = 20.0
    block = model.h[0]
    block.ln_1.weight.fill_(1.0)
    attn = block.attn
    attn.c_attn.bias[0] = 4.0  # every query asks for the first number of the keys
    attn.c_attn.weight[16, 8] = 20.0  # which is large where the place is marked
    attn.c_attn.weight[32:48] = torch.eye(16)
    attn.c_proj.weight.copy_(50 * torch.eye(16))
    return model


@pytest.mark.parametrize("place", [1, 4])
def test_the_one_token_that_an_answer_rests_on_scores_highest_and_the_others_next_to_nothing(place):
    ids = (3, 17, 8, 25, 30, 11, 2)
    asked = Probe(model_that_looks_at(place), Question(ids, 0, 6, NextTokens((1,))))
    found = information(asked)
    assert found.values[place] > 1
    assert all(score < 0.1 for at, score in enumerate(found.values) if at != place)


def test_where_every_word_counts_alike_each_loses_the_same_part():
    asked = probe(random_model(n_class=3), first=1, target=Label(0, "mean"))
    found = information(asked, layer=0, draws=16, steps=200)
    # The mean of embeddings: the least of s² / F - 2 LOST / F · log s lies at s² = LOST.
    assert found.values == pytest.approx([-math.log(LOST) / 2] * 8, abs=0.12)
    assert sum(found.values) / 8 == pytest.approx(-math.log(LOST) / 2, abs=0.03)
    assert found.about["lost"] == pytest.approx(LOST, rel=0.1)
    width = 32 * found.about["sigma_max"] ** 2 * 8 / 9**2  # of 8 of the 9 embeddings in the mean
    assert found.about["state_variance"] == pytest.approx(width, rel=0.1)


def test_before_the_first_block_the_last_token_alone_is_there():
    found = information(probe(random_model(), first=1), layer=0, draws=16, steps=200)
    # The least of s² - 2 LOST / F · log s for the last of F = 8, and of -log s for the others.
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
def test_what_is_lost_is_what_drawing_by_hand_finds(fields, target, layer):
    model = random_model(n_class=3, **fields)
    found = information(probe(model, first=2, target=target), layer=layer, steps=60)
    about = found.about
    ids = torch.tensor([IDS])
    places = slice(None) if target == Label(1, "mean") else slice(-len(getattr(target, "tokens", "1")), None)

    def state(x):
        if model.config.positions == "learned":
            x = x + model.wpe.weight[: len(IDS)]
        context = model.context(ids, None)
        for block in list(model.h)[:layer]:
            x = block(x, context)
        x = (model.ln_f(x) if layer == 3 else x)[:, places]
        return x.mean(1) if places == slice(None) else x.flatten(1)

    def squares(deviations):
        noise = torch.randn(1500, len(IDS), 32, generator=torch.Generator().manual_seed(8))
        noise[:, :2] = 0
        noise[:, 2:] *= deviations[:, None]
        x = model.wte(ids)
        return float((state(x + noise) - state(x)).square().sum(-1).mean())

    most = float(model.wte.weight.std())
    scores = torch.tensor(found.values)
    assert about["sigma_max"] == pytest.approx(most)
    assert about["state_variance"] == pytest.approx(squares(torch.full((7,), most)), rel=0.25)
    lost = squares(most * torch.exp(-scores)) / about["state_variance"]
    assert about["lost"] == pytest.approx(lost, rel=0.25)
    assert about["weight"] == pytest.approx(2 * LOST / 7)
    assert about["loss"] == pytest.approx(about["lost"] + about["weight"] * sum(found.values))
    normal = torch.distributions.Normal(0.0, most * torch.exp(-scores))
    assert about["entropies"] == pytest.approx(normal.entropy().tolist(), abs=1e-5)


def test_less_noise_and_more_noise_than_is_learned_both_cost_more():
    asked = probe(random_model(n_class=3), target=Label(1, "last"))
    found = information(asked, draws=16, steps=200)
    assert found.about["converged"]
    model, weight = asked.model, found.about["weight"]
    x = asked.embeddings()
    noise = torch.randn(1500, len(IDS), 32, generator=torch.Generator().manual_seed(8))

    def loss(scores):
        deviations = found.about["sigma_max"] * torch.exp(-scores)
        moved = asked.final_norm(asked.run_blocks(asked.add_positions(x + deviations[:, None] * noise)))[:, -1]
        there = model.hidden(torch.tensor([IDS]))[:, -1]
        return float((moved - there).square().sum(-1).mean()) / found.about["state_variance"] + weight * scores.sum()

    scores = torch.tensor(found.values)
    least = loss(scores)
    assert loss(scores + 0.4) > least
    assert loss((scores - 0.4).clamp(min=0)) > least
    assert loss(scores.flip(0)) > least


def test_the_loss_falls_and_at_most_fifty_of_it_are_told():
    found = information(probe(random_model()), steps=120)
    losses = found.about["losses"]
    assert len(losses) == 40
    assert sum(losses[-8:]) / 8 < 0.9 * losses[0]
    assert len(information(probe(random_model()), steps=7).about["losses"]) == 7


def test_the_same_seed_gives_the_same_scores_and_however_many_draws_are_read_together(monkeypatch):
    asked = probe(random_model())
    once, again, other = (information(asked, steps=20, seed=seed).values for seed in (0, 0, 1))
    assert once == again
    assert once != other
    monkeypatch.setattr("penna.explain.probe.TOKENS_AT_ONCE", 3 * len(IDS))
    assert information(asked, steps=20).values == pytest.approx(once, abs=1e-3)


def test_each_layer_is_told_as_if_it_were_asked_for_alone():
    asked = probe(random_model())
    layers = information_by_layer(asked, steps=10)
    assert [found.about["layer"] for found in layers] == [0, 1, 2, 3]
    assert layers[2] == information(asked, layer=2, steps=10)
    assert layers[3] == information(asked, steps=10)


def test_where_the_words_cannot_reach_the_answer_nothing_of_them_is_kept():
    model = random_model()
    for block in model.h:
        block.attn.c_proj.weight.zero_()
    asked = Probe(model, Question(IDS, 0, 5, NextTokens((11,))))
    assert max(information(asked).values) < 0.1


@pytest.mark.parametrize("layer", [-1, 4])
def test_a_layer_that_is_not_there_is_refused(layer):
    with pytest.raises(RecipeError, match=f"layer = {layer}, and the model has 3 blocks"):
        information(probe(random_model()), layer=layer)


def test_every_draw_has_its_opposite_and_draws_are_new_each_time():
    noised = _NoisedState(probe(random_model(), first=3), layer=3, seed=0)
    first, second = (torch.cat(list(noised._draw(6))) for _ in range(2))
    assert first.shape == (6, 6, 32)
    assert torch.equal(first[:3], -first[3:])
    assert not torch.equal(first, second)
    assert len(torch.cat((first[:3], second[:3])).unique(dim=0)) == 6
