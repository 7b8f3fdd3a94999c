"""Words: the count of word-level perplexities, the same wherever a text is cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penna.data.encode import WordCounter, count_words


@pytest.mark.parametrize(
    ("text", "words"),
    [("", 0), ("one", 1), ("one two\n", 3), ("\n\n", 2), ("  a\tb  c ", 3), ("한국어 문장\n둘째 줄\n", 6)],
)
def test_words_are_what_stands_between_spaces_and_every_line_end(text: str, words: int):
    assert count_words(text) == words


@given(st.lists(st.lists(st.text(alphabet="a한 \n\t\u3000\x1c", max_size=5), min_size=1, max_size=5), max_size=4))
def test_pieces_of_documents_have_the_words_of_the_documents(documents: list[list[str]]):
    counter = WordCounter()
    counted = [counter.count(piece, starts=number == 0) for pieces in documents for number, piece in enumerate(pieces)]
    assert sum(counted) == sum(count_words("".join(pieces)) for pieces in documents)
