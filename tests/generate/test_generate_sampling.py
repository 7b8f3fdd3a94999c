"""Sampling: the distribution matches transformers, samples follow it, and random numbers never change."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest
from transformers import (
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from penna.config.generation import GenerationConfig
from penna.generate import sampling as drawing
from penna.generate.sampling import choose, token_probabilities, uniform
from penna.generate.sequence import SequenceState

RARE = 1e-6  # the p-value below which a test of chance fails; seeds are fixed, so it passes or fails for good


def random_logits(seed: int, size: int, width: float = 2.0) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * width


def logits_from(seed: int, size: int, tied: bool, barred: bool) -> torch.Tensor:
    """Random logits (size,); ``tied``: in steps, so that many are equal; ``barred``: some at -inf."""
    logits = random_logits(seed, size)
    if tied:
        logits = logits.round()
    if barred:
        logits[torch.rand(size, generator=torch.Generator().manual_seed(seed + 1)) < 0.4] = -torch.inf
        logits[seed % size] = 1.0
    return logits


def warped(logits: torch.Tensor, config: GenerationConfig) -> torch.Tensor:
    """Probabilities as transformers makes them of logits (V,), its warpers in its order."""
    scores = TemperatureLogitsWarper(config.temperature)(None, logits[None])
    if config.top_k is not None:
        scores = TopKLogitsWarper(config.top_k)(None, scores)
    if config.top_p is not None:
        scores = TopPLogitsWarper(config.top_p)(None, scores)
    if config.min_p is not None:
        scores = MinPLogitsWarper(config.min_p)(None, scores)
    if config.typical_p is not None and config.typical_p < 1:
        scores = TypicalLogitsWarper(config.typical_p)(None, scores)
    return scores[0].softmax(dim=-1)


def sampled(logits: torch.Tensor, config: GenerationConfig, places: list[tuple[int, int]]) -> list[int]:
    """What is drawn from the same logits (V,) at each (seed, position)."""
    texts = [SequenceState(config, seed, generated=[0] * position) for seed, position in places]
    return choose(logits.expand(len(texts), -1), texts)


# --- the distribution

SHARES = st.integers(1, 98).map(lambda number: number / 99 + 0.00314159)  # falls on no border of few tokens


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    size=st.integers(2, 40),
    tied=st.booleans(),
    barred=st.booleans(),
    temperature=st.sampled_from([0.3, 0.7, 1.0, 1.9]),
    top_k=st.none() | st.integers(1, 50),
    top_p=st.none() | SHARES,
    min_p=st.none() | SHARES,
    typical_p=st.none() | SHARES,
)
def test_the_distribution_matches_transformers(seed, size, tied, barred, temperature, top_k, top_p, min_p, typical_p):
    logits = logits_from(seed, size, tied, barred)
    config = GenerationConfig(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, typical_p=typical_p)
    ours, theirs = token_probabilities(logits, config), warped(logits, config)
    # Of ties at the border of top-p transformers keeps some, and which ones it does not say: compare their number.
    ours, theirs = (values.sort().values if tied else values for values in (ours, theirs))
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-9)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 30), st.booleans(), SHARES)
def test_top_p_keeps_the_first_ties_and_no_more_than_needed(seed, size, tied, share):
    probabilities = logits_from(seed, size, tied, barred=False).softmax(dim=-1)
    due = torch.zeros_like(probabilities)
    mass = 0.0
    for token in sorted(range(size), key=lambda token: (-float(probabilities[token]), token)):
        if mass < share:
            due[token] = probabilities[token]
        mass += float(probabilities[token])
    ours = token_probabilities(probabilities.log(), GenerationConfig(top_p=share))
    # The log of a softmax splits no ties, but may turn the last bits of others.
    torch.testing.assert_close(ours, due / due.sum(), atol=1e-12, rtol=1e-9)


def test_top_k_keeps_all_ties_and_is_applied_before_top_p():
    logits = torch.tensor([0.5, 0.2, 0.2, 0.1]).log()
    kept = token_probabilities(logits, GenerationConfig(top_k=2))
    torch.testing.assert_close(kept, torch.tensor([5 / 9, 2 / 9, 2 / 9, 0.0], dtype=torch.float64))
    # Of what top-k left, 5/9 alone reach half; of the whole they would too, but 0.5 is not more than 0.55.
    assert token_probabilities(logits, GenerationConfig(top_k=2, top_p=0.55)).count_nonzero() == 1
    assert token_probabilities(logits, GenerationConfig(top_p=0.55)).count_nonzero() == 2


def test_probabilities_of_a_batch_match_those_of_each_row():
    rows = torch.stack([random_logits(seed, 9) for seed in range(6)]).view(2, 3, 9)
    config = GenerationConfig(temperature=0.7, top_k=5, top_p=0.9, min_p=0.01, typical_p=0.9)
    each = torch.stack([token_probabilities(row, config) for row in rows.view(6, 9)])
    torch.testing.assert_close(token_probabilities(rows, config), each.view(2, 3, 9), atol=0, rtol=0)


def test_greedy_puts_all_probability_on_the_first_likeliest_token():
    rows = torch.tensor([[0.0, 2.0, 2.0], [1.0, 0.0, -math.inf]])
    assert token_probabilities(rows, GenerationConfig(temperature=0)).tolist() == [[0, 1, 0], [1, 0, 0]]


@pytest.mark.parametrize("temperature", [5e-324, 1e-300, 1e-5])
def test_a_tiny_temperature_is_greedy_and_does_not_overflow(temperature: float):
    logits, config = torch.tensor([-900.0, 3.0, 900.0, 899.0]), GenerationConfig(temperature=temperature)
    assert token_probabilities(logits, config).tolist() == [0, 0, 1, 0]
    assert sampled(logits, config, [(0, 0)]) == [2]


# --- large vocabularies, where only the likeliest tokens are ordered

BIG = 9000


def big_logits(kind: str) -> torch.Tensor:
    zipf = -torch.arange(1, BIG + 1).float().log()
    shuffled = torch.randperm(BIG, generator=torch.Generator().manual_seed(3))
    logits = {
        "peaked": 3 * zipf,
        "flat": 0.1 * zipf,
        "equal": torch.zeros(BIG),
        "steps": (4 * zipf).round() / 4,
        "ties across the few": torch.cat([torch.full((50,), 6.0), torch.zeros(BIG - 50)]),
        "mostly barred": torch.cat([zipf[:30], torch.full((BIG - 30,), -torch.inf)]),
    }[kind]
    return logits[shuffled]


LIMITS = [
    {"top_p": 0.5},
    {"top_p": 0.97},
    {"top_k": 40},
    {"top_k": 40, "top_p": 0.9, "min_p": 0.001},
    {"top_k": 2000, "top_p": 0.9},
    {"typical_p": 0.5},
    {"typical_p": 0.97},
    {"top_p": 0.9, "typical_p": 0.8, "temperature": 1.4},
]
KINDS = ["peaked", "flat", "equal", "steps", "ties across the few", "mostly barred"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("limits", LIMITS, ids=str)
def test_sorting_only_the_likeliest_tokens_gives_the_same_result(kind, limits, monkeypatch: pytest.MonkeyPatch):
    logits, config = big_logits(kind), GenerationConfig(**limits)
    places = [(seed, 1) for seed in range(40)]
    few, few_drawn = token_probabilities(logits, config), sampled(logits, config, places)
    monkeypatch.setattr(drawing, "_MANY", BIG)
    all_, all_drawn = token_probabilities(logits, config), sampled(logits, config, places)
    assert torch.equal(few > 0, all_ > 0)
    torch.testing.assert_close(few, all_, atol=0, rtol=1e-12)
    assert few_drawn == all_drawn
    # And where the device is better not asked, as on a GPU.
    monkeypatch.setattr(drawing, "_is_on_cpu", lambda values: False)
    unasked = token_probabilities(logits, config)
    assert torch.equal(unasked > 0, all_ > 0)
    assert sampled(logits, config, places) == all_drawn


@pytest.mark.parametrize("kind", ["peaked", "flat"])
@pytest.mark.parametrize("limits", LIMITS, ids=str)
def test_the_distribution_over_a_large_vocabulary_matches_transformers(kind, limits):
    logits, config = big_logits(kind).double(), GenerationConfig(**limits)
    torch.testing.assert_close(token_probabilities(logits, config), warped(logits, config), atol=1e-12, rtol=1e-7)


# --- draws

STRATEGIES = [
    {},
    {"temperature": 0.6},
    {"temperature": 2.0, "top_k": 7},
    {"top_p": 0.8},
    {"min_p": 0.2},
    {"typical_p": 0.7},
    {"temperature": 1.3, "top_k": 9, "top_p": 0.9, "min_p": 0.05, "typical_p": 0.95},
]


@pytest.mark.parametrize("fields", STRATEGIES, ids=str)
@pytest.mark.parametrize("along", ["positions", "seeds"])
def test_samples_follow_the_distribution(fields, along: str):
    logits, config = random_logits(5, 12, width=1.0), GenerationConfig(**fields)
    draws = 2000 if along == "positions" else 8_000
    places = [(11, n) if along == "positions" else (n, 4) for n in range(draws)]
    counts = np.bincount(sampled(logits, config, places), minlength=12)
    expected = draws * warped(logits, config).numpy()
    assert not counts[expected == 0].any()
    assert chisquare(counts[expected > 0], expected[expected > 0]).pvalue > RARE


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.booleans(), st.sampled_from([13, 700, 9000]))
def test_a_sample_does_not_depend_on_other_rows_and_their_settings(seed: int, tied: bool, size: int):
    kinds = [*STRATEGIES, {"temperature": 0}, {"top_k": 3, "repetition_penalty": 1.3}, {"no_repeat_ngram_size": 2}]
    logits = torch.stack([logits_from(seed + row, size, tied, barred=False) for row in range(32)]).float()
    texts = [
        SequenceState(GenerationConfig(**kinds[row % len(kinds)]), seed * row, [1, 2, 1], [row % size] * (row % 5))
        for row in range(32)
    ]
    together = choose(logits, texts)
    assert together == [choose(logits[row : row + 1], [text])[0] for row, text in enumerate(texts)]
    assert together[7:20] == choose(logits[7:20], texts[7:20])


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 30), st.integers(0, 99))
def test_greedy_is_top_k_of_one_and_a_tiny_top_p(seed: int, size: int, position: int):
    logits = random_logits(seed, size)
    best = max(range(size), key=lambda number: float(logits[number]))
    for fields in ({"temperature": 0}, {"top_k": 1}, {"top_p": 1e-9}, {"temperature": 1e-9}, {"min_p": 1}):
        assert sampled(logits, GenerationConfig(**fields), [(seed, position)]) == [best]


def test_a_sample_is_the_id_where_the_uniform_number_falls(monkeypatch: pytest.MonkeyPatch):
    logits = torch.tensor([-math.inf, 0.0, -math.inf, 0.0, -math.inf])
    for number in (0.0, 0.25, 0.4999, 0.5, 1 - 2**-53):
        monkeypatch.setattr(drawing, "uniform", lambda *_, number=number: number)
        assert sampled(logits, GenerationConfig(), [(0, 0)]) == [1 if number < 0.5 else 3]


@pytest.mark.parametrize("fields", STRATEGIES, ids=str)
def test_a_sample_uses_the_number_of_its_seed_and_position(fields):
    logits, config = random_logits(1, 60), GenerationConfig(**fields)
    cumulative = np.cumsum(warped(logits, config).numpy())
    places = [(seed, position) for seed in (0, 7, -1, 2**64 - 1) for position in range(40)]
    due = [int(np.searchsorted(cumulative, uniform(*place) * cumulative[-1], side="right")) for place in places]
    assert sampled(logits, config, places) == due


def test_the_largest_uniform_number_gives_the_last_possible_token(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(drawing, "uniform", lambda *_: 1 - 2**-53)
    for seed in range(200):
        logits = random_logits(seed, 1000)
        logits[-5:] = -math.inf
        (token,) = sampled(logits, GenerationConfig(temperature=0.9), [(0, 0)])
        assert token_probabilities(logits, GenerationConfig())[token] > 0


def test_an_empty_batch_gives_no_tokens():
    assert choose(torch.empty(0, 7), []) == []


def test_logits_are_not_modified():
    logits = torch.stack([random_logits(seed, 50) for seed in range(3)])
    before = logits.clone()
    for fields in STRATEGIES:
        choose(logits, [SequenceState(GenerationConfig(**fields, repetition_penalty=1.5), 1, [3], [4])] * 3)
    assert torch.equal(logits, before)


# --- the random numbers

# By another hand from Vigna's splitmix64.c; a change here changes every sample that was ever written down.
GOLDEN = {
    (0, 0): 0.6524484863740322,
    (0, 1): 0.49050645623222144,
    (1, 0): 0.36818951565166946,
    (1337, 0): 0.1933164916588117,
    (1337, 100): 0.9393227925297638,
    (2147483647, 1000000): 0.8611898563934614,
}


def test_random_numbers_never_change():
    # The first outputs of splitmix64 from state 0 (Vigna's splitmix64.c).
    outputs = [drawing._mix(step * 0x9E3779B97F4A7C15 & (1 << 64) - 1) for step in range(3)]
    assert outputs == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert {place: uniform(*place) for place in GOLDEN} == GOLDEN


@pytest.mark.parametrize(
    "places",
    [
        [(0, n) for n in range(20_000)],
        [(n, 0) for n in range(20_000)],
        [(1337, 10**12 + n) for n in range(20_000)],
        [(n % 100, n // 100) for n in range(20_000)],
    ],
    ids=["positions", "seeds", "far positions", "both"],
)
def test_random_numbers_are_uniform_and_uncorrelated(places: list[tuple[int, int]]):
    numbers = np.array([uniform(*place) for place in places])
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert len(np.unique(numbers)) == len(numbers)
    assert kstest(numbers, "uniform").pvalue > RARE
    assert chisquare(np.bincount((numbers * 100).astype(int), minlength=100)).pvalue > RARE
    pairs = (numbers[::2] * 10).astype(int) * 10 + (numbers[1::2] * 10).astype(int)
    assert chisquare(np.bincount(pairs, minlength=100)).pvalue > RARE


@settings(max_examples=100, deadline=None)
@given(st.integers(-(2**70), 2**70), st.integers(0, 2**70))
def test_random_numbers_depend_on_seed_and_position_alone(seed: int, position: int):
    assert 0 <= uniform(seed, position) < 1
    assert uniform(seed, position) == uniform(seed, position)
