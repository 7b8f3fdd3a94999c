"""Copied spans and new n-grams equal those of a brute-force search; numbers and names are found in any script."""

from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from penna.evaluate.copying import CopyMetrics, Source, Support, copied_spans, copy_metrics, names_in, numbers_in
from penna.evaluate.words import words

WORDS = st.lists(st.sampled_from("abcd"), max_size=25)
LETTERS = st.text(st.sampled_from("abAB .,-!ßİ\u00ad\u200d\ufeff\u0301한국日本ไทย\u3099か"), max_size=40)


def fragments_by_search(source: list[str], output: list[str]) -> list[int]:
    """Procedure F of Grusky et al. 2018, figure 3, with its nested loops."""
    lengths: list[int] = []
    i = 0
    while i < len(output):
        best, j = 0, 0
        while j < len(source):
            length = 0
            while i + length < len(output) and j + length < len(source) and output[i + length] == source[j + length]:
                length += 1
            best = max(best, length)
            j += max(length, 1)
        if best:
            lengths.append(best)
        i += max(best, 1)
    return lengths


def longest_at(source: list[str], output: list[str], start: int) -> int:
    """The longest span of the output starting at ``start`` that is anywhere in the source."""
    whole = f" {' '.join(source)} "
    return max(
        (
            length
            for length in range(len(output) - start + 1)
            if f" {' '.join(output[start : start + length])} " in whole
        ),
        default=0,
    )


@given(WORDS, WORDS)
@settings(max_examples=200, deadline=None)
def test_fragments_are_the_longest_consecutive_spans(source: list[str], output: list[str]) -> None:
    lengths = Source(" ".join(source)).fragments(output)
    expected: list[int] = []
    start = 0
    while start < len(output):
        length = longest_at(source, output, start) if source else 0
        expected += [length] if length else []
        start += max(length, 1)
    assert lengths == expected


def test_fragments_equal_those_of_the_papers_procedure() -> None:
    source = "the cat sat on the mat and the dog sat on the cat".split()
    output = "a dog sat on the mat and slept on the cat".split()
    assert Source(" ".join(source)).fragments(output) == fragments_by_search(source, output) == [4, 2, 3]


@given(WORDS, WORDS, st.integers(1, 4))
@settings(max_examples=200, deadline=None)
def test_novel_ngrams_are_those_that_the_source_lacks(source: list[str], output: list[str], order: int) -> None:
    share = Source(" ".join(source)).novel_share(output, order)
    starts = range(len(output) - order + 1)
    new = [
        all(source[at : at + order] != output[start : start + order] for at in range(len(source))) for start in starts
    ]
    assert share == (pytest.approx(sum(new) / len(new)) if new else None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It rose 3.5% to £30,000 in 2004.", ["3.5", "30000", "2004"]),
        ("3,5 Millionen, 1.234.567,89 und 12’000", ["3.5", "1234567.89", "12000"]),
        ("the 14th, 2-0 and 10:30, F16", ["14", "2", "0", "10", "30", "16"]),
        ("٣٥ और ३.५ ２０", ["35", "3.5", "20"]),
        ("none at all.", []),
    ],
)
def test_numbers_are_read_with_any_digits_and_grouping(text: str, expected: list[str]) -> None:
    assert numbers_in(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The visit of Tony Blair to Paris ended. Nobody saw Mr. Smith.", ["Tony", "Blair", "Paris", "Mr", "Smith"]),
        ('It said "yes" Peter, but "No way" to Ann.', ["Peter", "Ann"]),
        ("He said: “Today we go,” and I met O'Neill in the U.S. Senate.", ["Neill", "Senate"]),
        ("Вчера Иван уехал в Москву. Он один.", ["Иван", "Москву"]),
        ("오늘 서울에서 我在北京 كتاب", []),
    ],
)
def test_names_are_capitalized_words_inside_a_sentence(text: str, expected: list[str]) -> None:
    assert names_in(text) == expected


def test_unsupported_numbers_and_names_are_counted() -> None:
    source = Source("LONDON: 30,000 people met Gordon Brown at 3.5 places.")
    output = "In London 30000 people and 31 dogs met James Brown in 3.5 hours."
    assert source.numbers(output) == Support(3, 1)
    assert source.names(output) == Support(3, 1)


def test_metrics_are_means_over_outputs_and_totals_of_numbers_and_names() -> None:
    source = Source("One two three four five six. In 1999 Ann slept.")
    metrics = copy_metrics([(source, "One two three four"), (source, "six seven in 2001 Ann"), (source, "")])
    assert metrics.coverage == pytest.approx((1 + 3 / 5) / 2)
    # "six" (1), "in" (1), "ann" (1); "seven" and "2001" are new.
    assert metrics.density == pytest.approx((16 / 4 + 3 / 5) / 2)
    assert list(metrics.novel) == ["1-grams", "2-grams", "3-grams", "4-grams"]
    expected = [(0 + 2 / 5) / 2, (0 + 4 / 4) / 2, (0 + 1) / 2, (0 + 1) / 2]
    assert list(metrics.novel.values()) == pytest.approx(expected)
    assert (metrics.numbers, metrics.names) == (Support(1, 1), Support(1, 0))
    assert metrics.numbers.share == 1.0


def test_empty_outputs_have_no_metrics() -> None:
    nothing = Support(0, 0)
    novel = dict.fromkeys(("1-grams", "2-grams", "3-grams", "4-grams"))
    assert copy_metrics([(Source("a b"), "")]) == CopyMetrics(None, None, novel, nothing, nothing)
    assert nothing.share is None
    assert copy_metrics([(Source(""), "a b")]).coverage == 0.0


@settings(deadline=None)  # the first example builds a pattern of all marks
@given(LETTERS, LETTERS)
@example("\u0301\u3099日", "\u3099日")  # two marks without a letter, which normalization swaps
def test_spans_have_the_lengths_of_the_fragments_and_both_sides_have_the_same_words(source: str, output: str) -> None:
    spans = copied_spans(source, output)
    assert [span.words for span in spans] == Source(source).fragments(words(output))
    for span in spans:
        copied = words(output[span.start : span.end])
        assert copied == words(source[span.source_start : span.source_end])
        assert len(copied) == span.words


@settings(deadline=None)  # the first example builds a pattern of all marks
@given(LETTERS, LETTERS)
def test_spans_do_not_overlap(source: str, output: str) -> None:
    spans = copied_spans(source, output)
    assert all(first.end <= second.start for first, second in pairwise(spans))


def test_a_span_has_its_offsets_in_both_texts() -> None:
    source = "On Monday, THE CAT sat on the mat."
    output = "A dog said: the cat sat down."
    found = [(output[s.start : s.end], source[s.source_start : s.source_end]) for s in copied_spans(source, output)]
    assert found == [("the cat sat", "THE CAT sat")]


def test_an_empty_source_or_output_has_no_spans() -> None:
    assert copied_spans("", "some words") == []
    assert copied_spans("some words", "") == []
