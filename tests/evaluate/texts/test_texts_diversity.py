"""Words, Zipf's exponent, repetition and self-BLEU equal a library or a brute-force definition."""

import math
import random
from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from scipy.stats import linregress

from penna.evaluate.texts.diversity import RANKS, ends_in_repetition, self_bleu, zipf_coefficient
from penna.evaluate.words import words_and_punctuation


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't stop!", ["Don", "'", "t", "stop", "!"]),
        ("He said: “No…”", ["He", "said", ":", "“", "No", "…", "”"]),
        ("나는 학교에 갔다.", ["나는", "학교에", "갔다", "."]),
        ("我爱北京，天安门！", ["我", "爱", "北", "京", "，", "天", "安", "门", "！"]),
        ("GPT模型 2024年", ["GPT", "模", "型", "2024", "年"]),
        ("cafe\u0301", ["café"]),
        ("\u1112\u1161\u11ab", ["한"]),
        ("x_y", ["x", "_", "y"]),
        ("", []),
        (" \n\t\u3000", []),
    ],
)
def test_words_are_spaced_words_or_characters_with_punctuation(text: str, words: list[str]) -> None:
    assert words_and_punctuation(text) == words


@given(st.text())
def test_words_lose_nothing_but_white_space(text: str) -> None:
    import unicodedata

    composed = unicodedata.normalize("NFC", text)
    assert "".join(words_and_punctuation(text)) == "".join(char for char in composed if not char.isspace())


def zipf_of_texts(texts: list[list[str]]) -> float | None:
    counts = Counter(word for text in texts for word in text)
    return zipf_coefficient(np.array(list(counts.values()), dtype=np.int64))


def test_zipf_equals_the_slope_that_scipy_fits() -> None:
    source = random.Random(0)
    words = [f"w{int(source.paretovariate(0.25))}" for _ in range(30_000)]
    counts = sorted(Counter(words).values(), reverse=True)[:RANKS]
    assert len(counts) == RANKS  # so that the limit of ranks is tested
    fit: Any = linregress(np.log(np.arange(1, RANKS + 1)), np.log(counts))
    found = zipf_of_texts([words[:7000], words[7000:]])
    assert found == pytest.approx(-fit.slope, rel=1e-9)


def test_zipf_recovers_the_exponent_of_a_power_law() -> None:
    ranks = np.arange(1, 400)
    counts = np.round(1e9 / ranks**1.3).astype(np.int64)
    assert zipf_coefficient(np.random.default_rng(0).permutation(counts)) == pytest.approx(1.3, abs=1e-4)


@pytest.mark.parametrize("texts", [[], [[]], [["a", "b"]], [["a", "b", "c"]], [["가", "나", "다", "라"]]])
def test_zipf_is_undefined_without_a_line(texts: list[list[str]]) -> None:
    assert zipf_of_texts(texts) is None


def repeats_by_brute_force(tokens: list[int]) -> bool:
    end = tokens[-200:]
    for length in range(2, len(end)):
        phrases = [end[max(len(end) - (turn + 1) * length, 0) : len(end) - turn * length] for turn in range(3)]
        if all(len(phrase) == length for phrase in phrases) and all(a == b for a, b in pairwise(phrases)):
            return True
    return False


@given(st.lists(st.integers(0, 1), max_size=14), st.lists(st.integers(0, 1), max_size=4), st.integers(0, 4))
def test_repetition_is_three_equal_phrases_at_the_end(before: list[int], phrase: list[int], times: int) -> None:
    tokens = before + phrase * times
    assert ends_in_repetition(tokens) == repeats_by_brute_force(tokens)


@pytest.mark.parametrize(
    ("text", "repeats"),
    [
        ("I know . I know . I know .", True),
        ("well , I know . I know . I know . I", True),  # cut inside a phrase
        ("I know . I know .", False),
        ("no no no", False),  # a phrase has two tokens
        ("no no no no no no", True),
        ("I know . I know . I know . Yes", False),  # not at the end
        ("", False),
    ],
)
def test_repetition_of_words(text: str, repeats: bool) -> None:
    assert ends_in_repetition(text.split()) is repeats


def test_repetition_in_korean_and_chinese_characters() -> None:
    assert ends_in_repetition("좋은 날 좋은 날 좋은 날 ")
    assert ends_in_repetition("他说好的，好的，好的，")
    assert not ends_in_repetition("他说好的，好的，不好，")


def test_repetition_considers_the_last_200_tokens() -> None:
    phrase = list(range(67))
    assert not ends_in_repetition(phrase * 3)  # 201 tokens
    assert ends_in_repetition(phrase[:66] * 3)


def nltk_self_bleu(texts: list[list[str]]) -> list[float | None]:
    method = SmoothingFunction().method1
    return [
        float(sentence_bleu([o for j, o in enumerate(texts) if j != i and o], text, smoothing_function=method))
        if text
        else None
        for i, text in enumerate(texts)
    ]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_self_bleu_equals_nltk_sentence_bleu_against_all_others() -> None:
    source = random.Random(1)
    texts = [[source.choice("abcdef") for _ in range(source.randint(0, 14))] for _ in range(30)]
    assert any(not text for text in texts)
    for ours, theirs in zip(self_bleu(texts), nltk_self_bleu(texts), strict=True):
        assert ours == (None if theirs is None else pytest.approx(theirs, rel=1e-9))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_self_bleu_of_korean_and_chinese() -> None:
    texts = ["나는 학교에 갔다.", "나는 집에 갔다.", "我在学校读书。", "我在家读书，他也在家读书。"]
    words = [words_and_punctuation(text) for text in texts]
    assert self_bleu(words) == pytest.approx(nltk_self_bleu(words), rel=1e-9)


def test_self_bleu_of_equal_texts_is_one_and_of_different_texts_zero() -> None:
    assert self_bleu([list("abcde")] * 3) == pytest.approx([1, 1, 1])
    assert self_bleu([list("abcde"), list("fghij")]) == [0, 0]


@pytest.mark.parametrize("texts", [[], [[]], [["a"]], [["a"], []]])
def test_self_bleu_needs_two_texts(texts: list[list[str]]) -> None:
    assert self_bleu(texts) == [None] * len(texts)


def test_self_bleu_excludes_the_texts_own_counts() -> None:
    twice, once, other = list("aab"), list("ab"), list("cd")
    # Only the first text has "a" twice, so only one of its two is matched.
    first = self_bleu([twice, once, other])[0]
    assert first is not None
    assert first == pytest.approx(math.exp((math.log(2 / 3) + math.log(1 / 2) + math.log(0.1) + math.log(0.1)) / 4))
