"""Sequence scores equal those of transformers with the same weights and of predicting each token on its own."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from penna.config.sections import ModelConfig
from penna.evaluate import sequence_scores as scoring
from penna.evaluate.sequence_scores import next_token_logprobs, score_sequences, window_start
from penna.interop.hf_folder import write_hf
from penna.model.gpt import GPT

os.environ["HF_HUB_OFFLINE"] = "1"

VOCAB = 23
SHAPE = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 8, "vocab_size": VOCAB}


@torch.no_grad()
def random_model(**fields: object) -> GPT:
    """A model with large random weights, so that its next tokens differ widely."""
    model = GPT(ModelConfig(**{**SHAPE, **fields}))
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    return model.eval()


MODELS = {
    "learned": random_model(),
    "odd block": random_model(block_size=7),
    "block of one": random_model(block_size=1),
    "block of two": random_model(block_size=2),
    "modern": random_model(preset="modern", n_kv_head=1),
    "n-grams": random_model(ngram_size=3, ngram_rows=50, ngram_width=8),
}


def some_text(length: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(0, VOCAB, length).tolist()


@torch.no_grad()
def one_by_one(model: GPT, ids: list[int]) -> tuple[list[float], list[int]]:
    """Predict each token from those before it; a context longer than the block restarts with its last half."""
    block = model.config.block_size
    logprobs, ranks = [math.nan], [0]
    context = ids[:1]
    for token in ids[1:]:
        if len(context) > block:
            context = context[-math.ceil(block / 2) :]
        logits = model(torch.tensor([context]))[0, -1].double().tolist()
        logprobs.append(logits[token] - math.log(sum(math.exp(value) for value in logits)))
        ranks.append(1 + sum(value > logits[token] for value in logits))
        context = [*context, token]
    return logprobs, ranks


@pytest.mark.parametrize("name", MODELS)
def test_each_token_has_the_probability_of_predicting_it_on_its_own(name: str):
    model = MODELS[name]
    texts = [some_text(length, seed=length) for length in (1, 2, 7, 8, 9, 10, 13, 14, 40)]
    for ids, found in zip(texts, score_sequences(model, texts), strict=True):
        logprobs, ranks = one_by_one(model, ids)
        assert found.logprobs == pytest.approx(np.array(logprobs), abs=2e-5, nan_ok=True)
        assert found.ranks.tolist() == ranks


@settings(max_examples=15, deadline=None)
@given(data=st.data(), batch_tokens=st.integers(1, 60), logits=st.integers(1, 200))
def test_batches_and_first_scored_tokens_do_not_change_the_scores(data: st.DataObject, batch_tokens: int, logits: int):
    model = MODELS["learned"]
    texts = [some_text(data.draw(st.integers(2, 40)), seed=number) for number in range(data.draw(st.integers(1, 5)))]
    firsts = [data.draw(st.integers(1, len(ids))) for ids in texts]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "_BATCH_TOKENS", batch_tokens)
        patch.setattr(scoring, "_LOGIT_VALUES", logits)
        found = score_sequences(model, texts, firsts)
    for ids, first, each in zip(texts, firsts, found, strict=True):
        logprobs, ranks = one_by_one(model, ids)
        assert each.logprobs[first:] == pytest.approx(np.array(logprobs[first:]), abs=2e-5)
        assert each.ranks[first:].tolist() == ranks[first:]
        assert np.isnan(each.logprobs[:first]).all() and not each.ranks[:first].any()


@given(block=st.integers(1, 50), position=st.integers(1, 500))
def test_every_token_sees_the_whole_text_or_at_least_half_a_block(block: int, position: int):
    context = position - window_start(position, block)
    assert context == position if position <= block else block / 2 <= context <= block


def test_windows_are_counted():
    assert [found.windows for found in score_sequences(MODELS["learned"], [some_text(n) for n in (1, 8, 9, 10, 14, 15)])] == [
        1, 1, 1, 2, 2, 3,
    ]  # fmt: skip


def test_scores_equal_those_of_transformers(tmp_path: Path):
    from transformers import GPT2LMHeadModel

    model = random_model(block_size=32)
    write_hf(model.config, model.state_dict(), tmp_path / "hf", tokenizer=None)
    theirs = GPT2LMHeadModel.from_pretrained(tmp_path / "hf").eval()
    texts = [some_text(length, seed=length) for length in (2, 32, 17)]
    for ids, found in zip(texts, score_sequences(model, texts), strict=True):
        with torch.no_grad():
            likelihood = theirs(torch.tensor([ids])).logits[0].log_softmax(dim=-1)
        expected = [float(likelihood[position - 1, ids[position]]) for position in range(1, len(ids))]
        order = likelihood.argsort(dim=-1, descending=True).tolist()
        assert found.logprobs[1:] == pytest.approx(np.array(expected), abs=1e-4)
        assert found.ranks[1:].tolist() == [
            order[position - 1].index(ids[position]) + 1 for position in range(1, len(ids))
        ]
        next_logprobs = next_token_logprobs(model, ids[:-1])
        assert next_logprobs == pytest.approx(likelihood[len(ids) - 2].double().numpy(), abs=1e-4)


@pytest.mark.parametrize("length", [1, 8, 9, 21])
def test_next_token_probabilities_sum_to_one_and_equal_the_sequence_scores(length: int):
    model, ids = MODELS["learned"], some_text(length)
    next_logprobs = next_token_logprobs(model, ids)
    assert np.exp(next_logprobs).sum() == pytest.approx(1, abs=1e-6)
    scores = score_sequences(model, [[*ids, token] for token in range(VOCAB)], [length] * VOCAB)
    assert next_logprobs == pytest.approx(np.array([found.logprobs[-1] for found in scores]), abs=2e-5)
    assert sorted(found.ranks[-1] for found in scores) == list(range(1, VOCAB + 1))


def test_logits_are_computed_in_small_batches_for_scored_tokens_only(monkeypatch: pytest.MonkeyPatch):
    model, rows = random_model(), []
    logits = model.logits

    def counted(hidden: torch.Tensor) -> torch.Tensor:
        rows.append(len(hidden))
        return logits(hidden)

    monkeypatch.setattr(model, "logits", counted)
    monkeypatch.setattr(scoring, "_LOGIT_VALUES", 7 * VOCAB)
    score_sequences(model, [some_text(300), some_text(200)], [1, 190])
    assert max(rows) == 7
    assert sum(rows) == 299 + 10


def test_equal_logits_have_the_same_rank():
    model = random_model()
    with torch.no_grad():
        model.wte.weight.zero_()  # every logit is the same
    (found,) = score_sequences(model, [[1, 2, 3]])
    assert found.ranks.tolist() == [0, 1, 1]
    assert found.logprobs[1:] == pytest.approx([-math.log(VOCAB)] * 2)
