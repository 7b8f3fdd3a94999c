"""The logit lens equals the hidden states of transformers through norm and head, for tokens and classes."""

from pathlib import Path

import pytest
import torch
from random_probes import IDS, gpt2_and_ours, probe, qwen3_and_ours, random_model

from penna.explain.logit_lens import current_prediction, logit_lens
from penna.explain.probe import Label, NextTokens


@pytest.mark.parametrize("both", [gpt2_and_ours, qwen3_and_ours])
def test_each_layer_equals_the_hidden_state_of_transformers_through_the_final_norm_and_head(both, tmp_path: Path):
    theirs, ours = both(tmp_path)
    body = theirs.transformer if hasattr(theirs, "transformer") else theirs.model
    norm = body.ln_f if hasattr(body, "ln_f") else body.norm
    with torch.no_grad():
        *states, last = theirs(torch.tensor([IDS]), output_hidden_states=True).hidden_states
        expected = [theirs.lm_head(hidden)[0, -1].softmax(-1) for hidden in [*map(norm, states), last]]
    found = logit_lens(probe(ours), top=4)
    assert len(found) == 4
    for layer, probabilities in zip(found, expected, strict=True):
        order = probabilities.argsort(descending=True).tolist()
        assert [each.id for each in layer.top] == order[:4]
        assert [each.probability for each in layer.top] == pytest.approx(probabilities[order[:4]].tolist(), abs=1e-5)
        assert layer.probability == pytest.approx(float(probabilities[11]), abs=1e-5)
        assert layer.rank == order.index(11) + 1
    assert current_prediction(probe(ours), top=4).top == found[-1].top


def test_several_tokens_have_the_product_of_probabilities_and_the_worst_rank():
    model = random_model()
    tokens = (11, 4, 9)
    whole = model(torch.tensor([[*IDS, *tokens]]))[0, len(IDS) - 1 : -1].softmax(-1)  # (3, 61)
    found = current_prediction(probe(model, (*IDS, 11, 4), target=NextTokens(tokens)), top=2)
    expected = [float(row[token]) for row, token in zip(whole, tokens, strict=True)]
    assert found.probability == pytest.approx(expected[0] * expected[1] * expected[2], rel=1e-4)
    assert found.rank == max(int((row > value).sum()) + 1 for row, value in zip(whole, expected, strict=True))
    assert [each.id for each in found.top] == whole[2].argsort(descending=True)[:2].tolist()


@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_each_layer_predicts_classes_for_a_label(pooling):
    model = random_model(n_class=3)
    x = model.wte(torch.tensor([IDS])) + model.wpe.weight[: len(IDS)]
    found = logit_lens(probe(model, target=Label(2, pooling)))
    for layer, read in enumerate(found):
        hidden = model.ln_f(x)[0]
        state = hidden[-1] if pooling == "last" else hidden.mean(0)
        expected = (model.score.weight @ state).softmax(0)
        assert {each.id: each.probability for each in read.top} == pytest.approx(
            dict(enumerate(expected.tolist())), abs=1e-5
        )
        assert read.probability == pytest.approx(float(expected[2]), abs=1e-5)
        if layer < 3:
            x = model.h[layer](x, model.context(torch.tensor([IDS]), None))


def test_rows_without_tokens_are_not_predicted():
    probed = probe(random_model())
    all_of = logit_lens(probed, top=61)[-1].top
    known = logit_lens(probed, top=61, known=30)[-1].top
    assert len(all_of) == 61
    assert known == tuple(each for each in all_of if each.id < 30)
