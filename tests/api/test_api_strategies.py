"""The default grid of strategies, and strategies from named settings."""

from itertools import combinations

import pytest

from penna.api.strategies import Strategy, default_grid, named_strategies
from penna.config.generation import GenerationConfig
from penna.errors import RecipeError


def test_the_grid_has_every_kind_of_decoding_with_unique_names() -> None:
    grid = default_grid(50_000)
    assert {own.config.strategy for own in grid} == {"greedy", "beam", "sample", "contrastive"}
    assert len({own.file_name for own in grid}) == len(grid)
    assert all(one.config != other.config for one, other in combinations(grid, 2))


@pytest.mark.parametrize(("vocab_size", "ks"), [(65, {40}), (40, set()), (641, {40, 640})])
def test_a_top_k_of_the_whole_vocabulary_is_skipped(vocab_size: int, ks: set[int]) -> None:
    found = {own.config.top_k for own in default_grid(vocab_size) if own.config.penalty_alpha is None}
    assert found - {None} == ks


def test_a_named_strategy_has_its_settings() -> None:
    named = [("mine", {"temperature": 0.7, "top_p": 0.9}), ("beams", {"num_beams": 4, "early_stopping": True})]
    assert named_strategies(named) == [
        Strategy("mine", GenerationConfig(temperature=0.7, top_p=0.9)),
        Strategy("beams", GenerationConfig(num_beams=4, early_stopping=True)),
    ]


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ([("mine", {"top_p": 2})], "top_p"),
        ([("mine", {"topp": 0.5})], "topp"),
        ([("mine", {"temperature": 0, "top_p": 0.9})], "top_p cannot be combined with temperature = 0"),
        ([("mine", {"max_new_tokens": 5})], "sets max_new_tokens = 5"),
        ([("a b", {"top_p": 0.5}), ("a  b", {"top_p": 0.6})], "Two strategies"),
        ([("x", {"top_p": 0.5}), ("x", {"top_p": 0.6})], "Two strategies"),
    ],
)
def test_invalid_strategies_are_refused(named: list[tuple[str, dict[str, float]]], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        named_strategies(named)


def test_a_name_becomes_a_safe_file_name() -> None:
    assert Strategy("../a/b: c", GenerationConfig()).file_name == "a-b-c"
    assert Strategy("한국어 1", GenerationConfig()).file_name == "한국어-1"
    assert Strategy("///", GenerationConfig()).file_name == "strategy"
