"""Occlusion scores equal the difference of two forward passes, computed one text at a time."""

import pytest
import torch
from random_probes import IDS, probe, random_model

from penna.errors import DataError
from penna.explain.occlusion import occlusion
from penna.explain.probe import Label, NextTokens, Question

FIELDS = {
    "learned": {},
    "rotary": {"preset": "modern"},
    "n-grams": {"positions": "rotary", "ngram_size": 3, "ngram_rows": 100, "ngram_width": 8},
}


@torch.no_grad()
def logprob(model, ids, tokens):
    rows = model(torch.tensor([ids]))[0].log_softmax(-1)[-len(tokens) :]
    return sum(float(row[token]) for row, token in zip(rows, tokens, strict=True))


@torch.no_grad()
def label_logprob(model, ids, number, pooling):
    hidden = model.hidden(torch.tensor([ids]))[0]
    state = hidden.mean(0) if pooling == "mean" else hidden[-1]
    return float(model.score(state).log_softmax(-1)[number])


@pytest.mark.parametrize("fields", FIELDS.values(), ids=FIELDS)
@pytest.mark.parametrize("tokens", [(11,), (11, 4, 9)])
def test_a_score_is_the_drop_of_the_next_tokens_without_the_token(fields, tokens):
    model = random_model(**fields)
    probed = probe(model, target=NextTokens(tokens))
    whole = logprob(model, IDS, tokens)
    expected = [whole - logprob(model, IDS[:at] + IDS[at + 1 :], tokens) for at in range(len(IDS))]
    found = occlusion(probed)
    assert found.method == "occlusion"
    assert found.values == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_a_score_is_the_drop_of_a_class_without_the_token(pooling):
    model = random_model(n_class=3)
    probed = probe(model, target=Label(1, pooling))
    whole = label_logprob(model, IDS, 1, pooling)
    expected = [whole - label_logprob(model, IDS[:at] + IDS[at + 1 :], 1, pooling) for at in range(len(IDS))]
    assert occlusion(probed).values == pytest.approx(expected, abs=1e-4)


def test_the_scores_of_a_foil_are_subtracted():
    model = random_model()
    target, foil = (
        occlusion(probe(model, target=NextTokens((token,)))).values for token in (11, 30)
    )  # each without a foil
    expected = [one - two for one, two in zip(target, foil, strict=True)]
    assert occlusion(probe(model, target=NextTokens((11,), foil=30))).values == pytest.approx(expected, abs=1e-4)


def test_only_explained_tokens_are_removed(monkeypatch):
    model = random_model()
    whole = occlusion(probe(model)).values
    probed = probe(model)
    probed.question = Question(IDS, 2, 7, NextTokens((11,)))
    assert occlusion(probed).values == pytest.approx(whole[2:7], abs=1e-6)
    monkeypatch.setattr("penna.explain.probe.TOKENS_AT_ONCE", 20)
    assert occlusion(probed).values == pytest.approx(whole[2:7], abs=1e-5)


@pytest.mark.parametrize(("ids", "tokens"), [((7,), (11,)), ((7, 11), (11, 4))])
def test_a_single_token_cannot_be_removed(ids, tokens):
    probed = probe(random_model(), ids=ids, target=NextTokens(tokens))
    with pytest.raises(DataError, match="has only one token"):
        occlusion(probed)
