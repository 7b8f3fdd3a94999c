"""Queries resolve to the right input, explained tokens and targets, and impossible ones are refused."""

from pathlib import Path

import pytest
import torch

from penna.api.explain_query import ExplainQuery, resolve_query
from penna.api.score import score_after
from penna.config.sections import ModelConfig, TokenizerConfig
from penna.config.tasks import ChatTask, ClassifyTask, CompleteTask, PretrainTask
from penna.errors import DataError, RecipeError, RunError
from penna.explain.probe import Label, NextTokens, Probe
from penna.loading import LoadedModel
from penna.model.seq2seq import build_model
from penna.tasks.classify import ClassifyFormat
from penna.tokenizer.train import train_tokenizer

TOKENIZER = train_tokenizer(
    TokenizerConfig(kind="bpe", vocab_size=330), ["All roads lead to Rome. I eat an apple. " * 9]
)
SEPARATOR = TOKENIZER.separator_id


def random_loaded(task=None, *, block=24, **fields) -> LoadedModel:
    """A model with large random weights, so that its answers differ widely."""
    config = ModelConfig(
        **{"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": block, "vocab_size": TOKENIZER.vocab_size, **fields}
    )
    model = build_model(config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    return LoadedModel(model.eval(), TOKENIZER, Path("made"), None, task or PretrainTask())


def classifier(**fields) -> LoadedModel:
    return random_loaded(ClassifyTask(labels=["bad", "good", "so so"], **fields), n_class=3)


def most_probable(loaded, ids) -> int:
    with torch.no_grad():
        return int(loaded.model(torch.tensor([ids]))[0, -1, : TOKENIZER.vocab_size].argmax())


def test_the_default_is_the_most_probable_next_token():
    loaded = random_loaded()
    found = resolve_query(loaded, "All roads", ExplainQuery())
    (named,) = found.questions
    ids = TOKENIZER.encode("All roads")
    assert (
        found.kind == "next"
        and named.question.ids == tuple(ids)
        and list(named.question.features) == list(range(len(ids)))
    )
    assert named.question.target == NextTokens((most_probable(loaded, ids),))
    assert named.text == named.expected[0].text == TOKENIZER.token_text(most_probable(loaded, ids))


def test_a_continuation_has_the_probability_of_score_after():
    loaded = random_loaded()
    (named,) = resolve_query(loaded, "I eat", ExplainQuery(continuation="an apple")).questions
    value, _ = Probe(loaded.model, named.question).values_and_probabilities([named.question.ids])
    expected = score_after(loaded, "I eat", ["an apple"]).words[0].logprob
    assert value.item() == pytest.approx(expected, abs=1e-4)
    assert named.question.end == len(TOKENIZER.encode("I eat")), "the continuation itself is not explained"


def test_each_generated_token_is_a_question_after_those_before_it():
    loaded = random_loaded()
    found = resolve_query(loaded, "I eat", ExplainQuery(generate=3))
    ids = list(TOKENIZER.encode("I eat"))
    assert found.kind == "generated" and len(found.questions) == 3
    for named in found.questions:
        assert named.question.ids == tuple(ids) and named.question.end == len(ids)
        assert named.question.target == NextTokens((most_probable(loaded, ids),))
        ids.append(most_probable(loaded, ids))


def test_a_foil_is_one_token_at_the_same_position():
    loaded = random_loaded()
    apple, rome = (TOKENIZER.encode(f" {word}") for word in ("apple", "Rome"))
    assert len(apple) == len(rome) == 1
    (named,) = resolve_query(loaded, "I eat an", ExplainQuery(continuation="apple", against="Rome")).questions
    assert named.question.target == NextTokens((apple[0],), foil=rome[0])
    assert named.foil is not None and named.foil.text == "␣Rome"
    with pytest.raises(RecipeError, match="'zebra' has . tokens"):
        resolve_query(loaded, "I eat an", ExplainQuery(continuation="apple", against="zebra"))
    with pytest.raises(RecipeError, match="cannot be compared with itself"):
        resolve_query(loaded, "I eat an", ExplainQuery(continuation="apple", against="apple"))


def test_the_default_for_a_classifier_is_its_class_without_separators():
    loaded = classifier()
    (named,) = resolve_query(loaded, "I eat", ExplainQuery()).questions
    ids = ClassifyFormat(24, "tail").ids([("I eat",)], TOKENIZER)[0]
    assert named.question.ids == tuple(ids) and (named.question.first, named.question.end) == (1, len(ids) - 1)
    assert isinstance(named.question.target, Label) and loaded.labels[named.question.target.number] == named.text
    assert named.expected[0].text == named.text and sum(each.probability for each in named.expected) == pytest.approx(1)
    (other,) = resolve_query(loaded, "I eat", ExplainQuery(label="so so", against="bad")).questions
    assert other.question.target == Label(2, "last", foil=0)


def test_the_next_token_of_a_classifier_needs_a_language_model_head():
    loaded = classifier(lm_weight=0.5)
    assert resolve_query(loaded, "I eat", ExplainQuery(next_token=True)).kind == "next"
    with pytest.raises(RunError, match="never trained to generate text"):
        resolve_query(classifier(lm_weight=0.0), "I eat", ExplainQuery(next_token=True))


@pytest.mark.parametrize("query", [ExplainQuery(), ExplainQuery(continuation="an apple"), ExplainQuery(generate=2)])
def test_a_text_longer_than_the_block_is_truncated_on_the_left(query):
    loaded = random_loaded(block=8)
    found = resolve_query(loaded, "I eat an apple. " * 9, query)
    assert all(len(named.question.ids) <= 8 for named in found.questions)
    whole = TOKENIZER.encode("I eat an apple. " * 9)
    first = found.questions[0].question
    assert first.ids[: first.end] == tuple(whole[-first.end :])


def test_only_the_last_tokens_of_a_long_text_are_explained():
    found = resolve_query(random_loaded(), "I eat an apple. I eat", ExplainQuery(longest=3))
    question = found.questions[0].question
    assert len(question.features) == 3 and question.end == len(question.ids)
    assert "Only the last 3 of" in found.notices[0]


def test_a_single_token_gets_a_separator_before_it():
    found = resolve_query(random_loaded(), "I", ExplainQuery())
    assert found.questions[0].question.ids[0] == SEPARATOR and found.questions[0].question.first == 1
    assert "separator" in found.notices[0]


@pytest.mark.parametrize("loaded", [random_loaded(), classifier()], ids=["language model", "classifier"])
def test_an_empty_text_is_refused(loaded):
    with pytest.raises(DataError, match="empty"):
        resolve_query(loaded, "", ExplainQuery())


def test_impossible_queries_are_refused_and_named():
    with pytest.raises(RecipeError, match="a continuation and a label"):
        ExplainQuery(continuation="x", label="good")
    with pytest.raises(RecipeError, match="cannot be combined with generate = 3"):
        ExplainQuery(generate=3, against="x")
    with pytest.raises(RecipeError, match="no class 'fine'"):
        resolve_query(classifier(), "I eat", ExplainQuery(label="fine"))
    with pytest.raises(RecipeError, match="second text"):
        resolve_query(random_loaded(), "I eat", ExplainQuery(pair="an apple"))
    with pytest.raises(RunError, match="is not a classifier"):
        resolve_query(random_loaded(), "I eat", ExplainQuery(label="good"))


@pytest.mark.parametrize("task", [ChatTask(), CompleteTask()])
def test_a_model_with_an_encoder_is_refused(task):
    with pytest.raises(RunError, match="encoder"):
        resolve_query(random_loaded(task, arch="seq2seq"), "I eat", ExplainQuery())


def test_a_completion_is_explained_after_its_template():
    loaded = random_loaded(CompleteTask(template="{prompt} I eat", separator=""))
    (named,) = resolve_query(loaded, "All roads lead to Rome.", ExplainQuery()).questions
    read = TOKENIZER.decode([index for index in named.question.ids if index != SEPARATOR])
    assert read == "All roads lead to Rome. I eat"


@pytest.mark.parametrize(
    ("fields", "message"), [({"generate": -1}, "--generate must be at least 1 .got -1."), ({"longest": 0}, "longest")]
)
def test_token_counts_must_be_positive(fields, message):
    with pytest.raises(RecipeError, match=message):
        ExplainQuery(**fields)
