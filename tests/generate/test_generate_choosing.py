"""Choices through the engine compared with a manual walk."""

from collections import Counter

import pytest
import torch
from reference_decoding import MODELS, PROMPTS, for_model, next_logits
from scipy.stats import chisquare

from penna.config.generation import GenerationConfig
from penna.generate.request import Request

CHOICES = ((5, 6), (5,), (5, 6, 40), (7, 8, 9), (7, 8, 2), (30, 30), (60, 1, 2, 3))
STOP = 44


def walk(model, asked: Request, stops: bool):
    """Every choice with its probability: at each token that of all that may follow makes a whole."""
    found: dict[tuple[int, ...], float] = {}

    def go_on(written: tuple[int, ...], probability: float) -> None:
        follow = sorted(
            {
                ids[len(written)]
                for ids in asked.choice_ids
                if len(ids) > len(written) and ids[: len(written)] == written
            }
        )
        if not follow:
            found[written] = probability
            return
        allowed = [*follow, *([STOP] if stops and written in asked.choice_ids else [])]
        logits = next_logits(model, [*asked.ids, *written], asked.source).double()
        shares = (logits[allowed] / (asked.config.temperature or 1)).softmax(dim=0).tolist()
        for index, share in zip(allowed, shares, strict=True):
            if index == STOP and stops and index not in follow:
                found[written] = probability * share
            else:
                go_on((*written, index), probability * share)

    go_on((), 1.0)
    return found


@pytest.mark.parametrize("name", ["gpt2", "modern, grouped", "n-grams", "seq2seq"])
@pytest.mark.parametrize("stops", [False, True])
def test_greedy_decoding_takes_the_likeliest_token_of_a_choice(stops, name, build, run):
    for seed in range(4):
        model = build(seed, **MODELS[name])
        config = GenerationConfig(max_new_tokens=9, temperature=0)
        stop_ids = frozenset({STOP}) if stops else frozenset()
        requests = for_model(model, [Request(p, config, stop_ids=stop_ids, choice_ids=CHOICES) for p in PROMPTS])
        for asked, result in zip(requests, run(model, requests), strict=True):
            written: list[int] = []
            while True:
                follow = {
                    ids[len(written)]
                    for ids in CHOICES
                    if len(ids) > len(written) and list(ids[: len(written)]) == written
                }
                if not follow:
                    break
                if stops and tuple(written) in CHOICES:
                    follow.add(STOP)
                logits = next_logits(model, [*asked.ids, *written], asked.source)
                best = max(follow, key=lambda index: float(logits[index]))
                if best == STOP:
                    break
                written.append(best)
            assert result.text == (written, "stop")
            assert tuple(result.ids) in CHOICES


@pytest.mark.parametrize("stops", [False, True])
def test_sampled_choices_follow_their_token_probabilities(stops, build, run):
    model = build(5, n_layer=1)
    with torch.no_grad():
        model.wte.weight[[5, 6, 40, 7, 8, 9, 2, 30, 60, 1, 3, STOP]] *= 0.3  # so that each is chosen now and then
    config = GenerationConfig(max_new_tokens=5, temperature=1.3)
    stop_ids = frozenset({STOP}) if stops else frozenset()
    asked = [Request([3, 9], config, seed, stop_ids, choice_ids=CHOICES) for seed in range(2000)]
    result = run(model, asked, 256)
    counts = Counter(tuple(each.ids) for each in result)
    expected = walk(model, asked[0], stops)
    assert sum(expected.values()) == pytest.approx(1)
    assert set(counts) <= set(expected)
    assert ((5,) in expected) == stops
    likely = [ids for ids, share in expected.items() if share * 2000 > 5]
    assert len(likely) > 3
    observed = [counts[ids] for ids in likely]
    due = [expected[ids] for ids in likely]
    rest, left = 2000 - sum(observed), 1 - sum(due)
    pairs = [*zip(observed, due, strict=True), *([(rest, left)] if left * 2000 > 1 else [])]
    total = sum(share for _, share in pairs)
    seen = sum(number for number, _ in pairs)
    assert chisquare([number for number, _ in pairs], [share / total * seen for _, share in pairs]).pvalue > 1e-4


def test_a_choice_ends_as_soon_as_nothing_can_follow(build, run):
    model = build()
    config = GenerationConfig(max_new_tokens=9, temperature=0)
    alone, first, cut = run(
        model,
        [
            Request([1], config, choice_ids=((4, 4, 4),)),
            Request([1], config, choice_ids=((4,), (4, 4))),
            Request([1], config.model_copy(update={"max_new_tokens": 2}), choice_ids=((4, 4, 4),)),
        ],
    )
    assert alone.text == ([4, 4, 4], "stop")
    assert first.text == ([4, 4], "stop")  # nothing may end the shorter one
    assert cut.text == ([4, 4], "length")
