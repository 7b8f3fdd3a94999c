"""Texts from engine events, and the ids of prompts."""

import pytest
import tokenizers as library

from penna.config.generation import GenerationConfig
from penna.config.sections import TokenizerConfig
from penna.errors import DataError
from penna.generate.request import Request
from penna.generate.text_stream import (
    SHOW_SPECIAL,
    GeneratedText,
    generate_texts,
    prompt_ids,
    request_for,
    stream_texts,
)
from penna.tokenizer.special_tokens import with_special_tokens
from penna.tokenizer.tokenizer import Tokenizer
from penna.tokenizer.train import train_tokenizer

TEXT = "the cat sat on the mat, and the dog sat by the cat."


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return with_special_tokens(train_tokenizer(TokenizerConfig(kind="char"), [TEXT]), ["<|user|>", "<|end|>"])


def settings(count: int, **fields) -> GenerationConfig:
    return GenerationConfig(max_new_tokens=count, **fields)


def test_texts_join_the_engines_tokens_in_the_order_of_the_requests(build, run, tokenizer):
    model = build(vocab_size=tokenizer.vocab_size)
    fields = [{}, {"num_beams": 2}, {"temperature": 0.7}, {}]
    requests = [Request([n], settings(12 - 4 * n, **each), seed=n, top_n=2) for n, each in enumerate(fields)]
    written = generate_texts(model, tokenizer, requests, SHOW_SPECIAL)
    for text, result in zip(written, run(model, requests), strict=True):
        assert text == GeneratedText(result.tokens, tokenizer.decode(result.ids), result.reason, result.hypotheses)
        assert text.ids == tuple(result.ids)
        assert text.logprob == pytest.approx(sum(token.logprob for token in result.tokens))
    assert [len(text.ids) for text in written] == [12, 8, 4, 0]
    assert [len(text.hypotheses) for text in written] == [0, 2, 0, 0]
    assert written[-1] == GeneratedText((), "", "length")
    assert generate_texts(model, tokenizer, []) == []


def test_deltas_report_each_token_once_and_the_finish_last(build, tokenizer):
    model = build(vocab_size=tokenizer.vocab_size)
    requests = [Request([n], settings(5 + n), seed=n) for n in range(4)]
    pieces = list(stream_texts(model, tokenizer, requests, slots=2))
    for number in range(4):
        own = [piece for piece in pieces if piece.request == number]
        assert [piece.finish for piece in own] == [None] * (5 + number) + ["length"]
        assert all((piece.token is None) == (piece.finish is not None) for piece in own)


def test_settings_are_encoded_as_ids(tokenizer):
    config = settings(9, bad_words=("cat", " ", "dog"))
    asked = request_for(tokenizer, [1, 2], config, seed=3, source=[4], top_n=5, report_beams=True)
    separator = tokenizer.separator_id
    assert (asked.ids, asked.seed, asked.source, asked.top_n, asked.report_beams) == ([1, 2], 3, [4], 5, True)
    assert asked.stop_ids == {separator}
    assert {tokenizer.decode(list(ids)) for ids in asked.bad_ids} == {"cat", " cat", " ", "  ", "dog", " dog"}
    assert request_for(tokenizer, [1], settings(9), stop_ids=frozenset()).stop_ids == frozenset()
    choosing = request_for(tokenizer, [1], settings(9, choices=("cat", "mat")))
    assert choosing.choice_ids == (tuple(tokenizer.encode("cat")), tuple(tokenizer.encode("mat")))


def test_choices_are_generated_and_bad_words_are_not(build, tokenizer):
    model = build(vocab_size=tokenizer.vocab_size)
    chosen = [
        generate_texts(
            model, tokenizer, [request_for(tokenizer, [n], settings(9, choices=("the cat", "dog", "the mat")))]
        )[0]
        for n in range(5)
    ]
    assert {each.text for each in chosen} <= {"the cat", "dog", "the mat"}
    letters = tuple("abcdehmnost ")
    (result,) = generate_texts(
        model, tokenizer, [request_for(tokenizer, [1], settings(30, bad_words=letters), stop_ids=frozenset())]
    )
    assert result.text
    assert not set(result.text) & set(letters)


def test_special_tokens_are_shown_only_on_request_and_stop_tokens_never(build, tokenizer):
    model = build(vocab_size=tokenizer.vocab_size)
    special = set(tokenizer.special_tokens.values())
    # A seed whose text holds a control token with text on both sides.
    for seed in range(50):
        (plain,) = generate_texts(model, tokenizer, [Request([3], settings(20, temperature=2.0), seed)])
        if special & set(plain.ids[1:-1]) and not special & {plain.ids[0], plain.ids[-1]}:
            break
    else:
        pytest.fail("no text has a control token")
    assert plain.text == tokenizer.decode([index for index in plain.ids if index not in special])
    assert "<|" not in plain.text
    (whole,) = generate_texts(model, tokenizer, [Request([3], settings(20, temperature=2.0), seed)], SHOW_SPECIAL)
    assert whole.ids == plain.ids
    assert whole.text == tokenizer.decode(plain.ids) != plain.text
    stop = next(index for index in plain.ids if index in special)
    (ended,) = generate_texts(
        model, tokenizer, [Request([3], settings(20, temperature=2.0), seed, frozenset({stop}))], SHOW_SPECIAL
    )
    assert ended.finish == "stop"
    assert ended.ids == plain.ids[: plain.ids.index(stop)]


def test_empty_prompts_and_documents_start_with_the_separator(tokenizer):
    separator, cat = tokenizer.separator_id, tokenizer.encode("cat")
    assert prompt_ids(tokenizer, "cat") == cat
    assert prompt_ids(tokenizer, "") == [separator]
    assert prompt_ids(tokenizer, "cat", starts_document=True) == [separator, *cat]
    assert prompt_ids(tokenizer, "", starts_document=True) == [separator]


def test_an_empty_prompt_without_a_separator_is_rejected():
    tokenizer = Tokenizer(library.Tokenizer(library.models.WordLevel({"cat": 0, "?": 1}, unk_token="?")))
    assert prompt_ids(tokenizer, "cat") == [0]
    with pytest.raises(DataError, match="no document separator to start from") as caught:
        prompt_ids(tokenizer, "")
    assert caught.value.advice == "Give a prompt."
