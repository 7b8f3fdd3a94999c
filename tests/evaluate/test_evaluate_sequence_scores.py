"""The chain of a text: what transformers gives for the same weights, and what predicting each token by itself gives."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from penna.config.sections import ModelConfig
from penna.evaluate import sequence_scores as chain
from penna.evaluate.sequence_scores import next_token_logprobs, score_sequences, window_start
from penna.interop.hf_folder import write_hf
from penna.model.gpt import GPT

os.environ["HF_HUB_OFFLINE"] = "1"

VOCAB = 23
SHAPE = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 8, "vocab_size": VOCAB}


@torch.no_grad()
def made(**fields: object) -> GPT:
    """A model with large random weights, so that its next tokens differ widely."""
    model = GPT(ModelConfig(**{**SHAPE, **fields}))
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    return model.eval()


MODELS = {
    "learned": made(),
    "odd block": made(block_size=7),
    "block of one": made(block_size=1),
    "block of two": made(block_size=2),
    "modern": made(preset="modern", n_kv_head=1),
    "n-grams": made(ngram_size=3, ngram_rows=50, ngram_width=8),
}


def some_text(length: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(0, VOCAB, length).tolist()


@torch.no_grad()
def one_by_one(model: GPT, ids: list[int]) -> tuple[list[float], list[int]]:
    """Each token from what stands before it; a context that has outgrown the block begins anew with its last half."""
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
def test_each_token_has_the_probability_of_being_predicted_by_itself(name: str):
    model = MODELS[name]
    texts = [some_text(length, seed=length) for length in (1, 2, 7, 8, 9, 10, 13, 14, 40)]
    for ids, found in zip(texts, score_sequences(model, texts), strict=True):
        logprobs, ranks = one_by_one(model, ids)
        assert found.logprobs == pytest.approx(np.array(logprobs), abs=2e-5, nan_ok=True)
        assert found.ranks.tolist() == ranks


@settings(max_examples=15, deadline=None)
@given(data=st.data(), at_once=st.integers(1, 60), logits=st.integers(1, 200))
def test_what_is_read_together_and_from_where_it_is_asked_for_changes_nothing(
    data: st.DataObject, at_once: int, logits: int
):
    model = MODELS["learned"]
    texts = [some_text(data.draw(st.integers(2, 40)), seed=number) for number in range(data.draw(st.integers(1, 5)))]
    firsts = [data.draw(st.integers(1, len(ids))) for ids in texts]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chain, "_BATCH_TOKENS", at_once)
        patch.setattr(chain, "_LOGIT_VALUES", logits)
        found = score_sequences(model, texts, firsts)
    for ids, first, each in zip(texts, firsts, found, strict=True):
        logprobs, ranks = one_by_one(model, ids)
        assert each.logprobs[first:] == pytest.approx(np.array(logprobs[first:]), abs=2e-5)
        assert each.ranks[first:].tolist() == ranks[first:]
        assert np.isnan(each.logprobs[:first]).all() and not each.ranks[:first].any()


@given(block=st.integers(1, 50), place=st.integers(1, 500))
def test_every_token_has_all_before_it_or_at_least_half_a_block(block: int, place: int):
    context = place - window_start(place, block)
    assert context == place if place <= block else block / 2 <= context <= block


def test_the_windows_are_counted():
    assert [found.windows for found in score_sequences(MODELS["learned"], [some_text(n) for n in (1, 8, 9, 10, 14, 15)])] == [
        1, 1, 1, 2, 2, 3,
    ]  # fmt: skip


def test_transformers_gives_the_same_with_the_same_weights(tmp_path: Path):
    from transformers import GPT2LMHeadModel

    model = made(block_size=32)
    write_hf(model.config, model.state_dict(), tmp_path / "hf", tokenizer=None)
    theirs = GPT2LMHeadModel.from_pretrained(tmp_path / "hf").eval()
    texts = [some_text(length, seed=length) for length in (2, 32, 17)]
    for ids, found in zip(texts, score_sequences(model, texts), strict=True):
        with torch.no_grad():
            likelihood = theirs(torch.tensor([ids])).logits[0].log_softmax(dim=-1)
        expected = [float(likelihood[place - 1, ids[place]]) for place in range(1, len(ids))]
        order = likelihood.argsort(dim=-1, descending=True).tolist()
        assert found.logprobs[1:] == pytest.approx(np.array(expected), abs=1e-4)
        assert found.ranks[1:].tolist() == [order[place - 1].index(ids[place]) + 1 for place in range(1, len(ids))]
        behind = next_token_logprobs(model, ids[:-1])
        assert behind == pytest.approx(likelihood[len(ids) - 2].double().numpy(), abs=1e-4)


@pytest.mark.parametrize("length", [1, 8, 9, 21])
def test_the_next_tokens_share_all_probability_and_are_those_of_the_chain(length: int):
    model, ids = MODELS["learned"], some_text(length)
    behind = next_token_logprobs(model, ids)
    assert np.exp(behind).sum() == pytest.approx(1, abs=1e-6)
    chains = score_sequences(model, [[*ids, token] for token in range(VOCAB)], [length] * VOCAB)
    assert behind == pytest.approx(np.array([found.logprobs[-1] for found in chains]), abs=2e-5)
    assert sorted(found.ranks[-1] for found in chains) == list(range(1, VOCAB + 1))


def test_logits_are_made_for_a_few_rows_and_only_where_asked_for(monkeypatch: pytest.MonkeyPatch):
    model, rows = made(), []
    logits = model.logits

    def counted(hidden: torch.Tensor) -> torch.Tensor:
        rows.append(len(hidden))
        return logits(hidden)

    monkeypatch.setattr(model, "logits", counted)
    monkeypatch.setattr(chain, "_LOGIT_VALUES", 7 * VOCAB)
    score_sequences(model, [some_text(300), some_text(200)], [1, 190])
    assert max(rows) == 7
    assert sum(rows) == 299 + 10


def test_equals_share_a_rank():
    model = made()
    with torch.no_grad():
        model.wte.weight.zero_()  # every logit is the same
    (found,) = score_sequences(model, [[1, 2, 3]])
    assert found.ranks.tolist() == [0, 1, 1]
    assert found.logprobs[1:] == pytest.approx([-math.log(VOCAB)] * 2)
