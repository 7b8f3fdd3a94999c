"""The nearest strategy or the simplest of ties is recommended, unless it repeats or reproduces training text."""

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


def recommendation(
    means: dict[str, float],
    spread: float,
    repetition: dict[str, float] | None = None,
    novelty: dict[str, Novelty] | None = None,
) -> Recommendation:
    """The recommendation for strategies whose distances over the halves are their means plus independent noise."""
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


def test_the_nearest_is_recommended_without_ties() -> None:
    found = recommendation({"both": 0.1, "pure": 0.5, "top-p": 0.4}, 0.01)
    assert found.name == "both"
    assert found.tied == ("both",)


def test_the_simplest_of_ties_is_recommended() -> None:
    found = recommendation({"both": 0.1, "pure": 0.13, "top-p": 0.11}, 0.05)
    assert (found.name, found.tied) == ("pure", ("both", "top-p", "pure"))
    assert "pure is the simplest" in found.reason and "both, top-p" in found.reason
    assert recommendation({"both": 0.1, "pure": 0.9, "top-p": 0.11}, 0.05).name == "top-p"


def test_a_repetitive_strategy_is_excluded() -> None:
    found = recommendation({"greedy": 0.01, "pure": 0.5}, 0.01, {"greedy": 0.4})
    assert found.name == "pure"
    assert found.excluded == {"greedy": "40% of its texts end in the same phrase again and again"}


def test_a_strategy_that_reproduces_training_text_is_excluded() -> None:
    copied = Novelty({}, Memorization(13, (MemorizedText("", 100, 80, None),), None))
    own = Novelty({}, Memorization(13, (MemorizedText("", 100, 8, None),), None))
    assert recommendation({"pure": 0.1, "top-p": 0.9}, 0.01, None, {"pure": copied, "top-p": own}).name == "top-p"
    found = recommendation({"pure": 0.1, "top-p": 0.9}, 0.01, None, {"pure": copied, "top-p": copied})
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
def test_strategy_settings_differ_from_plain_sampling(config: GenerationConfig, settings: dict[str, float]) -> None:
    assert strategy_settings(config) == settings
