"""Spreads and paired differences, compared with scipy and numpy."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from penna.report.experiments.statistics import paired_difference, spread
from penna.storage import to_json

VALUES = st.floats(-1e6, 1e6)


def test_the_interval_of_three_seeds_uses_the_quantile_of_student_s_t() -> None:
    found = paired_difference({1: 0.0, 2: 0.0, 3: 0.0}, {1: 1.0, 2: 2.0, 3: 3.0})
    assert found is not None
    assert found.high == pytest.approx(2 + 4.302653 / math.sqrt(3), rel=1e-6)  # t(0.975, 2)


@given(st.lists(VALUES, min_size=2, max_size=30))
def test_a_spread_equals_the_sample_deviation_of_numpy(values: list[float]) -> None:
    found = spread(values)
    assert found is not None
    assert found.sd is not None
    assert found.n == len(values)
    assert found.mean == pytest.approx(np.mean(values), rel=1e-9, abs=1e-6)
    assert found.sd == pytest.approx(np.std(values, ddof=1), rel=1e-9, abs=1e-6)
    assert (found.low, found.high) == (min(values), max(values))


def test_a_single_value_has_no_deviation_and_no_value_has_no_spread() -> None:
    found = spread([2.5])
    assert found is not None
    assert (found.n, found.mean, found.sd, found.low, found.high) == (1, 2.5, None, 2.5, 2.5)
    assert spread([]) is None


@given(st.lists(st.tuples(VALUES, VALUES), min_size=2, max_size=12))
def test_an_interval_equals_that_of_the_paired_test_of_scipy(pairs: list[tuple[float, float]]) -> None:
    baseline = {seed: one for seed, (one, _) in enumerate(pairs)}
    arm = {seed: other for seed, (_, other) in enumerate(pairs)}
    found = paired_difference(baseline, arm)
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    differences = np.array([other - one for one, other in pairs])
    assert found.mean == pytest.approx(differences.mean(), rel=1e-9, abs=1e-6)
    if differences.std() < 1e-9 * (1 + abs(differences.mean())):  # scipy warns about exact values
        return
    expected = stats.ttest_rel(list(arm.values()), list(baseline.values())).confidence_interval(0.95)
    assert found.low == pytest.approx(expected.low, rel=1e-6, abs=1e-5)
    assert found.high == pytest.approx(expected.high, rel=1e-6, abs=1e-5)


def test_only_common_seeds_are_paired_in_any_order() -> None:
    found = paired_difference({3: 1.0, 1: 2.0, 7: 9.0}, {1: 2.5, 8: 0.0, 3: 1.5})
    assert found is not None
    assert (found.seeds, found.n, found.mean, found.sd) == ((1, 3), 2, 0.5, 0.0)
    assert (found.low, found.high, found.is_clear) == (0.5, 0.5, True)


def test_a_single_seed_has_a_difference_but_no_interval() -> None:
    found = paired_difference({1: 2.0}, {1: 1.5, 2: 3.0})
    assert found is not None
    assert (found.n, found.mean, found.sd, found.low, found.high, found.is_clear) == (1, -0.5, None, None, None, False)
    assert to_json(found)["low"] is None


def test_without_a_common_seed_there_is_no_difference() -> None:
    assert paired_difference({1: 2.0}, {2: 1.5}) is None


def test_an_interval_that_contains_zero_is_not_clear() -> None:
    found = paired_difference({1: 0.0, 2: 0.0, 3: 0.0}, {1: 1.0, 2: -1.0, 3: 0.6})
    assert found is not None
    assert not found.is_clear
    assert found.high is not None
    assert math.isfinite(found.high)
