"""Copied spans with their places: the lengths are those that copying counts, and both ends hold the same words."""

from itertools import pairwise

from hypothesis import example, given
from hypothesis import settings as run_with
from hypothesis import strategies as st

from penna.evaluate.copying import Source, copied_spans
from penna.evaluate.words import words

_LETTERS = st.text(st.sampled_from("abAB .,-!ßİ\u00ad\u200d\ufeff\u0301한국日本ไทย\u3099か"), max_size=40)


@run_with(deadline=None)  # the first one builds a pattern of all marks
@given(_LETTERS, _LETTERS)
@example("\u0301\u3099日", "\u3099日")  # two marks without a letter, which normalising puts in another order
def test_spans_are_those_that_copying_counts_and_both_ends_hold_the_same_words(source: str, output: str) -> None:
    spans = copied_spans(source, output)
    assert [span.words for span in spans] == Source(source).fragments(words(output))
    for span in spans:
        copied = words(output[span.start : span.end])
        assert copied == words(source[span.source_start : span.source_end])
        assert len(copied) == span.words


@run_with(deadline=None)  # the first one builds a pattern of all marks
@given(_LETTERS, _LETTERS)
def test_spans_stand_one_behind_another(source: str, output: str) -> None:
    spans = copied_spans(source, output)
    assert all(first.end <= second.start for first, second in pairwise(spans))


def test_a_span_is_marked_where_it_is_written() -> None:
    source = "On Monday, THE CAT sat on the mat."
    output = "A dog said: the cat sat down."
    found = [(output[s.start : s.end], source[s.source_start : s.source_end]) for s in copied_spans(source, output)]
    assert found == [("the cat sat", "THE CAT sat")]


def test_nothing_is_copied_from_an_empty_source() -> None:
    assert copied_spans("", "some words") == []
    assert copied_spans("some words", "") == []
