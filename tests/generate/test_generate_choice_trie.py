"""The choice trie compared with a search through all choices."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penna.errors import DataError
from penna.generate.choice_trie import ChoiceTrie

CHOICES = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=5), min_size=1, max_size=8)


@given(CHOICES, st.lists(st.integers(0, 3), max_size=6))
def test_allowed_tokens_are_those_that_follow_in_some_choice(choices, written):
    ahead = ChoiceTrie(choices).after(written)
    longer = [ids for ids in choices if len(ids) > len(written) and ids[: len(written)] == written]
    assert sorted(ahead.allowed) == sorted({ids[len(written)] for ids in longer})
    assert ahead.is_complete == (written in choices)


@given(CHOICES, st.data())
def test_every_path_through_the_trie_is_a_choice(choices, data):
    trie, written = ChoiceTrie(choices), []
    while (ahead := trie.after(written)).allowed:
        if ahead.is_complete and data.draw(st.booleans()):
            break
        written.append(data.draw(st.sampled_from(ahead.allowed)))
    assert ahead.is_complete
    assert written in choices


def test_a_choice_that_is_a_prefix_of_another_is_complete_and_may_continue():
    trie = ChoiceTrie([(5,), (5, 6), (7, 8)])
    assert trie.after([]) == ((5, 7), False)
    assert trie.after([5]) == ((6,), True)
    assert trie.after([5, 6]) == ((), True)
    assert trie.after([7]) == ((8,), False)
    assert trie.after([9]) == ((), False)


@pytest.mark.parametrize(("choices", "message"), [([], "no choices"), ([(1,), ()], "Choice 2 has no tokens")])
def test_empty_choices_are_rejected(choices, message):
    with pytest.raises(DataError, match=message) as caught:
        ChoiceTrie(choices)
    assert caught.value.expected
    assert caught.value.advice
