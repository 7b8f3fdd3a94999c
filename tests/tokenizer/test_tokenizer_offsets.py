"""Offsets: parts of a text without tokens, and byte counts of the text itself."""

from pathlib import Path

import pytest
from hypothesis import given
from multilingual_texts import texts

from penna.tokenizer.offsets import byte_count_from, encode_with_offsets, out_of_vocabulary
from penna.tokenizer.tokenizer import Tokenizer

WORDS = ["[PAD]", "[UNK]", "[SEP]", "i", "eat", "##s", "apple", ".", "你", "好"]


@pytest.fixture
def wordpiece(tmp_path: Path) -> Tokenizer:
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS), encoding="utf-8")
    return Tokenizer.load(tmp_path)


def lacks(tokenizer: Tokenizer, text: str) -> tuple[str, ...]:
    return out_of_vocabulary(tokenizer, text, encode_with_offsets(tokenizer, text))


@given(text=texts)
def test_ids_equal_those_of_encode_and_bytes_add_up(tokenizer: Tokenizer, text: str) -> None:
    encoded = encode_with_offsets(tokenizer, text)
    assert list(encoded.ids) == tokenizer.encode(text)
    token_bytes = tokenizer.token_bytes()
    for first in range(len(encoded.ids) + 1):
        assert byte_count_from(tokenizer, text, encoded, first) == len(
            b"".join(token_bytes[id] for id in encoded.ids[first:])
        )


def test_characters_encoded_as_bytes_are_listed_once_in_order(tokenizers: dict[str, Tokenizer]) -> None:
    assert lacks(tokenizers["char"], "the 龘龍 dog 𠮷 龘") == ("龘", "龍", "𠮷")
    assert "龘" in lacks(tokenizers["unigram"], "the 龘 dog")
    assert lacks(tokenizers["bpe"], "the 龘 dog") == ()  # bytes are what it has learned
    assert lacks(tokenizers["char"], "the dog\n\t") == ()


def test_words_that_become_the_unknown_token_are_listed(wordpiece: Tokenizer) -> None:
    assert lacks(wordpiece, "I eat zebras. ☃ 你龘") == ("zebras", "☃", "龘")


def test_byte_counts_of_a_lossy_tokenizer_are_those_of_the_text(wordpiece: Tokenizer) -> None:
    text = "I eats  zebras. 你好"
    encoded = encode_with_offsets(wordpiece, text)
    assert [text[start:end] for start, end in encoded.offsets] == ["I", "eat", "s", "zebras", ".", "你", "好"]
    rests = [
        "I eats  zebras. 你好",
        " eats  zebras. 你好",
        "s  zebras. 你好",
        "  zebras. 你好",
        ". 你好",
        " 你好",
        "好",
    ]
    assert [byte_count_from(wordpiece, text, encoded, first) for first in range(7)] == [len(t.encode()) for t in rests]
