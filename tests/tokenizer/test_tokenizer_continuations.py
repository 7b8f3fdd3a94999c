"""Words after a context: the space between them, and the tokens of both."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multilingual_texts import texts

from penna.config.sections import TokenizerConfig
from penna.tokenizer.continuations import join_continuation, needs_space
from penna.tokenizer.tokenizer import Tokenizer
from penna.tokenizer.train import train_tokenizer

STORY = "I eat an apple. They eat apples. He eats one apple a day, and an orange. 今天天气真好。天气好。 "


@pytest.fixture(scope="module")
def bpe() -> Tokenizer:
    return train_tokenizer(TokenizerConfig(kind="bpe", vocab_size=400), [STORY * 20])


@pytest.fixture(scope="module")
def char() -> Tokenizer:
    return train_tokenizer(TokenizerConfig(kind="char"), [STORY])


def shown(tokenizer: Tokenizer, context: str, word: str, **options: bool) -> tuple[list[str], str, list[str], bool]:
    ids, (joined,) = join_continuation(tokenizer, context, [word], **options)
    return [*map(tokenizer.token_text, ids)], joined.text, [*map(tokenizer.token_text, joined.ids)], joined.together


@pytest.mark.parametrize(
    ("context", "word", "expected"),
    [
        ("I eat", "apple", True),
        ("In May", "2020", True),
        ("He said,", "no", True),
        ('He said "no"', "and", False),  # the quotation mark may open or close
        ("(see", "below)", True),
        ("나는 밥을", "먹었다", True),
        ("Я ем", "яблоко", True),
        ("أنا آكل", "تفاحة", True),
        ("I eat", ".", False),
        ("I eat", ", too", False),
        ("I eat", "'s", False),
        ("I eat", " apple", False),
        ("I eat ", "apple", False),
        ("I eat\n", "apple", False),
        ("well-", "known", False),
        ("(", "see", False),
        ("“", "No", False),
        ("$", "5", False),
        ("我喜欢吃", "苹果", False),
        ("我喜欢", "Python", False),
        ("I like", "苹果", False),
        ("今天，", "我", False),
        ("りんごを", "食べる", False),
        ("ฉันกิน", "ข้าว", False),
        ("", "apple", False),
        ("I eat", "", False),
    ],
)
def test_a_space_is_added_as_a_writer_would(context: str, word: str, expected: bool) -> None:
    assert needs_space(context, word) is expected


def test_the_space_and_the_word_are_one_token_if_the_tokenizer_has_it(bpe: Tokenizer, char: Tokenizer) -> None:
    assert shown(bpe, "I eat an", "apple") == (["I", "␣eat", "␣an"], " apple", ["␣apple"], True)
    assert shown(char, "I eat", "apple")[1:] == (" apple", [*"␣apple"], True)


def test_a_space_at_the_end_of_the_context_moves_to_the_word_except_for_characters(bpe: Tokenizer, char: Tokenizer):
    assert shown(bpe, "I eat an ", "apple") == shown(bpe, "I eat an", "apple")
    assert shown(bpe, "I eat an ", "apple", space=False) == shown(bpe, "I eat an", "apple")
    assert shown(char, "I eat ", "apple") == ([*"I␣eat␣"], "apple", [*"apple"], True)


def test_without_space_the_word_follows_the_context_directly(bpe: Tokenizer) -> None:
    assert shown(bpe, "They eat apple", "s", space=False)[1] == "s"


def test_a_word_that_a_token_joins_to_its_context_is_encoded_separately(bpe: Tokenizer) -> None:
    assert bpe.encode("今天天气")[: len(bpe.encode("今天天"))] != bpe.encode("今天天")  # 天气 is one token
    assert shown(bpe, "今天天", "气")[1:] == ("气", [*map(bpe.token_text, bpe.encode("气"))], False)
    assert shown(bpe, "I eat", "气")[3]


def test_without_context_no_space_is_added(bpe: Tokenizer) -> None:
    assert shown(bpe, "", "apple") == ([], "apple", [*map(bpe.token_text, bpe.encode("apple"))], True)


def test_wordpiece_encodes_the_word_as_part_of_the_whole_text(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(["[UNK]", "[SEP]", "i", "eat", "##s", "apple"]))
    wordpiece = Tokenizer.load(tmp_path)
    assert shown(wordpiece, "I eat", "apples") == (["i", "eat"], " apples", ["apple", "##s"], True)
    assert shown(wordpiece, "I eat", "s", space=False)[2:] == (["##s"], True)


@given(context=texts, word=texts, space=st.booleans())
def test_context_and_word_join_to_the_given_text(tokenizer: Tokenizer, context: str, word: str, space: bool) -> None:
    ids, (joined,) = join_continuation(tokenizer, context, [word], space=space)
    between = " " if space and needs_space(context, word) else ""
    assert tokenizer.decode(ids) + joined.text == context + between + word
    assert tokenizer.decode(list(joined.ids)) == joined.text or joined.together
    if joined.together:
        assert [*ids, *joined.ids] == tokenizer.encode(context + between + word)
