"""Choices: what may follow a beginning, against a look through all of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penna.errors import DataError
from penna.generate.choice_trie import ChoiceTrie

CHOICES = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=5), min_size=1, max_size=8)


@given(CHOICES, st.lists(st.integers(0, 3), max_size=6))
def test_what_may_follow_is_what_follows_in_some_choice(choices, written):
    ahead = ChoiceTrie(choices).after(written)
    longer = [ids for ids in choices if len(ids) > len(written) and ids[: len(written)] == written]
    assert sorted(ahead.allowed) == sorted({ids[len(written)] for ids in longer})
    assert ahead.is_complete == (written in choices)


@given(CHOICES, st.data())
def test_whoever_follows_the_tree_writes_a_choice(choices, data):
    trie, written = ChoiceTrie(choices), []
    while (ahead := trie.after(written)).allowed:
        if ahead.is_complete and data.draw(st.booleans()):
            break
        written.append(data.draw(st.sampled_from(ahead.allowed)))
    assert ahead.is_complete
    assert written in choices


def test_a_choice_that_begins_another_is_whole_and_may_go_on():
    trie = ChoiceTrie([(5,), (5, 6), (7, 8)])
    assert trie.after([]) == ((5, 7), False)
    assert trie.after([5]) == ((6,), True)
    assert trie.after([5, 6]) == ((), True)
    assert trie.after([7]) == ((8,), False)
    assert trie.after([9]) == ((), False)


@pytest.mark.parametrize(("choices", "said"), [([], "no choices"), ([(1,), ()], "Choice 2 has no tokens")])
def test_choices_that_cannot_be_written_are_refused(choices, said):
    with pytest.raises(DataError, match=said) as caught:
        ChoiceTrie(choices)
    assert caught.value.expected
    assert caught.value.advice
