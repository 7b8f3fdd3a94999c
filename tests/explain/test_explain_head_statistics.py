"""Head statistics equal counts on the maps of transformers, and a hand-built induction head is found."""

import math
from pathlib import Path

import pytest
import torch
from random_probes import IDS, gpt2_and_ours, random_model

from penna.config.sections import ModelConfig
from penna.explain.head_statistics import head_statistics, induction_scores
from penna.model.gpt import GPT

TEXTS = (IDS, (4, 4), (9, 1, 30, 2))  # the second is too short to count


def test_statistics_equal_those_of_a_loop_over_the_maps_of_transformers(tmp_path: Path):
    theirs, ours = gpt2_and_ours(tmp_path)
    found = head_statistics(ours, TEXTS)
    assert found.tokens == 7 + 2
    sums = {name: torch.zeros(3, 4) for name in ("entropy", "distance", "first", "previous", "itself")}
    for ids in (TEXTS[0], TEXTS[2]):
        with torch.no_grad():
            maps = torch.cat(theirs(torch.tensor([ids]), output_attentions=True).attentions)
        for layer in range(3):
            for head in range(4):
                for t in range(2, len(ids)):
                    row = maps[layer, head, t].tolist()
                    sums["entropy"][layer, head] -= sum(p * math.log(p) for p in row if p)
                    sums["distance"][layer, head] += sum(p * (t - j) for j, p in enumerate(row))
                    sums["first"][layer, head] += row[0]
                    sums["previous"][layer, head] += row[t - 1]
                    sums["itself"][layer, head] += row[t]
    for name, total in sums.items():
        torch.testing.assert_close(getattr(found, name).float(), total / 9, atol=1e-5, rtol=1e-5)


def test_texts_without_three_tokens_are_refused():
    with pytest.raises(ValueError, match="three|3"):
        head_statistics(random_model(), [(1, 2)])


def copying_model() -> GPT:
    """Two layers of two heads: 0.0 copies the previous token next to each token, 1.0 then attends to that copy.

    Dimensions 0 to 15 hold the token, 16 to 31 the previous token, 32 to 55 the position (one of 24).
    """
    config = ModelConfig(
        n_layer=2, n_head=2, head_dim=32, n_embd=64, block_size=24, vocab_size=16, bias=False, norm="rmsnorm"
    )
    model = GPT(config).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        parameter.fill_(1.0 if name.endswith(("ln_1.weight", "ln_2.weight", "ln_f.weight")) else 0.0)
    model.wte.weight[:, :16] = torch.eye(16)
    model.wpe.weight[:, 32:56] = torch.eye(24)
    q, k, v = model.get_parameter("h.0.attn.c_attn.weight").split(64)
    q[:24, 32:56] = 200 * torch.eye(24).roll(-1, 0)  # position t attends to position t - 1
    k[:24, 32:56] = torch.eye(24)
    v[:16, :16] = torch.eye(16)
    model.get_parameter("h.0.attn.c_proj.weight")[16:32, :16] = torch.eye(16)
    q, k, _ = model.get_parameter("h.1.attn.c_attn.weight").split(64)
    q[:16, :16] = 200 * torch.eye(16)  # a token attends to those that follow it
    k[:16, 16:32] = torch.eye(16)
    return model


def test_only_the_induction_head_has_a_high_induction_score():
    found = induction_scores(copying_model(), range(16))
    assert found[1, 0] > 0.95
    assert max(found[0, 0], found[0, 1], found[1, 1]) < 0.2
    assert head_statistics(copying_model(), [tuple(range(12))]).previous[0, 0] > 0.95


def test_the_random_sequence_fits_the_block_starts_with_the_separator_and_depends_on_the_seed(monkeypatch):
    model = random_model()
    read = []
    hidden = model.hidden
    monkeypatch.setattr(model, "hidden", lambda ids, attention: read.append(ids) or hidden(ids, attention=attention))
    one, same, other = (induction_scores(model, range(40, 60), (7,), seed) for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)
    for row in read[0].tolist():
        assert row[0] == 7 and len(row) == 23  # two times 11 in a block of 24
        assert row[1:12] == row[12:]
        assert len(set(row[1:])) == 11 and set(row[1:]) <= set(range(40, 60))
    with pytest.raises(ValueError, match="twice"):
        induction_scores(model, [5])
