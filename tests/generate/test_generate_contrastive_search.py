"""Contrastive search compared with a plain loop over equation 5 of Su et al. 2022."""

import pytest
from reference_decoding import MODELS, PROMPTS, contrastive, for_model, token_by_token

from penna.config.generation import GenerationConfig
from penna.generate.request import Request


def search(count: int, alpha: float, top_k: int, **fields) -> GenerationConfig:
    return GenerationConfig(max_new_tokens=count, penalty_alpha=alpha, top_k=top_k, **fields)


@pytest.mark.parametrize("name", MODELS)
def test_texts_of_every_model_match_a_plain_loop(name, build, run):
    model = build(**MODELS[name])
    asked = [(0.2, 2), (0.6, 4), (0.9, 7), (1.0, 3), (0.5, 100)]
    requests = for_model(
        model,
        [
            Request(prompt, search(3 if top_k == 100 else 8, alpha, top_k))
            for prompt, (alpha, top_k) in zip(PROMPTS, asked, strict=True)
        ],
    )
    result = run(model, requests)
    assert [each.text for each in result] == [contrastive(model, asked) for asked in requests]
    likeliest = run(
        model, for_model(model, [Request(p, GenerationConfig(max_new_tokens=8, temperature=0)) for p in PROMPTS])
    )
    assert sum(each.ids != other.ids for each, other in zip(result, likeliest, strict=True)) >= 3


@pytest.mark.parametrize("name", ["gpt2", "modern, grouped", "n-grams", "seq2seq"])
def test_alpha_zero_is_greedy(name, build, run):
    model = build(**MODELS[name])
    requests = for_model(model, [Request(prompt, search(12, 0.0, 5)) for prompt in PROMPTS])
    likeliest = GenerationConfig(max_new_tokens=12, temperature=0)
    for asked, result in zip(requests, run(model, requests), strict=True):
        assert result.ids == token_by_token(model, Request(asked.ids, likeliest, source=asked.source))[0]


@pytest.mark.parametrize("block", [1, 4, 7])
@pytest.mark.parametrize("name", ["gpt2", "modern, grouped", "n-grams", "seq2seq"])
def test_a_text_beyond_the_block_continues_from_its_last_half(name, block, build, run):
    model = build(**MODELS[name], block_size=block)
    requests = for_model(model, [Request(prompt, search(14, 0.6, 4)) for prompt in PROMPTS[1:3]])
    assert [result.text for result in run(model, requests)] == [contrastive(model, asked) for asked in requests]


def test_penalties_exclusions_and_stops_apply(build, run):
    model = build()
    requests = [
        Request(PROMPTS[1], search(15, 0.4, 4, repetition_penalty=1.8)),
        Request(PROMPTS[2], search(15, 0.4, 4, no_repeat_ngram_size=1, frequency_penalty=0.5)),
        Request(PROMPTS[3], search(15, 0.6, 8), stop_ids=frozenset(range(0, 61, 3))),
        Request(PROMPTS[3], search(15, 0.6, 8, min_new_tokens=6), stop_ids=frozenset(range(0, 61, 3))),
        Request(PROMPTS[4], search(15, 0.3, 5), bad_ids=((18, 18), *((index,) for index in range(30)))),
    ]
    result = run(model, requests)
    assert [each.text for each in result] == [contrastive(model, asked) for asked in requests]
    assert result[2].reason == "stop"
    assert len(result[3].ids) >= 6
    assert min(result[4].ids) >= 30


@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_an_excluded_token_is_not_taken_even_if_it_is_the_only_dissimilar_one(alpha, build, run):
    """Fewer tokens are allowed than are weighed."""
    model = build(vocab_size=8)
    for seed in range(8):
        allowed = {seed, (seed + 3) % 8}
        bad = tuple((index,) for index in range(8) if index not in allowed)
        asked = Request([seed], search(6, alpha, 6), bad_ids=bad)
        (result,) = run(model, [asked])
        assert set(result.ids) <= allowed
        assert result.text == contrastive(model, asked)
