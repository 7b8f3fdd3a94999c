"""Language model metrics equal a plain sum over the text, in any batches and on any number of ranks."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from id_stream import IdStream

from penna.config.sections import ModelConfig
from penna.data import batches
from penna.data.batches import ValidationWindows
from penna.evaluate import language_model
from penna.evaluate.language_model import language_model_metrics, score_rows
from penna.model.gpt import GPT
from penna.storage import to_json
from penna.train import objective
from penna.train.objective import NextTokenObjective

VOCAB, BLOCK = 23, 8
TOKEN_BYTES = torch.arange(VOCAB) % 4  # token 0 has no bytes, like a separator


def some_text(length: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(0, VOCAB, length).tolist()


@pytest.fixture(scope="module")
def model() -> GPT:
    model = GPT(ModelConfig(n_layer=1, n_head=2, n_embd=16, block_size=BLOCK, vocab_size=VOCAB))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    return model.eval()


@torch.no_grad()
def brute_force(model: GPT, ids: list[int]) -> tuple[float, int]:
    """Nats and correct predictions of a text, with each token predicted from those before it in its window."""
    nats, right = 0.0, 0
    for position in range(1, len(ids)):
        start = (position - 1) // BLOCK * BLOCK
        logits = model(torch.tensor([ids[start:position]]))[0, -1].double()
        nats += math.log(sum(math.exp(value) for value in logits.tolist())) - float(logits[ids[position]])
        right += int(logits.argmax()) == ids[position]
    return nats, right


@pytest.mark.parametrize("length", [2, 8, 9, 10, 57, 64, 65])
def test_sums_equal_those_of_predicting_each_token_on_its_own(model: GPT, length: int):
    ids = some_text(length, seed=length)
    sums, counts = score_rows(model, NextTokenObjective(TOKEN_BYTES), ValidationWindows(IdStream(ids), BLOCK))
    nats, right = brute_force(model, ids)
    assert sums == pytest.approx({"loss": nats, "correct": right}, rel=1e-5)
    targets = ids[1:]
    assert counts == {
        "loss": len(targets),
        "correct": len(targets),
        "tokens": len(targets),
        "bytes": sum(token % 4 for token in targets),
    }


@settings(max_examples=40, deadline=None)
@given(length=st.integers(2, 120), batch_tokens=st.integers(1, 100), world=st.integers(1, 6))
def test_batches_and_ranks_do_not_change_the_sums(model: GPT, length: int, batch_tokens: int, world: int):
    windows, scorer = ValidationWindows(IdStream(some_text(length)), BLOCK), NextTokenObjective(TOKEN_BYTES)
    sums, counts = score_rows(model, scorer, windows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(language_model, "_BATCH_TOKENS", batch_tokens)
        shares = [score_rows(model, scorer, windows, rank, world) for rank in range(world)]
    # Every rank names the same terms; otherwise summing them over ranks would hang or mix them.
    assert all(list(s) == list(sums) and list(c) == list(counts) for s, c in shares)
    for term, value in sums.items():
        assert sum(share[term] for share, _ in shares) == pytest.approx(value, rel=1e-5)
    for term, count in counts.items():
        assert sum(share[term] for _, share in shares) == count


def test_ranks_score_disjoint_parts(model: GPT, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(language_model, "_BATCH_TOKENS", 2 * BLOCK)
    windows = ValidationWindows(IdStream(some_text(6 * BLOCK + 1)), BLOCK)  # three batches of two rows
    counts = [score_rows(model, NextTokenObjective(TOKEN_BYTES), windows, rank, 4)[1]["loss"] for rank in range(4)]
    assert counts == [2 * BLOCK, 2 * BLOCK, 2 * BLOCK, 0]


def test_scoring_keeps_no_gradients(model: GPT):
    score_rows(model, NextTokenObjective(TOKEN_BYTES), ValidationWindows(IdStream(some_text(30)), BLOCK))
    assert all(parameter.grad is None for parameter in model.parameters())


def metrics_of(model: GPT, ids: list[int], words: int = 7):
    sums, counts = score_rows(model, NextTokenObjective(TOKEN_BYTES), ValidationWindows(IdStream(ids), BLOCK))
    return language_model_metrics(sums, counts, words, BLOCK)


def test_a_uniform_model_costs_log2_of_the_vocabulary_per_token():
    model = GPT(ModelConfig(n_layer=1, n_head=2, n_embd=16, block_size=BLOCK, vocab_size=VOCAB)).eval()
    with torch.no_grad():
        model.wte.weight.zero_()
    ids = some_text(500)
    metrics = metrics_of(model, ids)
    size = sum(token % 4 for token in ids[1:])
    assert (metrics.tokens, metrics.bytes, metrics.stride) == (499, size, BLOCK)
    assert metrics.bits_per_byte == pytest.approx(math.log2(VOCAB) * 499 / size, rel=1e-6)
    assert metrics.loss == pytest.approx(math.log(VOCAB), rel=1e-6)
    assert metrics.token_perplexity == pytest.approx(VOCAB, rel=1e-5)
    assert metrics.accuracy == ids[1:].count(0) / 499  # all logits are equal: it predicts the first id


def test_metrics_follow_their_definitions(model: GPT):
    ids = some_text(200, seed=3)
    nats, right = brute_force(model, ids)
    metrics = metrics_of(model, ids, words=50)
    size = sum(token % 4 for token in ids[1:])
    assert metrics.loss == pytest.approx(nats / 199, rel=1e-5)
    assert metrics.token_perplexity == pytest.approx(math.exp(nats / 199), rel=1e-4)
    assert metrics.bits_per_byte == pytest.approx(nats / size / math.log(2), rel=1e-5)
    assert metrics.word_perplexity == pytest.approx(math.exp(nats / 50), rel=1e-3)
    assert metrics.accuracy == right / 199
    assert metrics.words == 50


def test_bits_per_byte_do_not_depend_on_the_tokenizer():
    # The same text and the same probability, as 100 tokens of 3 bytes or as 300 tokens of one.
    few = language_model_metrics({"loss": 400.0, "correct": 0}, {"loss": 100, "bytes": 300}, 60, 8)
    many = language_model_metrics({"loss": 400.0, "correct": 0}, {"loss": 300, "bytes": 300}, 60, 8)
    assert few.bits_per_byte == many.bits_per_byte == 400 / math.log(2) / 300
    assert few.word_perplexity == many.word_perplexity
    assert few.token_perplexity > many.token_perplexity


def test_an_overflowing_perplexity_is_infinite_and_null_in_json():
    metrics = language_model_metrics({"loss": 1e6, "correct": 0}, {"loss": 1000, "bytes": 10}, 1, 8)
    assert metrics.word_perplexity == math.inf
    assert to_json(metrics)["word_perplexity"] is None
    assert json.loads(json.dumps(to_json(metrics), allow_nan=False))["loss"] == 1000


def test_batches_and_objective_use_the_same_ignore_index():
    assert batches.IGNORE_INDEX == objective.IGNORE_INDEX == -100
