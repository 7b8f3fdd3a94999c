"""Sampling: the distribution is transformers', draws follow it, random numbers are uniform and never change."""

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from penna.errors import RecipeError
from penna.generate import sampling
from penna.generate.sampling import Sampling, choose, token_probabilities, uniform


def chi_square_limit(degrees: int) -> float:
    """The value that chi-square exceeds once in a thousand times (Wilson and Hilferty 1931)."""
    share = 2 / (9 * degrees)
    return degrees * (1 - share + 3.0902 * math.sqrt(share)) ** 3


def chi_square(counts: Counter, expected: list[float]) -> float:
    return sum((counts[value] - due) ** 2 / due for value, due in enumerate(expected) if due > 0)


def random_logits(seed: int, size: int, width: float = 2.0) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * width


# --- the distribution


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    size=st.integers(2, 40),
    temperature=st.floats(0.05, 5),
    top_k=st.none() | st.integers(1, 50),
    top_p=st.none() | st.floats(0.01, 1),
)
def test_the_distribution_is_that_of_transformers(seed, size, temperature, top_k, top_p):
    logits = random_logits(seed, size)
    scores = TemperatureLogitsWarper(temperature)(None, logits[None])
    if top_k is not None:
        scores = TopKLogitsWarper(top_k)(None, scores)
    if top_p is not None:
        scores = TopPLogitsWarper(top_p)(None, scores)
    ours = token_probabilities(logits, Sampling(temperature, top_k, top_p))
    torch.testing.assert_close(ours, scores[0].softmax(dim=-1), atol=1e-12, rtol=1e-9)


def test_top_k_keeps_ties_at_the_last_place_and_top_p_comes_after_it():
    logits = torch.tensor([0.5, 0.2, 0.2, 0.1]).log()
    kept = token_probabilities(logits, Sampling(top_k=2))
    torch.testing.assert_close(kept, torch.tensor([5 / 9, 2 / 9, 2 / 9, 0.0], dtype=torch.float64))
    # Of what top-k left, 5/9 alone reach half; of the whole they would too, but 0.5 is not more than 0.55.
    assert token_probabilities(logits, Sampling(top_k=2, top_p=0.55)).count_nonzero() == 1
    assert token_probabilities(logits, Sampling(top_p=0.55)).count_nonzero() == 2


def test_probabilities_of_many_rows_are_those_of_each():
    rows = torch.stack([random_logits(seed, 9) for seed in range(4)])
    settings_ = Sampling(0.7, 5, 0.9)
    each = torch.stack([token_probabilities(row, settings_) for row in rows])
    torch.testing.assert_close(token_probabilities(rows, settings_), each, atol=0, rtol=0)


@pytest.mark.parametrize("temperature", [5e-324, 1e-300, 1e-5])
def test_a_tiny_temperature_is_greedy_and_does_not_overflow(temperature: float):
    logits = torch.tensor([-900.0, 3.0, 900.0, 899.0])
    assert token_probabilities(logits, Sampling(temperature)).tolist() == [0, 0, 1, 0]
    assert choose(logits, Sampling(temperature), 0, 0) == 2


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 30), st.integers(0, 99))
def test_greedy_is_top_k_of_one_and_a_tiny_top_p(seed: int, size: int, position: int):
    logits = random_logits(seed, size)
    best = max(range(size), key=lambda number: float(logits[number]))
    for setting in (Sampling(0), Sampling(top_k=1), Sampling(top_p=1e-9), Sampling(1e-9)):
        assert choose(logits, setting, seed, position) == best


# --- draws


@pytest.mark.parametrize(
    "setting", [Sampling(), Sampling(0.6), Sampling(2.0, top_k=7), Sampling(top_p=0.8), Sampling(1.3, 9, 0.9)]
)
@pytest.mark.parametrize("along", ["positions", "seeds"])
def test_draws_follow_the_distribution(setting: Sampling, along: str):
    logits = random_logits(5, 12, width=1.0)
    draws = 3000
    places = [(11, n) if along == "positions" else (n, 4) for n in range(draws)]
    counts = Counter(choose(logits, setting, seed, position) for seed, position in places)
    expected = [draws * p for p in token_probabilities(logits, setting).tolist()]
    assert all(expected[token] > 0 for token in counts)
    assert chi_square(counts, expected) < chi_square_limit(sum(due > 0 for due in expected) - 1)


def test_a_token_that_cannot_be_is_never_drawn(monkeypatch: pytest.MonkeyPatch):
    logits = torch.tensor([-math.inf, 0.0, -math.inf, 0.0, -math.inf])
    for drawn in (0.0, 0.25, 0.5, 1 - 2**-53):
        monkeypatch.setattr(sampling, "uniform", lambda *_, drawn=drawn: drawn)
        assert choose(logits, Sampling(), 0, 0) == (1 if drawn < 0.5 else 3)


def test_rounding_never_leads_behind_the_last_possible_token(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sampling, "uniform", lambda *_: 1.0)
    for seed in range(50):
        logits = random_logits(seed, 1000)
        logits[-5:] = -math.inf
        assert token_probabilities(logits, Sampling())[choose(logits, Sampling(), 0, 0)] > 0


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
    outputs = [sampling._mix(step * 0x9E3779B97F4A7C15 & (1 << 64) - 1) for step in range(3)]
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
def test_random_numbers_are_uniform_and_unlike_their_neighbours(places: list[tuple[int, int]]):
    numbers = [uniform(*place) for place in places]
    count = len(numbers)
    assert all(0 <= number < 1 for number in numbers)
    assert len(set(numbers)) == count
    assert chi_square(Counter(int(n * 100) for n in numbers), [count / 100] * 100) < chi_square_limit(99)
    gap = max(max((i + 1) / count - x, x - i / count) for i, x in enumerate(sorted(numbers)))
    assert gap * math.sqrt(count) < 1.95  # Kolmogorov-Smirnov, p = 0.001
    pairs = Counter(int(a * 10) * 10 + int(b * 10) for a, b in zip(numbers[::2], numbers[1::2], strict=True))
    assert chi_square(pairs, [count / 200] * 100) < chi_square_limit(99)


@settings(max_examples=100, deadline=None)
@given(st.integers(-(2**70), 2**70), st.integers(0, 2**70))
def test_any_seed_and_position_give_a_number_that_depends_on_them_alone(seed: int, position: int):
    assert 0 <= uniform(seed, position) < 1
    assert uniform(seed, position) == uniform(seed, position)


# --- refusals


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"temperature": -0.1}, "temperature = -0.1"),
        ({"temperature": math.nan}, "temperature = nan"),
        ({"top_k": 0}, "top_k = 0"),
        ({"top_k": -3}, "top_k = -3"),
        ({"top_p": 0.0}, "top_p = 0.0"),
        ({"top_p": 1.1}, "top_p = 1.1"),
        ({"top_p": math.nan}, "top_p = nan"),
        ({"temperature": 0, "top_k": 5}, "temperature = 0"),
        ({"temperature": 0, "top_p": 0.5}, "temperature = 0"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(fields: dict, said: str):
    with pytest.raises(RecipeError) as caught:
        Sampling(**fields)
    assert said in caught.value.happened
    assert caught.value.expected
    assert caught.value.todo
