"""ROUGE equals the rouge-score package on plain English, works in every script, and has correct intervals."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer, lcs_ind

from penna.evaluate.rouge import ROUGE_KINDS, bootstrap_means, interval, lcs_length, lcs_positions, rouge_scores
from penna.evaluate.sentences import sentences
from penna.evaluate.words import words

WORDS = st.lists(st.sampled_from(["a", "b", "c", "the", "cat", "sat", "7"]), max_size=14)
PLAIN = st.lists(WORDS.map(" ".join), max_size=4).map("\n".join)


def by_the_package(reference: str, output: str) -> np.ndarray:
    scores = RougeScorer(list(ROUGE_KINDS)).score(reference, output)
    return np.array([[scores[kind].precision, scores[kind].recall, scores[kind].fmeasure] for kind in ROUGE_KINDS])


@given(PLAIN, PLAIN)
@settings(max_examples=100, deadline=None)
def test_plain_english_scores_equal_the_package(reference: str, output: str) -> None:
    assert rouge_scores(reference, output) == pytest.approx(by_the_package(reference, output))


def test_english_with_punctuation_and_capitals_scores_equal_the_package() -> None:
    reference = 'The "quick" brown fox (aged 7) didn\'t jump over 2 lazy dogs.\nIt cost $3.50; e-mail me!'
    output = "A quick fox, AGED 7, jumped over the lazy dogs.\nIt didn't cost 3.50."
    assert rouge_scores(reference, output) == pytest.approx(by_the_package(reference, output))


def test_rouge_lsum_uses_our_sentence_splitter() -> None:
    reference, output = "Mr. Cat sat down. The dog ran off.", "The dog ran off. Cat sat. Mr. Cat ran."
    cut = by_the_package("\n".join(sentences(reference)), "\n".join(sentences(output)))
    assert rouge_scores(reference, output)[ROUGE_KINDS.index("rougeLsum")] == pytest.approx(
        cut[ROUGE_KINDS.index("rougeLsum")]
    )
    assert cut[2, 2] < cut[3, 2]


@given(WORDS, WORDS)
@settings(max_examples=200, deadline=None)
def test_the_longest_common_subsequence_equals_that_of_the_package(one: list[str], two: list[str]) -> None:
    expected = lcs_ind(one, two)
    assert lcs_positions(one, two) == expected
    assert lcs_length(one, two) == lcs_length(two, one) == len(expected)


def test_a_common_subsequence_can_be_longer_than_a_machine_word() -> None:
    source = random.Random(0)
    one, two = (source.choices("abcdefgh", k=length) for length in (150, 170))
    assert lcs_positions(one, two) == lcs_ind(one, two)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't stop_now, O'Neill-42!", "don t stop now o neill 42"),
        ("Straße ÉCOLE Ελλάς", "strasse école ελλάσ"),
        ("오늘은 날씨가, 좋다.", "오늘은 날씨가 좋다"),
        ("我在GPT-2上。", "我 在 gpt 2 上"),
        ("カタカナとひら", "カ タ カ ナ と ひ ら"),
        ("हिन्दी में।", "हिन्दी में"),
        ("٣٥ كتاب", "٣٥ كتاب"),
        ("ไทยกิน", "ไ ท ย กิ น"),
        ("🙂 … —", ""),
    ],
)
def test_words_of_any_language(text: str, expected: str) -> None:
    assert words(text) == expected.split()


def test_canonical_equivalents_and_invisible_joiners_do_not_matter() -> None:
    assert words("e\u0301cole 가나") == words("\u00e9cole 가나") == ["école", "가나"]
    assert words("co\u00adoperate می\u200cخواهم") == ["cooperate", "میخواهم"]


@pytest.mark.parametrize(
    ("reference", "output", "shared", "of_reference", "of_output"),
    [
        ("我喜欢猫", "我爱猫", 2, 4, 3),
        ("나는 고양이를 좋아해", "나는 개를 좋아해", 2, 3, 3),
        ("猫が好き", "犬が好き", 3, 4, 4),
    ],
)
def test_other_scripts_are_scored(reference: str, output: str, shared: int, of_reference: int, of_output: int) -> None:
    precision, recall, _ = rouge_scores(reference, output)[ROUGE_KINDS.index("rougeL")]
    assert (precision, recall) == (shared / of_output, shared / of_reference)
    assert by_the_package(reference, output).max() == 0  # with the package's own words


@pytest.mark.parametrize(("reference", "output"), [("", "a b"), ("a b", ""), ("", ""), ("…", "!?")])
def test_texts_without_words_score_zero(reference: str, output: str) -> None:
    assert not rouge_scores(reference, output).any()


def test_the_interval_approximates_the_normal_distribution_and_depends_on_the_seed() -> None:
    scores = np.random.default_rng(0).normal(0.4, 0.1, (2000, 2))
    means = bootstrap_means(scores, 1)
    found = interval(float(scores[:, 0].mean()), means[:, 0])
    width = 1.96 * scores[:, 0].std() / 2000**0.5
    assert found.low == pytest.approx(found.mean - width, abs=0.15 * width)
    assert found.high == pytest.approx(found.mean + width, abs=0.15 * width)
    assert (bootstrap_means(scores, 1) == means).all() and (bootstrap_means(scores, 2) != means).any()
