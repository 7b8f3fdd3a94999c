"""Prompt lookup proposes what followed earlier, and gives the same text in fewer steps."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_decoding import MODELS, SOURCES, for_model, token_by_token

from penna.config.generation import GenerationConfig
from penna.generate.batch import DecodingBatch
from penna.generate.prompt_lookup import _LONGEST, _SHORTEST, PromptLookup
from penna.generate.request import Request

REPEATING = [[1, 2, 3, 4, 5] * 3 + [1, 2], [9, 9, 9, 9], [7, 8, 7, 8, 30, 7, 8], [50]]
SETTINGS = [
    {"temperature": 0},
    {"temperature": 0.3},
    {"temperature": 0.8, "top_k": 3},
    {"temperature": 0, "repetition_penalty": 1.3, "frequency_penalty": 0.2},
    {"temperature": 0.5, "presence_penalty": 0.5, "no_repeat_ngram_size": 4},
    {"temperature": 0.4, "past_block": "slide"},
]


def mostly_followed(ids: list[int], context: list[int]) -> int | None:
    """By looking at every place: what most often followed the longest end of a context that stood in the text, of two
    the one that followed last."""
    for length in range(min(_LONGEST, len(context)), _SHORTEST - 1, -1):
        end = context[-length:]
        followed = [ids[at] for at in range(length, len(ids)) if ids[at - length : at] == end]
        if followed:
            most = max(map(followed.count, followed))
            return next(index for index in reversed(followed) if followed.count(index) == most)
    return None


@given(st.lists(st.integers(0, 3), max_size=30), st.integers(1, 6))
def test_drafts_are_the_most_frequent_followers_of_the_last_tokens(ids, count):
    lookup = PromptLookup(count)
    for cut in range(0, len(ids), 4):  # in parts
        lookup.extend(ids[cut : cut + 4])
    expected: list[int] = []
    while len(expected) < count:
        index = mostly_followed(ids, [*ids, *expected][-_LONGEST:])
        if index is None:
            break
        expected.append(index)
    guessed = lookup.propose()
    assert guessed == expected[: len(guessed)]
    assert bool(guessed) == bool(expected)


def test_drafts_grow_while_they_are_right_and_stop_when_they_are_wrong():
    loop = list(range(10, 20))
    trusted, doubted = PromptLookup(20), PromptLookup(20)
    trusted.extend(loop * 2)
    first = len(trusted.propose())
    for index in loop * 4:
        trusted.propose()
        trusted.extend([index])
    assert len(trusted.propose()) == 20 > first > 0

    doubted.extend(loop * 2)
    lengths: list[int] = []
    for index in range(100, 200):  # each behind a 10, after which an 11 has always come
        doubted.extend([10])
        lengths.append(len(doubted.propose()))
        doubted.extend([index])
    assert lengths[0] > 0
    assert lengths[-1] == 0
    assert lengths == sorted(lengths, reverse=True)


@pytest.mark.parametrize("seed", range(5))
def test_drafts_resume_when_a_text_repeats_itself(seed: int):
    lookup, noise = PromptLookup(4), random.Random(seed)
    for _ in range(150):
        lookup.propose()
        lookup.extend([noise.randrange(3)])
    guessed: list[bool] = []
    for index in [5, 6, 7, 8, 9] * 30:
        guessed.append(bool(lookup.propose()))
        lookup.extend([index])
    assert all(guessed[-100:])


@pytest.mark.parametrize("name", ["gpt2", "modern, grouped", "n-grams", "seq2seq"])
@pytest.mark.parametrize("fields", SETTINGS, ids=str)
def test_the_text_is_identical_without_drafts(fields, name, build, run):
    model = build(**MODELS[name])
    for ends, guessed in (({"max_new_tokens": 40}, 3), ({"max_new_tokens": 13, "min_new_tokens": 6}, 9)):
        plain, guessing = (
            for_model(
                model,
                [
                    Request(prompt, GenerationConfig(**fields, **ends, **more), n, frozenset({3, 12, 40}), top_n=2)
                    for n, prompt in enumerate(REPEATING)
                ],
            )
            for more in ({}, {"prompt_lookup_num_tokens": guessed})
        )
        for without, result in zip(run(model, plain), run(model, guessing), strict=True):
            assert result.text == without.text
            assert [token.rank for token in result.tokens] == [token.rank for token in without.tokens]
            for token, other in zip(result.tokens, without.tokens, strict=True):
                assert token.logprob == pytest.approx(other.logprob, abs=1e-4)
                assert [index for index, _ in token.alternatives] == [index for index, _ in other.alternatives]


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    prompt=st.lists(st.integers(0, 2), min_size=1, max_size=12),
    most=st.integers(1, 20),
    guessed=st.integers(1, 12),
    block=st.integers(1, 9),
    temperature=st.sampled_from([0, 0.5, 1.0]),
    past=st.sampled_from(["restart", "slide"]),
)
def test_drafts_near_the_end_of_the_block_change_nothing(build, run, prompt, most, guessed, block, temperature, past):
    model = build(block_size=block, n_layer=1, vocab_size=3)
    config = GenerationConfig(
        max_new_tokens=most, temperature=temperature, prompt_lookup_num_tokens=guessed, past_block=past
    )
    # Another row, longer or shorter, that leaves less room.
    asked = [Request(prompt, config, seed=1), Request([1, 2], config, seed=2)]
    assert [result.text for result in run(model, asked)] == [token_by_token(model, each)[:2] for each in asked]


def counted(run, model, asked, monkeypatch, slots: int = 32) -> tuple[list, int]:
    steps: list[int] = []
    whole = DecodingBatch.read
    with monkeypatch.context() as patch:
        patch.setattr(DecodingBatch, "read", lambda lane, drafts: steps.append(1) or whole(lane, drafts))
        return run(model, asked, slots), len(steps)


def looping(build):
    """A model whose likeliest text soon repeats itself, as small ones do."""
    return build(seed=3, block_size=200)


def test_right_drafts_save_steps(build, run, monkeypatch):
    model = looping(build)
    plain, guessing = (
        Request([5], GenerationConfig(max_new_tokens=120, temperature=0, prompt_lookup_num_tokens=guessed))
        for guessed in (None, 6)
    )
    (slow,), steps = counted(run, model, [plain], monkeypatch)
    (quick,), fewer = counted(run, model, [guessing], monkeypatch)
    assert quick.ids == slow.ids
    assert steps == 120
    assert fewer < 90


def test_drafts_come_from_the_source_and_the_prompt(build, run, monkeypatch):
    """All that the model writes stood there before, so nearly every guess is right."""
    for name in ("gpt2", "seq2seq"):
        model = build(**MODELS[name], block_size=120)
        source = SOURCES[0] if name == "seq2seq" else ()
        config = GenerationConfig(max_new_tokens=40, temperature=0)
        text = token_by_token(model, Request([7], config, source=source))[0]
        if name == "gpt2":
            prompt, source = [*text, 7], ()
            forced = (tuple(text),)
        else:
            prompt, forced = [7], (tuple(source),)
        asked = Request(
            prompt,
            config.model_copy(update={"prompt_lookup_num_tokens": 8}),
            source=source,
            choice_ids=forced,  # the model is made to write it over
        )
        (result,), steps = counted(run, model, [asked], monkeypatch)
        assert result.ids == list(forced[0])
        assert steps < len(result.ids) / 1.5


def test_large_batches_use_no_drafts(build, run, monkeypatch):
    model = looping(build)
    config = GenerationConfig(max_new_tokens=30, temperature=0, prompt_lookup_num_tokens=6)
    asked = [Request([n], config) for n in range(6)]
    result, steps = counted(run, model, asked, monkeypatch)
    assert steps == 30
    few, fewer = counted(run, model, asked, monkeypatch, slots=1)
    assert [each.ids for each in few] == [each.ids for each in result]
    assert fewer < 6 * 30
