"""Questions about texts: what is read, what may have mattered, what is asked; and what cannot be asked."""

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


def at_hand(task=None, *, block=24, **fields) -> LoadedModel:
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
    return at_hand(ClassifyTask(labels=["bad", "good", "so so"], **fields), n_class=3)


def likeliest(loaded, ids) -> int:
    with torch.no_grad():
        return int(loaded.model(torch.tensor([ids]))[0, -1, : TOKENIZER.vocab_size].argmax())


def test_without_a_wish_the_likeliest_next_token_is_asked_about():
    loaded = at_hand()
    found = resolve_query(loaded, "All roads", ExplainQuery())
    (put,) = found.questions
    ids = TOKENIZER.encode("All roads")
    assert (
        found.kind == "next" and put.question.ids == tuple(ids) and list(put.question.features) == list(range(len(ids)))
    )
    assert put.question.target == NextTokens((likeliest(loaded, ids),))
    assert put.text == put.expected[0].text == TOKENIZER.token_text(likeliest(loaded, ids))


def test_a_continuation_has_the_probability_that_score_gives_it():
    loaded = at_hand()
    (put,) = resolve_query(loaded, "I eat", ExplainQuery(continuation="an apple")).questions
    value, _ = Probe(loaded.model, put.question).values_and_probabilities([put.question.ids])
    expected = score_after(loaded, "I eat", ["an apple"]).words[0].logprob
    assert value.item() == pytest.approx(expected, abs=1e-4)
    assert put.question.end == len(TOKENIZER.encode("I eat")), "the continuation itself is not held responsible"


def test_each_token_the_model_would_write_is_a_question_that_reads_those_before_it():
    loaded = at_hand()
    found = resolve_query(loaded, "I eat", ExplainQuery(generate=3))
    ids = list(TOKENIZER.encode("I eat"))
    assert found.kind == "generated" and len(found.questions) == 3
    for put in found.questions:
        assert put.question.ids == tuple(ids) and put.question.end == len(ids)
        assert put.question.target == NextTokens((likeliest(loaded, ids),))
        ids.append(likeliest(loaded, ids))


def test_a_foil_is_one_token_in_the_same_place():
    loaded = at_hand()
    apple, rome = (TOKENIZER.encode(f" {word}") for word in ("apple", "Rome"))
    assert len(apple) == len(rome) == 1
    (put,) = resolve_query(loaded, "I eat an", ExplainQuery(continuation="apple", against="Rome")).questions
    assert put.question.target == NextTokens((apple[0],), foil=rome[0])
    assert put.foil is not None and put.foil.text == "␣Rome"
    with pytest.raises(RecipeError, match="'zebra' is . tokens"):
        resolve_query(loaded, "I eat an", ExplainQuery(continuation="apple", against="zebra"))
    with pytest.raises(RecipeError, match="against itself"):
        resolve_query(loaded, "I eat an", ExplainQuery(continuation="apple", against="apple"))


def test_a_classifier_is_asked_for_its_class_and_its_separators_are_no_words():
    loaded = classifier()
    (put,) = resolve_query(loaded, "I eat", ExplainQuery()).questions
    ids = ClassifyFormat(24, "tail").ids([("I eat",)], TOKENIZER)[0]
    assert put.question.ids == tuple(ids) and (put.question.first, put.question.end) == (1, len(ids) - 1)
    assert isinstance(put.question.target, Label) and loaded.labels[put.question.target.number] == put.text
    assert put.expected[0].text == put.text and sum(each.probability for each in put.expected) == pytest.approx(1)
    (other,) = resolve_query(loaded, "I eat", ExplainQuery(label="so so", against="bad")).questions
    assert other.question.target == Label(2, "last", foil=0)


def test_a_classifier_that_learned_to_write_is_asked_for_its_next_token_where_that_is_wished():
    loaded = classifier(lm_weight=0.5)
    assert resolve_query(loaded, "I eat", ExplainQuery(next_token=True)).kind == "next"
    with pytest.raises(RunError, match="never learned to write"):
        resolve_query(classifier(lm_weight=0.0), "I eat", ExplainQuery(next_token=True))


@pytest.mark.parametrize("asked", [ExplainQuery(), ExplainQuery(continuation="an apple"), ExplainQuery(generate=2)])
def test_a_text_longer_than_the_block_is_cut_from_the_left_and_the_cut_is_told(asked):
    loaded = at_hand(block=8)
    found = resolve_query(loaded, "I eat an apple. " * 9, asked)
    assert all(len(put.question.ids) <= 8 for put in found.questions)
    whole = TOKENIZER.encode("I eat an apple. " * 9)
    first = found.questions[0].question
    assert first.ids[: first.end] == tuple(whole[-first.end :])


def test_of_a_long_text_the_last_tokens_are_explained_and_the_others_only_read():
    found = resolve_query(at_hand(), "I eat an apple. I eat", ExplainQuery(longest=3))
    question = found.questions[0].question
    assert len(question.features) == 3 and question.end == len(question.ids)
    assert "The last 3 of" in found.notices[0]


def test_a_lone_token_is_read_behind_the_separator_so_that_it_can_be_left_out():
    found = resolve_query(at_hand(), "I", ExplainQuery())
    assert found.questions[0].question.ids[0] == SEPARATOR and found.questions[0].question.first == 1
    assert "separator" in found.notices[0]


@pytest.mark.parametrize("loaded", [at_hand(), classifier()], ids=["writer", "classifier"])
def test_an_empty_text_is_refused(loaded):
    with pytest.raises(DataError, match="empty"):
        resolve_query(loaded, "", ExplainQuery())


def test_what_does_not_go_together_is_refused_by_name():
    with pytest.raises(RecipeError, match="a continuation and a label"):
        ExplainQuery(continuation="x", label="good")
    with pytest.raises(RecipeError, match="goes with one answer"):
        ExplainQuery(generate=3, against="x")
    with pytest.raises(RecipeError, match="no class 'fine'"):
        resolve_query(classifier(), "I eat", ExplainQuery(label="fine"))
    with pytest.raises(RecipeError, match="goes with a class"):
        resolve_query(at_hand(), "I eat", ExplainQuery(pair="an apple"))
    with pytest.raises(RunError, match="tells no classes"):
        resolve_query(at_hand(), "I eat", ExplainQuery(label="good"))


@pytest.mark.parametrize("task", [ChatTask(), CompleteTask()])
def test_a_model_with_an_encoder_is_refused_by_name(task):
    with pytest.raises(RunError, match="encoder"):
        resolve_query(at_hand(task, arch="seq2seq"), "I eat", ExplainQuery())


def test_a_completion_is_asked_for_behind_its_template():
    loaded = at_hand(CompleteTask(template="{prompt} I eat", separator=""))
    (put,) = resolve_query(loaded, "All roads lead to Rome.", ExplainQuery()).questions
    read = TOKENIZER.decode([index for index in put.question.ids if index != SEPARATOR])
    assert read == "All roads lead to Rome. I eat"
