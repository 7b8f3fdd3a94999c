"""Penalties and exclusions compared with transformers and plain loops; some token is always left."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
    NoBadWordsLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
)

from penna.config.generation import GenerationConfig
from penna.generate.choice_trie import ChoiceTrie
from penna.generate.logits_processors import process_logits
from penna.generate.sampling import choose, token_probabilities
from penna.generate.sequence import SequenceState

SIZE = 9
TOKENS = st.integers(0, SIZE - 1)


def logits_of(seed: int, rows: int, size: int = SIZE) -> torch.Tensor:
    return torch.randn(rows, size, generator=torch.Generator().manual_seed(seed)) * 3


def processed(logits: torch.Tensor, text: SequenceState) -> torch.Tensor:
    """Logits (V,) as transformers' processors leave them, in its order."""
    config, processors = text.config, LogitsProcessorList()
    if config.repetition_penalty != 1:
        processors.append(RepetitionPenaltyLogitsProcessor(config.repetition_penalty))
    if config.no_repeat_ngram_size:
        processors.append(NoRepeatNGramLogitsProcessor(config.no_repeat_ngram_size))
    if any(len(ids) != 1 or ids[0] not in text.stop_ids for ids in text.bad_ids):
        processors.append(NoBadWordsLogitsProcessor([list(ids) for ids in text.bad_ids], sorted(text.stop_ids)))
    if config.min_new_tokens and text.stop_ids:
        ends = torch.tensor(sorted(text.stop_ids))
        processors.append(MinNewTokensLengthLogitsProcessor(len(text.prompt), config.min_new_tokens, ends))
    return processors(torch.tensor([[*text.prompt, *text.generated]]), logits[None])[0]


@st.composite
def texts(draw, **fixed):
    fields = {
        "repetition_penalty": draw(st.sampled_from([1.0, 0.5, 1.3, 4.0])),
        "no_repeat_ngram_size": draw(st.sampled_from([None, 1, 2, 3, 5])),
        "min_new_tokens": draw(st.integers(0, 6)),
    }
    return SequenceState(
        GenerationConfig(**{**fields, **fixed}),
        prompt=draw(st.lists(TOKENS, min_size=1, max_size=8)),
        generated=draw(st.lists(TOKENS, max_size=8)),
        stop_ids=draw(st.frozensets(TOKENS, max_size=2)),
        bad_ids=tuple(map(tuple, draw(st.lists(st.lists(TOKENS, min_size=1, max_size=3), max_size=4)))),
    )


# --- against transformers


@settings(max_examples=120, deadline=None)
@given(st.integers(0, 10**6), st.lists(texts(), min_size=1, max_size=5))
def test_penalties_and_exclusions_match_transformers(seed, several):
    logits = logits_of(seed, len(several))
    before = logits.clone()
    ours = process_logits(logits, several)
    assert torch.equal(logits, before)
    for row, text in enumerate(several):
        theirs = processed(logits[row], text)
        if theirs.max() > -math.inf:
            torch.testing.assert_close(ours[row], theirs)
        assert ours[row].max() > -math.inf


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), texts(), st.lists(TOKENS, max_size=12))
def test_incremental_counts_match_counts_of_the_whole_text(seed, text, more):
    logits = logits_of(seed, 1)
    for token in more:
        process_logits(logits, [text])
        text.generated.append(token)
    whole = SequenceState(text.config, 0, text.prompt, list(text.generated), text.stop_ids, text.bad_ids)
    torch.testing.assert_close(process_logits(logits, [text]), process_logits(logits, [whole]), rtol=0, atol=0)


# --- against plain loops


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from([0.0, 0.7, -1.5]),
    st.sampled_from([0.0, 0.25, -0.5]),
    st.sampled_from([1.0, 2.0]),
    st.lists(st.tuples(st.lists(TOKENS, max_size=5), st.lists(TOKENS, max_size=9)), min_size=1, max_size=4),
)
def test_presence_and_frequency_penalties_reduce_generated_tokens(seed, presence, frequency, repetition, histories):
    config = GenerationConfig(presence_penalty=presence, frequency_penalty=frequency, repetition_penalty=repetition)
    logits = logits_of(seed, len(histories))
    due = logits.clone()
    for row, (prompt, written) in enumerate(histories):
        for token in range(SIZE):
            if token in [*prompt, *written]:
                due[row, token] *= repetition if due[row, token] < 0 else 1 / repetition
            times = written.count(token)
            due[row, token] -= frequency * times + (presence if times else 0)
    ours = process_logits(logits, [SequenceState(config, 0, prompt, written) for prompt, written in histories])
    torch.testing.assert_close(ours, due)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6),
    st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=4), min_size=1, max_size=5),
    st.floats(0.3, 3),
)
def test_a_text_with_choices_becomes_one_of_them(seed, choices, temperature):
    trie, stop = ChoiceTrie(choices), 8
    for number in range(5):
        text = SequenceState(
            GenerationConfig(temperature=temperature), number, [1], stop_ids=frozenset([stop]), choices=trie
        )
        while trie.after(text.generated).allowed:
            logits = logits_of(seed + len(text.generated), 1)
            adjusted = process_logits(logits, [text])[0]
            ahead = trie.after(text.generated)
            allowed = {*ahead.allowed, *([stop] if ahead.is_complete else [])}
            assert {token for token in range(SIZE) if adjusted[token] > -math.inf} == allowed
            assert all(adjusted[token] == logits[0, token] for token in allowed)
            (token,) = choose(logits, [text])
            if token == stop:
                break
            text.generated.append(token)
        assert text.generated in choices


def test_choices_are_sampled_with_the_models_probabilities():
    # 5 alone, or 5 and 6: after 5 the end and 6 share what the model gives the two.
    logits = torch.tensor([[0.0, 0, 0, 0, 0, 1.0, 0.5, 3.0, 1.5]])
    text = SequenceState(
        GenerationConfig(choices=("a", "b")), 0, [1], [5], frozenset([8]), choices=ChoiceTrie([(5,), (5, 6)])
    )
    probabilities = token_probabilities(process_logits(logits, [text]), text.config)[0]
    assert probabilities[8] == pytest.approx(1 / (1 + math.exp(-1)))
    assert probabilities[6] == pytest.approx(1 - 1 / (1 + math.exp(-1)))


# --- nothing to do, and nothing left


def test_without_settings_the_same_logits_are_returned():
    logits = logits_of(0, 2)
    plain = SequenceState(GenerationConfig(temperature=0.7, top_k=3), 0, [1, 2], [3])
    past = SequenceState(GenerationConfig(min_new_tokens=2), 0, [1], [3, 4], frozenset([0]))
    far = SequenceState(GenerationConfig(no_repeat_ngram_size=4), 0, [1], [3, 4], bad_ids=((7, 8),))
    assert process_logits(logits, [plain, plain]) is logits
    assert process_logits(logits, [past, far]) is logits


def test_only_sequences_with_settings_are_adjusted():
    logits = logits_of(0, 3)
    asks = SequenceState(GenerationConfig(repetition_penalty=2.0, presence_penalty=1.0), 0, [1], [2], bad_ids=((4,),))
    plain = SequenceState(GenerationConfig(), 0, [1], [2])
    adjusted = process_logits(logits, [plain, asks, plain])
    assert torch.equal(adjusted[[0, 2]], logits[[0, 2]])
    assert (adjusted[1] != logits[1]).nonzero().flatten().tolist() == [1, 2, 4]


def test_the_last_token_of_a_bad_word_is_excluded_after_the_others_even_across_the_prompt():
    bad = ((3, 4), (1, 2, 3, 5), (6,))
    for prompt, written, barred in (
        ([1, 2], [3], [4, 5, 6]),
        ([1], [2, 3], [4, 5, 6]),
        ([2], [3], [4, 6]),  # the longer run would begin before the prompt
        ([1, 2, 3], [], [4, 5, 6]),
        ([3], [3, 1], [6]),
    ):
        adjusted = process_logits(
            torch.zeros(1, SIZE), [SequenceState(GenerationConfig(), 0, prompt, written, bad_ids=bad)]
        )
        assert adjusted[0].isneginf().nonzero().flatten().tolist() == barred


def left(**fields) -> list[int]:
    """Which of three tokens may follow 0 1 2, where 2 ends the text."""
    bad = fields.pop("bad", ())
    text = SequenceState(GenerationConfig(**fields), 0, [0, 1, 2], [], frozenset([2]), bad)
    adjusted = process_logits(torch.zeros(1, 3), [text])
    return (adjusted[0] > -math.inf).nonzero().flatten().tolist()


def test_exclusions_that_leave_no_token_are_dropped_bad_words_last():
    assert left(no_repeat_ngram_size=1) == [0, 1, 2]  # everything stands already: it may repeat itself
    assert left(no_repeat_ngram_size=1, min_new_tokens=1) == [0, 1]  # but not end
    assert left(no_repeat_ngram_size=1, bad=((0,),)) == [1, 2]  # nor write a bad word
    assert left(min_new_tokens=1, bad=((0,), (1,))) == [2]  # it rather ends early than write one
    assert left(min_new_tokens=1, no_repeat_ngram_size=1, bad=((0,), (1,))) == [2]
    assert left(bad=((0,), (1,), (2,))) == [2]  # an end is no bad word
    text = SequenceState(GenerationConfig(), bad_ids=((0,), (1,), (2,)))
    assert torch.equal(process_logits(torch.zeros(1, 3), [text]), torch.zeros(1, 3))


def test_an_exclusion_dropped_in_one_sequence_holds_in_another():
    config = GenerationConfig(no_repeat_ngram_size=1)
    everything, some = SequenceState(config, 0, [0, 1, 2]), SequenceState(config, 0, [0, 2])
    adjusted = process_logits(torch.zeros(2, 3), [everything, some])
    assert adjusted.tolist() == [[0, 0, 0], [-math.inf, 0, -math.inf]]


def test_a_choice_is_made_even_if_the_model_considers_all_impossible():
    logits = torch.tensor([[0.0, -math.inf, -math.inf, 5.0]])
    seen = set()
    for seed in range(40):
        text = SequenceState(GenerationConfig(), seed, [0], choices=ChoiceTrie([(1,), (2,)]))
        seen.update(choose(logits, [text]))
    assert seen == {1, 2}
    # Where it holds one for possible, it is that one.
    logits[0, 2] = -50.0
    texts = [SequenceState(GenerationConfig(), seed, choices=ChoiceTrie([(1,), (2,)])) for seed in range(40)]
    assert set(choose(logits.expand(40, -1), texts)) == {2}


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6), st.lists(texts(), min_size=1, max_size=4), st.floats(0.2, 2))
def test_probabilities_are_finite_whatever_is_excluded(seed, several, temperature):
    logits = logits_of(seed, len(several)).masked_fill(logits_of(seed + 1, len(several)) > 1, -torch.inf)
    logits[:, seed % SIZE] = 0.0
    probabilities = token_probabilities(process_logits(logits, several), GenerationConfig(temperature=temperature))
    torch.testing.assert_close(probabilities.sum(dim=-1), torch.ones(len(several), dtype=torch.float64))
    for row, token in enumerate(choose(logits, several)):
        assert logits[row, token] > -math.inf
