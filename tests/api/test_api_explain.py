"""Explanations end to end: every method and view on one text, sums over words, and faithfulness."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch

from penna.api.explain import ExplainSettings, explain, measure_faithfulness
from penna.api.explain_query import ExplainQuery
from penna.config.sections import ModelConfig, TokenizerConfig
from penna.config.tasks import ClassifyTask, PretrainTask
from penna.errors import DataError, RecipeError
from penna.explain.explanation import DEFAULT_METHODS, METHODS
from penna.loading import LoadedModel
from penna.model.gpt import GPT
from penna.runs.folder import RunFolder
from penna.storage import to_json
from penna.tokenizer.train import train_tokenizer

TOKENIZER = train_tokenizer(
    TokenizerConfig(kind="bpe", vocab_size=300), ["All roads lead to Rome. I eat an apple. " * 9]
)
TEXT = "All roadsters lead to an apple"


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return random_loaded(PretrainTask())


@pytest.fixture(scope="module")
def classifier() -> LoadedModel:
    return random_loaded(ClassifyTask(labels=["bad", "good"], pooling="mean"), n_class=2)


def random_loaded(task, **fields) -> LoadedModel:
    shape = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 48, "vocab_size": TOKENIZER.vocab_size}
    model = GPT(ModelConfig(**{**shape, **fields}))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3 + (parameter.dim() == 1))
    return LoadedModel(model.eval(), TOKENIZER, Path("made"), None, task)


def without(loaded: LoadedModel, ids: list[int], position: int, token: int) -> float:
    remaining = [index for at, index in enumerate(ids) if at != position]
    with torch.no_grad():
        return float(loaded.model(torch.tensor([remaining]))[0, -1].log_softmax(-1)[token])


def test_an_answer_has_the_scores_of_every_method_per_token_and_word(loaded):
    answer = explain(loaded, TEXT, ExplainSettings(methods=METHODS)).answers[0]
    assert tuple(found.method for found in answer.attributions) == METHODS
    assert "".join(word.text for word in answer.words) == TEXT
    assert len(answer.words) < len(answer.tokens), "some words have several tokens"
    for found in answer.attributions:
        assert len(found.tokens) == len(answer.tokens) == answer.end - answer.first
        sums = [sum(found.tokens[word.start : word.end]) for word in answer.words]
        assert found.words == pytest.approx(sums)
        assert all(math.isfinite(score) for score in found.tokens)
    assert answer.probability == pytest.approx(math.exp(answer.logprob))
    assert answer.expected[0].probability == pytest.approx(answer.probability, rel=1e-4)


def test_occlusion_is_the_drop_of_the_answer_without_each_token(loaded):
    answer = explain(loaded, TEXT, ExplainSettings(methods=("occlusion",))).answers[0]
    ids = [token.id for token in answer.tokens]
    with torch.no_grad():
        token = int(loaded.model(torch.tensor([ids]))[0, -1, : TOKENIZER.vocab_size].argmax())
    expected = [answer.logprob - without(loaded, ids, position, token) for position in range(len(ids))]
    assert answer.attributions[0].tokens == pytest.approx(expected, abs=1e-4)


def test_a_foil_changes_the_scores_but_not_the_probability(loaded):
    plain = explain(loaded, TEXT, ExplainSettings(ExplainQuery(continuation="Rome"))).answers[0]
    against = explain(loaded, TEXT, ExplainSettings(ExplainQuery(continuation="Rome", against="apple"))).answers[0]
    assert against.logprob == pytest.approx(plain.logprob) and against.foil is not None
    assert against.attributions[0].tokens != pytest.approx(plain.attributions[0].tokens, abs=1e-3)


def test_views_have_a_row_for_every_layer_and_head(loaded):
    settings = ExplainSettings(
        methods=("attention",), attention=True, lens=True, heads=True, layers=True, without=((0, 0), (1, 1))
    )
    explanation = explain(loaded, TEXT, settings)
    views, tokens = explanation.views, len(explanation.answers[0].tokens)
    assert views.attention is not None and views.lens is not None and views.heads is not None
    assert views.layers is not None and views.without is not None
    maps = torch.tensor(views.attention.weights)
    assert maps.shape == (2, 2, tokens, tokens)
    torch.testing.assert_close(maps.sum(-1), torch.ones(2, 2, tokens))
    assert len(views.lens) == 3
    assert views.lens[-1].probability == pytest.approx(explanation.answers[0].probability, rel=1e-4)
    assert torch.tensor(views.heads.logprob).shape == (2, 2)
    assert views.layers.layers == (0, 1, 2) and len(views.layers.words[0]) == len(explanation.answers[0].words)
    assert views.without.heads == ((0, 0), (1, 1))
    assert views.without.probability != pytest.approx(explanation.answers[0].probability, rel=1e-3)


def test_each_generated_token_is_explained_by_the_tokens_before_it(loaded):
    explanation = explain(loaded, "All roads", ExplainSettings(ExplainQuery(generate=3), methods=("gradient-x-input",)))
    lengths = [len(answer.tokens) for answer in explanation.answers]
    assert lengths == [lengths[0], lengths[0] + 1, lengths[0] + 2]
    assert explanation.answers[1].tokens[-1].text == explanation.answers[0].text


def test_a_classifiers_words_are_explained_without_its_separators(classifier):
    answer = explain(classifier, TEXT, ExplainSettings(methods=METHODS)).answers[0]
    assert "".join(word.text for word in answer.words) == TEXT
    assert (answer.first, answer.end) == (1, len(answer.tokens) - 1)


def test_an_explanation_is_json_and_depends_only_on_the_seed(loaded):
    settings = ExplainSettings(methods=("information", "integrated-gradients"), lens=True, seed=3)
    first, again = (to_json(explain(loaded, TEXT, settings)) for _ in range(2))
    assert json.loads(json.dumps(first, allow_nan=False)) == json.loads(json.dumps(again, allow_nan=False))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"methods": ("guessing",)}, "no method 'guessing'"),
        ({"methods": ("occlusion", "occlusion")}, "twice"),
        ({"layer": 3, "methods": ("information",)}, "no layer 3: the model has 2"),
        ({"without": ((0, 2),)}, "no head 0.2"),
    ],
)
def test_unknown_methods_layers_and_heads_are_named(loaded, fields, message):
    with pytest.raises(RecipeError, match=message):
        explain(loaded, TEXT, ExplainSettings(**fields))


def test_faithfulness_is_saved_in_the_run_and_skips_short_texts(loaded, tmp_path):
    owned = dataclasses.replace(loaded, run=_Run(tmp_path), default_task=PretrainTask())
    metrics = measure_faithfulness(owned, [TEXT, "I eat an apple", "I"], ExplainSettings(methods=("occlusion",)))
    assert metrics.texts == 2 and set(metrics.methods) == {"occlusion", "random"}
    saved = json.loads((tmp_path / "evaluations" / "faithfulness.json").read_text(encoding="utf-8"))
    assert saved["given"] == 3 and saved["methods"]["occlusion"] == json.loads(
        json.dumps(to_json(metrics)["methods"]["occlusion"])
    )


class _Run(RunFolder):
    """A run that only stores evaluations."""

    def recipe(self):
        from penna.config.recipe import build_recipe

        return build_recipe({})


def test_faithfulness_without_texts_or_with_several_answers_is_refused(loaded):
    with pytest.raises(DataError, match="No text can be measured"):
        measure_faithfulness(loaded, ["I"])
    with pytest.raises(RecipeError, match="needs one answer per text"):
        measure_faithfulness(loaded, [TEXT], ExplainSettings(ExplainQuery(generate=2)))


def test_the_default_methods_exist():
    assert set(DEFAULT_METHODS) <= set(METHODS)
