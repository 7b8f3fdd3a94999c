"""Words of a text in any script, and their tokens, which are never divided."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multilingual_texts import KINDS

from penna.config.sections import TokenizerConfig
from penna.tokenizer.tokenizer import Tokenizer
from penna.tokenizer.train import train_tokenizer
from penna.tokenizer.words import split_words


@pytest.fixture(scope="module")
def characters() -> Tokenizer:
    return train_tokenizer(TokenizerConfig(kind="char"), ["abc xyz"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I disapprove, but don't.", ["I", " disapprove", ",", " but", " don't", "."]),
        ("'quoted' rock'n'roll", ["'", "quoted", "'", " rock'n'roll"]),
        ("two  spaces\n\nand lines ", ["two", "  spaces", "\n", "\n", "and", " lines", " "]),
        ("정말 재미있었다!", ["정말", " 재미있었다", "!"]),
        ("今天 GPT很好。", ["今", "天", " GPT", "很", "好", "。"]),
        ("हिन्दी में", ["हिन्दी", " में"]),
        ("สวัสดี", ["ส", "วั", "ส", "ดี"]),
        ("naïve cafe\u0301s", ["naïve", " cafe\u0301s"]),
        ("3.5 e-mail", ["3", ".", "5", " e", "-", "mail"]),
    ],
)
def test_character_tokens_are_grouped_into_words(characters, text, expected):
    assert [unit.text for unit in split_words(characters, characters.encode(text))] == expected


@given(text=st.text(max_size=40), kind=st.sampled_from(KINDS))
def test_words_are_consecutive_cover_every_token_and_join_to_the_text(tokenizers, text, kind):
    tokenizer = tokenizers[kind]
    ids = tokenizer.encode(text)
    found = split_words(tokenizer, ids)
    assert [unit.start for unit in found] == [0, *(unit.end for unit in found)][: len(found)]
    assert sum(unit.end - unit.start for unit in found) == len(ids)
    assert "".join(unit.text for unit in found) == text


def test_a_token_that_spans_characters_makes_one_word_and_so_do_the_bytes_of_a_character():
    tokenizer = train_tokenizer(TokenizerConfig(kind="bpe", vocab_size=300), ["今天今天今天 " * 50])
    ids = tokenizer.encode("今天好")
    assert len(ids) > 2, "好 was never learned and is three bytes"
    found = split_words(tokenizer, ids)
    assert [unit.text for unit in found] == ["今天", "好"]
    assert (found[1].start, found[1].end) == (1, 4)


def test_control_tokens_are_words_by_themselves(characters):
    separator = characters.separator_id
    assert separator is not None
    ids = [separator, *characters.encode("abc"), separator, separator]
    assert [(unit.text, unit.start, unit.end) for unit in split_words(characters, ids)] == [
        ("<|endoftext|>", 0, 1),
        ("abc", 1, 4),
        ("<|endoftext|>", 4, 5),
        ("<|endoftext|>", 5, 6),
    ]


def test_an_incomplete_character_at_an_end_is_kept():
    tokenizer = train_tokenizer(TokenizerConfig(kind="bpe", vocab_size=260), ["abc"])
    ids = tokenizer.encode("a好")[:-1]
    found = split_words(tokenizer, ids)
    assert found[0].text == "a" and sum(unit.end - unit.start for unit in found) == len(ids)
    assert all("\ufffd" in unit.text for unit in found[1:])


def test_wordpiece_words_are_whole(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(["[UNK]", "play", "##ing", "cards", "好"]), encoding="utf-8")
    tokenizer = Tokenizer.load(tmp_path / "vocab.txt")
    found = split_words(tokenizer, tokenizer.encode("playing cards 好"))
    assert [(unit.text.strip(), unit.end - unit.start) for unit in found] == [("playing", 2), ("cards", 1), ("好", 1)]


def test_no_ids_have_no_words(characters):
    assert split_words(characters, []) == []
