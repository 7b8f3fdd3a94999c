"""Beam search compared with transformers, a plain loop, and exhaustive search."""

import itertools
from pathlib import Path

import pytest
import torch
from reference_decoding import MODELS, PROMPTS, beams, for_model, states
from transformers import AutoModelForCausalLM

from penna.config.generation import GenerationConfig
from penna.generate.request import Request
from penna.interop.hf_folder import write_hf
from penna.model.gpt import GPT

PROMPT = PROMPTS[2]


@pytest.fixture(scope="module", params=["gpt2", "modern, grouped"])
def both(request, build, tmp_path_factory):
    """A model, and the same one in transformers."""
    return as_theirs(build(**MODELS[request.param]), tmp_path_factory.mktemp("hf"))


def as_theirs(model: GPT, folder: Path):
    write_hf(model.config, model.state_dict(), folder / "hf", tokenizer=None)
    return model, AutoModelForCausalLM.from_pretrained(folder / "hf").eval()


def assert_as_theirs(both, run, *, stops=(), bad=(), prompt=PROMPT, **fields) -> None:
    """All hypotheses, in their order, with their scores."""
    model, theirs = both
    ids = torch.tensor([prompt])
    made = theirs.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        eos_token_id=list(stops) or None,
        pad_token_id=60,
        bad_words_ids=[list(each) for each in bad] or None,
        num_return_sequences=fields["num_beams"],
        return_dict_in_generate=True,
        output_scores=True,
        **fields,
    )
    config = GenerationConfig(**fields)
    (result,) = run(model, [Request(prompt, config, stop_ids=frozenset(stops), bad_ids=bad)])
    expected = []
    for row in made.sequences[:, len(prompt) :].tolist():
        end = next((place for place, index in enumerate(row) if index in stops), len(row))
        expected.append(
            (tuple(row[:end]), "stop" if end < len(row) or len(row) < fields["max_new_tokens"] else "length")
        )
    assert [(each.ids, each.reason) for each in result.hypotheses] == expected
    assert [each.score for each in result.hypotheses] == pytest.approx(
        made.sequences_scores.tolist(), rel=2e-6, abs=1e-4
    )
    assert result.text == (list(expected[0][0]), expected[0][1])


@pytest.mark.parametrize("early_stopping", [True, False, "never"])
@pytest.mark.parametrize("length_penalty", [-1.0, 0.0, 1.0, 2.0])
@pytest.mark.parametrize("num_beams", [2, 4, 7])
def test_hypotheses_and_scores_match_transformers(num_beams, length_penalty, early_stopping, both, run):
    fields = {"num_beams": num_beams, "length_penalty": length_penalty, "early_stopping": early_stopping}
    for stops in ((3, 17, 31), tuple(range(0, 61, 5)), tuple(range(9, 61))):
        assert_as_theirs(both, run, stops=stops, max_new_tokens=9, **fields)
    if not early_stopping:  # which makes no difference where no text ends before the others
        assert_as_theirs(both, run, max_new_tokens=9, **fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"min_new_tokens": 4},
        {"repetition_penalty": 1.7},
        {"no_repeat_ngram_size": 1},
        {"no_repeat_ngram_size": 2, "repetition_penalty": 0.6},
        {"min_new_tokens": 12, "length_penalty": -1.0},
        {"max_new_tokens": 1},
    ],
    ids=str,
)
def test_settings_of_beam_search_match_transformers(fields, both, run):
    fields = {"max_new_tokens": 12, "num_beams": 4, **fields}
    for prompt in PROMPTS[:3]:
        assert_as_theirs(both, run, stops=(3, 9, 31, 60 - 5), prompt=prompt, **fields)
        assert_as_theirs(both, run, bad=((9,), (30, 31), (1, 2, 3), (8,)), prompt=prompt, **fields)


# --- Everything tried


def every_text(model: GPT, asked: Request) -> list[tuple[float, tuple[int, ...]]]:
    """All texts there are, each with its score, best first."""
    size, most, stops = model.config.vocab_size, asked.config.max_new_tokens, asked.stop_ids
    found = []
    for length in range(1, most + 1):
        for ids in itertools.product(range(size), repeat=length):
            ends = ids[-1] in stops
            if (length < most and not ends) or any(index in stops for index in ids[:-1]):
                continue
            score = sum(_logprobs(model, (*asked.ids, *ids[:place]))[ids[place]] for place in range(length))
            found.append((score / length**asked.config.length_penalty, ids[:-1] if ends else ids))
    return sorted(found, key=lambda each: -each[0])


_READ: dict[tuple[GPT, tuple[int, ...]], list[float]] = {}


def _logprobs(model: GPT, ids: tuple[int, ...]) -> list[float]:
    if (model, ids) not in _READ:
        with torch.no_grad():
            _READ[model, ids] = model.logits(states(model, ids)[-1]).log_softmax(dim=0).tolist()
    return _READ[model, ids]


@pytest.mark.parametrize("length_penalty", [-1.0, 0.0, 1.0, 2.0])
@pytest.mark.parametrize("stops", [(), (2,)])
def test_with_enough_beams_it_is_exhaustive_search(stops, length_penalty, build, run):
    for seed in range(2):
        model = build(seed=seed, vocab_size=5, n_layer=1)
        config = GenerationConfig(
            max_new_tokens=4, num_beams=5**3, length_penalty=length_penalty, early_stopping="never"
        )
        asked = Request((1, 4), config, stop_ids=frozenset(stops))
        everything = every_text(model, asked)
        (result,) = run(model, [asked])
        assert [each.score for each in result.hypotheses] == pytest.approx(
            [score for score, _ in everything[: 5**3]], rel=1e-5
        )
        assert [each.ids for each in result.hypotheses[:20]] == [ids for _, ids in everything[:20]]


# --- A plain loop


@pytest.mark.parametrize("name", MODELS)
def test_hypotheses_of_every_model_match_a_plain_loop(name, build, run):
    model = build(**MODELS[name])
    requests = for_model(
        model,
        [
            Request(prompt, GenerationConfig(max_new_tokens=9, num_beams=3, **fields), stop_ids=frozenset({5, 20, 33}))
            for prompt, fields in zip(PROMPTS, [{}, {"length_penalty": 0.3}, {"early_stopping": True}], strict=False)
        ],
    )
    for asked, result in zip(requests, run(model, requests), strict=True):
        assert_as_plain(model, asked, result)


def test_a_search_continues_while_a_better_text_is_possible_even_if_length_is_penalized(build, run):
    """Here a bound at the greatest length, as for penalties above 0, would end the search before its best text."""
    model = build(tie=False)
    with torch.no_grad():
        model.lm_head.weight *= 2
    config = GenerationConfig(max_new_tokens=13, num_beams=2, length_penalty=-1.0, early_stopping="never")
    stops = frozenset({1, 10, 15, 21, 25, 30, 39, 40, 43, 49, 56, 57, 58})
    asked = Request(PROMPTS[1], config, stop_ids=stops)
    assert_as_plain(model, asked, run(model, [asked])[0])


PAST = [("gpt2", 1), *itertools.product(["gpt2", "modern, grouped", "n-grams", "seq2seq"], [2, 5, 8])]


@pytest.mark.parametrize(("name", "block"), PAST)
def test_beams_beyond_the_block_continue_from_its_last_half(name, block, build, run):
    model = build(**MODELS[name], block_size=block)
    config = GenerationConfig(max_new_tokens=15, num_beams=3)
    requests = for_model(model, [Request(prompt, config) for prompt in PROMPTS[:3]])
    for asked, result in zip(requests, run(model, requests), strict=True):
        assert_as_plain(model, asked, result)


def assert_as_plain(model, asked, result) -> None:
    expected = beams(model, asked)
    assert [each.score for each in result.hypotheses] == pytest.approx([score for score, _ in expected], abs=1e-4)
    assert [list(each.ids) for each in result.hypotheses] == [ids for _, ids in expected]


# --- Diverse beam search


@pytest.mark.parametrize("name", ["gpt2", "modern", "n-grams", "seq2seq"])
@pytest.mark.parametrize(("num_beams", "groups"), [(4, 2), (6, 3), (6, 2), (4, 4)])
def test_diverse_beams_match_a_plain_loop(num_beams, groups, name, build, run):
    model = build(**MODELS[name])
    requests = for_model(
        model,
        [
            Request(
                prompt,
                GenerationConfig(
                    max_new_tokens=8,
                    num_beams=num_beams,
                    num_beam_groups=groups,
                    diversity_penalty=penalty,
                    repetition_penalty=1.2,
                ),
                stop_ids=frozenset(stops),
            )
            for prompt, penalty, stops in zip(
                PROMPTS, [0.5, 3.0, 40.0], [(), (3, 9, 31), range(0, 61, 7)], strict=False
            )
        ],
    )
    for asked, result in zip(requests, run(model, requests), strict=True):
        assert_as_plain(model, asked, result)


def test_a_large_penalty_separates_the_groups_and_the_first_group_is_plain_beam_search(build, run):
    model = build()
    fields = {"max_new_tokens": 6, "num_beams": 4}
    plain, diverse = run(
        model,
        [
            Request(PROMPT, GenerationConfig(max_new_tokens=6, num_beams=2)),
            Request(PROMPT, GenerationConfig(**fields, num_beam_groups=2, diversity_penalty=100.0)),
        ],
    )
    first = {each.ids for each in diverse.hypotheses[:2]}
    assert first == {each.ids for each in plain.hypotheses}
    for ids, other in itertools.product(first, [each.ids for each in diverse.hypotheses[2:]]):
        assert ids[0] != other[0]


# --- What is told


@pytest.mark.parametrize("groups", [1, 3])
def test_steps_report_every_candidate_and_the_kept_ones_become_the_next_beams(groups, build, run):
    model = build()
    config = GenerationConfig(
        max_new_tokens=10,
        num_beams=6,
        num_beam_groups=groups,
        diversity_penalty=1.5 if groups > 1 else 0.0,
        early_stopping=True,
    )
    asked = Request(PROMPT, config, stop_ids=frozenset(range(0, 61, 6)), report_beams=True)
    (result,) = run(model, [asked])
    assert result.steps
    beams_now: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
    ended: set[tuple[int, ...]] = set()
    for step in result.steps:
        kept = []
        assert beams_now, "no step without a beam"
        for candidate in step.candidates:
            before, logprob = beams_now[candidate.parent]
            thought = _logprobs(model, tuple(PROMPT) + before)[candidate.id]
            assert candidate.logprob == pytest.approx(logprob + thought, abs=1e-4)
            if groups == 1:
                assert candidate.score == pytest.approx(candidate.logprob, abs=1e-5)
            if candidate.fate == "kept":
                kept.append(((*before, candidate.id), candidate.logprob))
            if candidate.fate == "finished":
                ended.add(before if candidate.id in asked.stop_ids else (*before, candidate.id))
        beams_now = kept
    assert not beams_now
    assert {each.ids for each in result.hypotheses} <= ended


def test_steps_are_reported_only_on_request_and_hypotheses_are_sorted(build, run):
    model = build()
    asked = Request(
        PROMPT,
        GenerationConfig(max_new_tokens=9, num_beams=5, repetition_penalty=1.4),
        stop_ids=frozenset({3, 9, 31, 17}),
    )
    (result,) = run(model, [asked])
    assert not result.steps
    assert [each.score for each in result.hypotheses] == sorted(
        (each.score for each in result.hypotheses), reverse=True
    )
    assert tuple(result.ids) == result.hypotheses[0].ids
    for each in result.hypotheses:
        # Of the text and of the token that ended it, without the penalty.
        whole = [_logprobs(model, tuple(PROMPT) + each.ids[:place])[index] for place, index in enumerate(each.ids)]
        ends = _logprobs(model, tuple(PROMPT) + each.ids) if each.reason == "stop" else None
        possible = [sum(whole)] if ends is None else [sum(whole) + ends[index] for index in asked.stop_ids]
        assert min(abs(each.logprob - value) for value in possible) < 1e-4


def test_a_search_ends_if_the_settings_exclude_every_token(build, run):
    model = build(vocab_size=5, n_layer=1)
    config = GenerationConfig(max_new_tokens=9, num_beams=3, no_repeat_ngram_size=1)
    asked = Request([0], config, bad_ids=((1,),))
    (result,) = run(model, [asked])
    assert result.reason == "length"
    assert [each.score for each in result.hypotheses] == pytest.approx([score for score, _ in beams(model, asked)])
