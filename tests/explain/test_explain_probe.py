"""A question's value, from ids and from embeddings, equals the model's own; so do the layers' states."""

import pytest
import torch

from penna.config.sections import ModelConfig
from penna.explain.probe import Label, NextTokens, Probe, Question
from penna.model.gpt import GPT
from penna.model.seq2seq import build_model
from penna.train.classification import class_logits

SHAPE = {"n_layer": 3, "n_head": 2, "n_embd": 16, "block_size": 24, "vocab_size": 41, "n_class": 3}
IDS = (3, 7, 1, 40, 7, 9, 22)


def random_model(**fields) -> GPT:
    model = GPT(ModelConfig(**{**SHAPE, **fields}))
    model.init_weights(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(6 if parameter.dim() > 1 else 1)
    return model.eval()


@pytest.mark.parametrize("preset", ["gpt2", "gpt1", "modern"])
def test_the_value_of_next_tokens_is_the_sum_of_their_logprobs(preset):
    model = random_model(preset=preset)
    probe = Probe(model, Question((*IDS, 5, 6), 0, 7, NextTokens((5, 6, 8))))
    with torch.no_grad():
        logprobs = model(torch.tensor([[*IDS, 5, 6]])).log_softmax(-1)[0]
    expected = logprobs[-3, 5] + logprobs[-2, 6] + logprobs[-1, 8]
    values, probabilities = probe.values_and_probabilities([(*IDS, 5, 6)])
    assert values.item() == pytest.approx(expected.item(), abs=1e-5)
    assert probabilities.item() == pytest.approx(expected.exp().item(), rel=1e-4)
    assert probe.values(probe.embeddings()).item() == pytest.approx(expected.item(), abs=1e-5)


@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_the_value_of_a_class_against_another_is_the_difference_of_their_scores(pooling):
    model = random_model()
    probe = Probe(model, Question(IDS, 1, 6, Label(2, pooling, foil=0)))
    with torch.no_grad():
        scores = class_logits(model, model.hidden(torch.tensor([IDS])), torch.tensor([len(IDS)]), pooling)[0]
    values, probabilities = probe.values_and_probabilities([IDS])
    assert values.item() == pytest.approx((scores[2] - scores[0]).item(), abs=1e-5)
    assert probabilities.item() == pytest.approx(scores.softmax(-1)[2].item(), rel=1e-4)


def test_the_log_probability_of_a_foil_is_subtracted():
    model = random_model()
    with torch.no_grad():
        logprobs = model(torch.tensor([IDS])).log_softmax(-1)[0, -1]
    found = Probe(model, Question(IDS, 0, 7, NextTokens((4,), foil=11))).values_and_probabilities([IDS])[0]
    assert found.item() == pytest.approx((logprobs[4] - logprobs[11]).item(), abs=1e-5)


@pytest.mark.parametrize("fields", [{}, {"ngram_size": 3, "ngram_rows": 64, "ngram_width": 8}, {"preset": "modern"}])
def test_the_last_state_equals_the_models_hidden_state(fields):
    model = random_model(**fields)
    probe = Probe(model, Question(IDS, 0, 7, NextTokens((4,))))
    with torch.no_grad():
        states = probe.states(probe.embeddings())
        assert len(states) == 4
        torch.testing.assert_close(probe.final_norm(states[-1]), model.hidden(torch.tensor([IDS])))


def test_batches_give_the_same_values(monkeypatch):
    probe = Probe(random_model(), Question(IDS, 0, 7, NextTokens((4,))))
    rows = [[index, *IDS[1:]] for index in range(20)]
    whole = probe.values_and_probabilities(rows)[0]
    monkeypatch.setattr("penna.explain.probe.TOKENS_AT_ONCE", 15)
    torch.testing.assert_close(probe.values_and_probabilities(rows)[0], whole)
    torch.testing.assert_close(probe.values(probe.model.embed_tokens(torch.tensor(rows))), whole)


@pytest.mark.parametrize(("first", "end"), [(-1, 3), (3, 3), (0, 8)])
def test_explained_tokens_must_be_within_the_input(first, end):
    with pytest.raises(ValueError, match="are not within 7 tokens"):
        Question(IDS, first, end, NextTokens((4,)))


def test_a_seq2seq_is_refused():
    model = build_model(ModelConfig(arch="seq2seq", n_layer=1, n_head=2, n_embd=16, block_size=24, vocab_size=41))
    with pytest.raises(ValueError, match="seq2seq"):
        Probe(model, Question(IDS, 0, 7, NextTokens((4,))))
