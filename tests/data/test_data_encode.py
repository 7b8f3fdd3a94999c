"""Word counts for word-level perplexities, independent of the chunks of a text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penna.data.encode import WordCounter, count_words


@pytest.mark.parametrize(
    ("text", "words"),
    [("", 0), ("one", 1), ("one two\n", 3), ("\n\n", 2), ("  a\tb  c ", 3), ("한국어 문장\n둘째 줄\n", 6)],
)
def test_words_are_separated_by_spaces_and_line_ends_count(text: str, words: int):
    assert count_words(text) == words


@given(st.lists(st.lists(st.text(alphabet="a한 \n\t\u3000\x1c", max_size=5), min_size=1, max_size=5), max_size=4))
def test_chunks_have_the_words_of_their_documents(documents: list[list[str]]):
    counter = WordCounter()
    counted = [counter.count(piece, starts=number == 0) for pieces in documents for number, piece in enumerate(pieces)]
    assert sum(counted) == sum(count_words("".join(pieces)) for pieces in documents)
