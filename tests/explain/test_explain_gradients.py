"""Gradient scores equal captum's, on GPT-2 in transformers and on our models, and sum to what they explain."""

from functools import partial
from pathlib import Path

import pytest
import torch
from captum.attr import InputXGradient, IntegratedGradients
from random_probes import IDS, NEXT, gpt2_and_ours, probe, random_model

from penna.explain.gradients import BASELINES, gradient_x_input, integrated_gradients
from penna.explain.probe import Label, NextTokens

OURS = {
    "gpt2": {"preset": "gpt2"},
    "modern": {"preset": "modern"},
    "n-grams": {"preset": "gpt2", "positions": "rotary", "ngram_size": 3, "ngram_rows": 100, "ngram_width": 8},
}
TARGETS = {
    "a token": NEXT,
    "a continuation": NextTokens((11, 4, 9)),
    "a foil": NextTokens((11,), foil=30),
    "a label": Label(2, "last"),
    "a label, mean": Label(2, "mean", foil=0),
}


def converged(probed, baseline):
    return integrated_gradients(probed, baseline=baseline, steps=128, most_steps=128)


def baseline_of(embeddings, table, first, kind):
    start = embeddings.clone()
    start[:, first:] = 0 if kind == "zero" else table.mean(0)
    return start


def hf_logprob(theirs, embeddings):
    return theirs(inputs_embeds=embeddings).logits[:, -1].log_softmax(-1)[:, NEXT.tokens[0]]


@pytest.mark.parametrize("first", [0, 3])
def test_scores_of_gpt2_equal_captum_on_transformers(tmp_path: Path, first):
    theirs, ours = gpt2_and_ours(tmp_path)
    probed = probe(ours, first=first)
    embeddings = theirs.transformer.wte(torch.tensor([IDS]))
    logprob = partial(hf_logprob, theirs)
    expected = InputXGradient(logprob).attribute(embeddings.requires_grad_()).sum(-1)[0, first:]
    assert gradient_x_input(probed).values == pytest.approx(expected.tolist(), abs=1e-4)
    for kind in BASELINES:
        start = baseline_of(embeddings.detach(), theirs.transformer.wte.weight, first, kind)
        expected_integrated = IntegratedGradients(logprob).attribute(embeddings, start, n_steps=128).sum(-1)[0, first:]
        assert converged(probed, kind).values == pytest.approx(expected_integrated.tolist(), abs=2e-3)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("fields", OURS.values(), ids=OURS)
def test_scores_of_every_model_and_target_equal_captum(fields, target):
    probed = probe(random_model(n_class=3, **fields), target=target)
    embeddings = probed.embeddings().requires_grad_()
    expected = InputXGradient(probed.value).attribute(embeddings).sum(-1)[0]
    assert gradient_x_input(probed).values == pytest.approx(expected.tolist(), abs=1e-4)
    start = baseline_of(embeddings.detach(), probed.model.wte.weight, 0, "mean")
    expected_integrated = IntegratedGradients(probed.value).attribute(embeddings, start, n_steps=128).sum(-1)[0]
    found = converged(probed, "mean")
    assert found.about["converged"]
    assert found.values == pytest.approx(expected_integrated.tolist(), abs=5e-3)


@pytest.mark.parametrize("kind", BASELINES)
def test_integrated_gradients_sum_to_the_change_of_the_value(kind):
    probed = probe(random_model(), first=2)
    found = integrated_gradients(probed, baseline=kind)
    embeddings = probed.embeddings()
    start = baseline_of(embeddings, probed.model.wte.weight, 2, kind)
    difference = float(probed.value(embeddings) - probed.value(start))
    about = found.about
    assert about["converged"] and about["baseline"] == kind
    assert about["value"] - about["baseline_value"] == pytest.approx(difference, abs=1e-5)
    assert sum(found.values) - difference == pytest.approx(about["gap"], abs=1e-4)
    assert abs(about["gap"]) <= 0.02 * abs(difference)


def test_steps_double_until_the_scores_converge_or_the_limit_is_reached():
    probed = probe(random_model())
    few = integrated_gradients(probed, steps=2, most_steps=2)
    assert few.about["steps"] == 2 and not few.about["converged"] and abs(few.about["gap"]) > 0.05
    most = integrated_gradients(probed, steps=2, most_steps=7)
    assert most.about["steps"] == 7
    enough = integrated_gradients(probed, steps=2, most_steps=512)
    assert enough.about["converged"] and enough.about["steps"] == 16


def test_scores_do_not_depend_on_the_batch_size(monkeypatch):
    probed = probe(random_model())
    together = integrated_gradients(probed)
    monkeypatch.setattr("penna.explain.probe.TOKENS_AT_ONCE", 5 * len(IDS))
    assert integrated_gradients(probed).values == pytest.approx(together.values, abs=1e-5)
