"""Whole texts from requests, as the engine's events add up; and what a prompt's ids are."""

import pytest
import tokenizers as library

from penna.config.sections import TokenizerConfig
from penna.errors import DataError
from penna.generate.engine import Request
from penna.generate.sampling import Sampling
from penna.generate.writing import Written, prompt_ids, write
from penna.text.special import with_special_tokens
from penna.text.tokenizer import Tokenizer
from penna.text.training import train_tokenizer

TEXT = "the cat sat on the mat, and the dog sat by the cat."


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return with_special_tokens(train_tokenizer(TokenizerConfig(kind="char"), [TEXT]), ["<|user|>", "<|end|>"])


def test_texts_are_the_engines_ids_put_together_and_in_the_requests_order(build, run, tokenizer):
    model = build(vocab_size=tokenizer.vocab_size)
    requests = [Request([n], 12 - 4 * n, Sampling(), seed=n) for n in range(4)]
    written = write(model, tokenizer, requests, show_special=True)
    for text, (ids, logprobs, reason) in zip(written, run(model, requests), strict=True):
        assert text == Written(tuple(ids), tokenizer.decode(ids), sum(logprobs), reason)
    assert [len(text.ids) for text in written] == [12, 8, 4, 0]
    assert written[-1] == Written((), "", 0.0, "length")
    assert write(model, tokenizer, []) == []


def test_control_tokens_are_written_only_where_asked_and_stop_tokens_never(build, tokenizer):
    model = build(vocab_size=tokenizer.vocab_size)
    special = set(tokenizer.special_tokens.values())
    # A seed whose text holds a control token with text on both sides.
    for seed in range(50):
        (plain,) = write(model, tokenizer, [Request([3], 20, Sampling(2.0), seed)])
        if special & set(plain.ids[1:-1]) and not special & {plain.ids[0], plain.ids[-1]}:
            break
    else:
        pytest.fail("no text has a control token")
    assert plain.text == tokenizer.decode([index for index in plain.ids if index not in special])
    assert "<|" not in plain.text
    (whole,) = write(model, tokenizer, [Request([3], 20, Sampling(2.0), seed)], show_special=True)
    assert whole.ids == plain.ids
    assert whole.text == tokenizer.decode(plain.ids) != plain.text
    stop = next(index for index in plain.ids if index in special)
    (ended,) = write(model, tokenizer, [Request([3], 20, Sampling(2.0), seed, frozenset({stop}))], show_special=True)
    assert ended.finish == "stop"
    assert ended.ids == plain.ids[: plain.ids.index(stop)]


def test_a_prompt_starts_with_the_separator_where_it_is_empty_or_begins_a_document(tokenizer):
    separator, cat = tokenizer.separator_id, tokenizer.encode("cat")
    assert prompt_ids(tokenizer, "cat") == cat
    assert prompt_ids(tokenizer, "") == [separator]
    assert prompt_ids(tokenizer, "cat", starts_document=True) == [separator, *cat]
    assert prompt_ids(tokenizer, "", starts_document=True) == [separator]


def test_nothing_to_start_from_is_refused():
    tokenizer = Tokenizer(library.Tokenizer(library.models.WordLevel({"cat": 0, "?": 1}, unk_token="?")))
    assert prompt_ids(tokenizer, "cat") == [0]
    with pytest.raises(DataError, match="no document separator to start from") as caught:
        prompt_ids(tokenizer, "")
    assert caught.value.todo == "Give a prompt."
