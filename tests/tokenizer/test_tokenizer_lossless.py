"""Any text is restored from its ids, its tokens' bytes, and a stream."""

import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multilingual_texts import KINDS, nasty_texts, texts

from penna.config.sections import TokenizerConfig
from penna.errors import TokenizerError
from penna.tokenizer.stream_decoder import StreamDecoder
from penna.tokenizer.tokenizer import SEPARATOR, Tokenizer
from penna.tokenizer.train import train_tokenizer


@given(text=texts)
@settings(max_examples=200, deadline=None)
def test_any_text_is_restored_from_its_ids(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("kind", KINDS)
@given(trained_on=texts, text=texts)
@settings(max_examples=60, deadline=None)
def test_any_text_is_restored_for_any_training_text(kind: str, trained_on: str, text: str) -> None:
    config = TokenizerConfig.model_validate({"kind": kind, "vocab_size": 320})
    try:
        tokenizer = train_tokenizer(config, [trained_on] * 3)
    except TokenizerError as error:  # the only reasons there are
        assert not trained_on or "SentencePiece cannot learn" in error.happened
        return
    for either in (text, trained_on):
        assert tokenizer.decode(tokenizer.encode(either)) == either
        assert b"".join(tokenizer.token_bytes()[index] for index in tokenizer.encode(either)) == either.encode()


@given(text=texts)
@settings(max_examples=200, deadline=None)
def test_token_bytes_join_to_the_bytes_of_the_text(tokenizer: Tokenizer, text: str) -> None:
    token_bytes = tokenizer.token_bytes()
    assert b"".join(token_bytes[index] for index in tokenizer.encode(text)) == text.encode()


@given(text=texts)
@settings(max_examples=200, deadline=None)
def test_no_text_is_encoded_to_a_special_token(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.separator_id not in tokenizer.encode(text)


@given(batch=st.lists(nasty_texts, max_size=5))
@settings(max_examples=50, deadline=None)
def test_a_batch_is_encoded_like_its_single_texts(tokenizer: Tokenizer, batch: list[str]) -> None:
    assert tokenizer.encode_batch(batch) == [tokenizer.encode(text) for text in batch]


@given(seed=st.data())
@settings(max_examples=200, deadline=None)
def test_streaming_any_ids_equals_decoding_them(tokenizer: Tokenizer, seed: st.DataObject) -> None:
    ids = seed.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=30))
    stream = StreamDecoder(tokenizer)
    assert "".join([*map(stream.push, ids), stream.finish()]) == tokenizer.decode(ids)


@given(text=texts.filter(lambda text: "\ufffd" not in text))
@settings(max_examples=200, deadline=None)
def test_a_stream_returns_characters_as_soon_as_they_are_complete(tokenizer: Tokenizer, text: str) -> None:
    stream = StreamDecoder(tokenizer)
    token_bytes = tokenizer.token_bytes()
    received, given_out = b"", ""
    for index in tokenizer.encode(text):
        received += token_bytes[index]
        given_out += stream.push(index)
        assert given_out == received.decode("utf-8", errors="ignore")  # ignores the unfinished character at the end
    assert stream.finish() == ""
    assert given_out == text


def test_a_stream_returns_the_separator_by_name(tokenizer: Tokenizer) -> None:
    assert tokenizer.separator_id is not None
    stream = StreamDecoder(tokenizer)
    assert stream.push(tokenizer.separator_id) == SEPARATOR
    assert tokenizer.decode([tokenizer.separator_id]) == SEPARATOR


def test_a_stream_that_ends_inside_a_character_returns_a_replacement_character(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("龘")  # not in the training text, so it is three bytes
    assert len(ids) == 3
    stream = StreamDecoder(tokenizer)
    assert [stream.push(index) for index in ids[:2]] == ["", ""]
    assert stream.finish() == "\ufffd"


def test_a_special_token_has_no_bytes(tokenizer: Tokenizer) -> None:
    assert tokenizer.special_tokens == {SEPARATOR: 0}
    assert tokenizer.token_bytes()[0] == b""
    assert all(tokenizer.token_bytes()[1:])


def test_a_lone_surrogate_is_refused_with_its_position(tokenizer: Tokenizer) -> None:
    with pytest.raises(TokenizerError, match=r"Character 2 of the text is a lone surrogate, U\+D800") as caught:
        tokenizer.encode("ab\ud800c")
    assert caught.value.expected and caught.value.advice
    with pytest.raises(TokenizerError, match="Character 0 of text 2 of 2"):
        tokenizer.encode_batch(["fine", "\udfff"])


@pytest.mark.parametrize("wrong", [-1, 100_000])
def test_an_id_outside_the_vocabulary_is_refused(tokenizer: Tokenizer, wrong: int) -> None:
    for use in (lambda: tokenizer.decode([0, wrong]), lambda: StreamDecoder(tokenizer).push(wrong)):
        with pytest.raises(TokenizerError, match=f"Token id {wrong} is not in the vocabulary") as caught:
            use()
        assert f"from 0 to {tokenizer.vocab_size - 1}" in caught.value.expected


def test_an_unpickled_tokenizer_still_treats_spelled_control_tokens_as_text(tokenizer: Tokenizer) -> None:
    copy = pickle.loads(pickle.dumps(tokenizer))
    text = f"the {SEPARATOR} 가"
    assert copy.encode(text) == tokenizer.encode(text)
    assert copy.fingerprint() == tokenizer.fingerprint()


def test_token_text_makes_spaces_newlines_and_bytes_visible(tokenizer: Tokenizer) -> None:
    def shown(text: str) -> list[str]:
        return [tokenizer.token_text(index) for index in tokenizer.encode(text)]

    assert "".join(shown(" the")) == "␣the"
    assert shown("\n") == ["\\n"]
    assert shown("龘") == ["\\xe9", "\\xbe", "\\x98"]
    assert tokenizer.token_text(0) == SEPARATOR
