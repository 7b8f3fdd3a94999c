"""Verbatim spans equal those of a brute-force search, with any chunks and even with a poor hash."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from id_stream import IdStream

from penna.evaluate import verbatim
from penna.evaluate.verbatim import Match, find_verbatim

SEPARATOR = 0


def stream_of(documents: list[list[int]]) -> list[int]:
    return [token for document in documents for token in (SEPARATOR, *document)]


def as_text(ids: list[int]) -> str:
    """One character per token, so that Python's string search can be used."""
    return "".join(chr(0x4E00 + token) for token in ids)


def by_hand(documents: list[list[int]], text: list[int], shortest: int) -> tuple[list[bool], Match | None]:
    """Search every document for every span of a text: flags per token, and the longest with its first location."""
    strings = [as_text(document) for document in documents]
    flags, longest = [False] * len(text), (0, 0, 0)
    for start in range(len(text)):
        for end in range(start + shortest, len(text) + 1):
            if SEPARATOR in text[start:end] or not any(as_text(text[start:end]) in document for document in strings):
                break
            flags[start:end] = [True] * (end - start)
            longest = max(longest, (end - start, 0, 0))
    if not longest[0]:
        return flags, None
    # The first position of the stream with a span of this length, and the first position of the text that equals it.
    for number, document in enumerate(strings, start=1):
        for place in range(len(document) - longest[0] + 1):
            start = as_text(text).find(document[place : place + longest[0]])
            if start >= 0:
                return flags, Match(start, longest[0], number)
    raise AssertionError


TOKENS = st.lists(st.integers(1, 3), max_size=40)
TEXTS = st.lists(st.lists(st.integers(0, 3), max_size=25), max_size=4)


@pytest.fixture(params=[(1 << 18, verbatim._BASE), (7, verbatim._BASE), (7, 1), (1 << 18, 3)],
                ids=["one chunk", "chunks of seven", "chunks of seven, sum as hash", "poor hash"])  # fmt: skip
def _chunk_and_hash(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verbatim, "_CHUNK", request.param[0])
    monkeypatch.setattr(verbatim, "_BASE", request.param[1])


@pytest.mark.usefixtures("_chunk_and_hash")
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(TOKENS, max_size=6), TEXTS, st.integers(1, 6))
def test_spans_equal_a_brute_force_search(documents: list[list[int]], texts: list[list[int]], shortest: int):
    arrays = [np.array(text, dtype=np.int64) for text in texts]
    found = find_verbatim(IdStream(stream_of(documents)), arrays, separator=SEPARATOR, shortest=shortest)
    assert len(found) == len(texts)
    for text, result in zip(texts, found, strict=True):
        flags, longest = by_hand(documents, text, shortest)
        assert result.tokens.tolist() == flags
        assert result.longest == longest


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_span_across_chunks_is_found(monkeypatch: pytest.MonkeyPatch, cut: int):
    monkeypatch.setattr(verbatim, "_CHUNK", cut)
    random = np.random.default_rng(0)
    document = random.integers(1, 60000, 300)
    text = document[40:140]
    (found,) = find_verbatim(IdStream([0, 5, 6, 0, *document.tolist()]), [text], separator=0, shortest=13)
    assert found.tokens.all()
    assert found.longest == Match(0, 100, 2)


def test_different_runs_with_equal_hashes_are_distinguished(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(verbatim, "_BASE", 1)  # the hash is the sum: the same for every order of the tokens
    random = np.random.default_rng(1)
    text = random.permutation(np.arange(1, 14))
    shuffled = [random.permutation(text).tolist() for _ in range(200)]
    (nothing,) = find_verbatim(IdStream(stream_of(shuffled)), [text], separator=0, shortest=13)
    assert not nothing.tokens.any()
    assert nothing.longest is None
    others = [np.array(ids) for ids in shuffled[:50]]
    found = find_verbatim(IdStream(stream_of(shuffled[:25])), [*others, text], separator=0, shortest=13)
    assert [bool(result.tokens.all()) for result in found] == [True] * 25 + [False] * 26


def test_memory_is_bounded_by_the_chunk(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(verbatim, "_CHUNK", 1000)
    stream = IdStream(np.random.default_rng(2).integers(0, 50, 20_000).tolist())
    find_verbatim(stream, [stream.ids[30:230]], separator=0, shortest=13)
    assert stream.longest_read <= 1000 + 200


def test_empty_or_short_texts_have_no_spans():
    assert find_verbatim(IdStream([]), [], separator=0, shortest=13) == []
    for stream, text in (([], [1] * 20), ([0, 1, 2], [1] * 20), ([0] * 40, [0] * 20), ([0, *[1] * 40], [1] * 12)):
        (found,) = find_verbatim(IdStream(stream), [np.array(text)], separator=0, shortest=13)
        assert found.tokens.tolist() == [False] * len(text)
        assert found.longest is None
