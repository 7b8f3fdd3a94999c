"""Chunks: independent of how a source split a document, short, never empty, and without blank documents."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penna.data.sources import records
from penna.data.sources.records import TextChunk, split_text, usable_chunks

TEXTS = st.text(alphabet="ab \n\r\u3000가🙂", max_size=40)


def cut_at(text: str, places: list[int]) -> list[TextChunk]:
    """A document in pieces, cut at these places; some of them may be empty."""
    borders = [0, *sorted(min(place, len(text)) for place in places), len(text)]
    return [TextChunk(text[start:end], number == 0) for number, (start, end) in enumerate(pairwise(borders))]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(TEXTS, st.lists(st.integers(0, 40), max_size=4)), max_size=5), st.integers(2, 9))
def test_chunks_depend_on_the_text_and_blank_documents_are_dropped(documents, longest: int):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "CHUNK_CHARACTERS", longest)
        given_pieces = [piece for text, places in documents for piece in cut_at(text, places)]
        expected = [
            TextChunk(piece, number == 0)
            for text, _ in documents
            if text.strip()
            for number, piece in enumerate(split_text(text))
        ]
        assert list(usable_chunks(given_pieces)) == expected
    assert all(0 < len(piece.text) <= longest for piece in expected)


def test_a_document_streams_before_its_end_is_known(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(records, "CHUNK_CHARACTERS", 10)
    read = 0

    def endless():
        nonlocal read
        yield TextChunk("", True)
        while True:
            read += 1
            yield TextChunk("a line\n", False)

    pieces = usable_chunks(endless())
    assert [next(pieces) for _ in range(100)] == [TextChunk("a line\n", number == 0) for number in range(100)]
    assert read <= 102
