"""The recommendation: the nearest, the simplest of those that tie, and none that repeats or recites."""

import numpy as np
import pytest

from penna.config.generation import GenerationConfig
from penna.evaluate.decoding import Recommendation, recommend, strategy_settings
from penna.evaluate.memorization import Memorization, MemorizedText
from penna.evaluate.novelty import Novelty
from penna.evaluate.rouge import Interval
from penna.evaluate.texts.distance import Distances
from penna.evaluate.texts.statistics import Statistics

CONFIGS = {
    "greedy": GenerationConfig(temperature=0),
    "pure": GenerationConfig(),
    "both": GenerationConfig(temperature=0.9, top_p=0.9),
    "top-p": GenerationConfig(top_p=0.9),
}


def statistics(repetition: float) -> Statistics:
    return Statistics(100, 9000, 9.0, None, 0.3, 0.9, repetition, 0.4, 0.8, 0.9, 500, 0.5, 90.0, 0.0)


def chosen(
    means: dict[str, float],
    spread: float,
    repetition: dict[str, float] | None = None,
    novelty: dict[str, Novelty] | None = None,
) -> Recommendation:
    """Strategies whose distances over the halves are their means and noise of each its own."""
    random = np.random.default_rng(0)
    resampled = {name: mean + spread * random.normal(size=200) for name, mean in means.items()}
    to_human = {name: Interval(mean, mean, mean) for name, mean in means.items()}
    return recommend(
        {name: CONFIGS[name] for name in means},
        {name: statistics((repetition or {}).get(name, 0.0)) for name in means},
        novelty or {},
        statistics(0.01),
        Distances(None, to_human, resampled),
    )


def test_the_nearest_is_taken_where_nothing_ties() -> None:
    found = chosen({"both": 0.1, "pure": 0.5, "top-p": 0.4}, 0.01)
    assert found.name == "both"
    assert found.tied == ("both",)


def test_of_those_that_tie_the_simplest_is_taken() -> None:
    found = chosen({"both": 0.1, "pure": 0.13, "top-p": 0.11}, 0.05)
    assert (found.name, found.tied) == ("pure", ("both", "top-p", "pure"))
    assert "pure is the simplest" in found.reason and "both, top-p" in found.reason
    assert chosen({"both": 0.1, "pure": 0.9, "top-p": 0.11}, 0.05).name == "top-p"


def test_one_that_repeats_is_left_out_however_near() -> None:
    found = chosen({"greedy": 0.01, "pure": 0.5}, 0.01, {"greedy": 0.4})
    assert found.name == "pure"
    assert found.excluded == {"greedy": "40% of its texts end in the same phrase again and again"}


def test_one_that_recites_is_left_out_and_where_all_do_none_is_taken() -> None:
    recites = Novelty({}, Memorization(13, (MemorizedText("", 100, 80, None),), None))
    own = Novelty({}, Memorization(13, (MemorizedText("", 100, 8, None),), None))
    assert chosen({"pure": 0.1, "top-p": 0.9}, 0.01, None, {"pure": recites, "top-p": own}).name == "top-p"
    found = chosen({"pure": 0.1, "top-p": 0.9}, 0.01, None, {"pure": recites, "top-p": recites})
    assert found.name is None
    assert set(found.excluded) == {"pure", "top-p"}


@pytest.mark.parametrize(
    ("config", "settings"),
    [
        (GenerationConfig(), {}),
        (GenerationConfig(max_new_tokens=7, temperature=1.0), {}),
        (GenerationConfig(temperature=0.9, top_p=0.9), {"temperature": 0.9, "top_p": 0.9}),
    ],
)
def test_settings_are_what_differs_from_plain_sampling(config: GenerationConfig, settings: dict[str, float]) -> None:
    assert strategy_settings(config) == settings
