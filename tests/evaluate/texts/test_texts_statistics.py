"""Statistics of sets of continuations equal counts by hand, and distances separate different kinds of text."""

import math
import random
from collections import Counter

import numpy as np
import pytest

from penna.evaluate.rouge import Interval
from penna.evaluate.texts.distance import distance, distances
from penna.evaluate.texts.diversity import distinct, self_bleu, zipf_coefficient
from penna.evaluate.texts.statistics import (
    Continuation,
    Likelihood,
    MeasuredTexts,
    Statistics,
    reliable_statistics,
    sample_size_warnings,
)
from penna.evaluate.words import words_and_punctuation
from penna.storage import to_json


def measured(texts: list[str], nats_per_token: float = 2.0) -> MeasuredTexts:
    """Texts whose tokens are their characters; the vocabulary has 50."""
    numbers: dict[str, int] = {}
    continuations = [
        Continuation(tuple(numbers.setdefault(c, len(numbers)) for c in text), text, "." in text) for text in texts
    ]
    tokens = np.array([len(text) for text in texts])
    return MeasuredTexts(continuations, Likelihood(nats_per_token * tokens, tokens), 50)


TEXTS = ["나는 학교에 갔다. 나는", "我在家读书，他也在家读书", "the cat saw the dog and the cat", "", "ab ab ab ab "]


@pytest.mark.parametrize("rows", [[0, 1, 2, 3, 4], [1, 3, 4], [0], [3]])
def test_statistics_equal_the_functions_on_the_same_texts(rows: list[int]) -> None:
    found = measured(TEXTS).statistics(np.array(rows))
    words = [words_and_punctuation(TEXTS[row]) for row in rows]
    for order, value in ((1, found.distinct_1), (2, found.distinct_2), (3, found.distinct_3)):
        assert value == (pytest.approx(distinct(words, order)) if any(words) else None)
    counts = Counter(word for text in words for word in text)
    zipf = zipf_coefficient(np.array(list(counts.values()), dtype=np.int64))
    assert found.zipf == (None if zipf is None else pytest.approx(zipf))
    assert found.texts == len(rows)
    assert found.words == sum(map(len, words))
    assert found.words_used == len({word for text in words for word in text})
    assert found.vocabulary_use == len({char for row in rows for char in TEXTS[row]}) / 50
    assert found.length == sum(len(TEXTS[row]) for row in rows) / len(rows)
    assert found.ended == sum("." in TEXTS[row] for row in rows) / len(rows)
    assert found.repetition == sum(row == 4 for row in rows) / len(rows)
    assert found.perplexity == (pytest.approx(math.exp(2)) if any(words) else None)
    assert found.judge_perplexity is None
    all_scores = self_bleu([words_and_punctuation(text) for text in TEXTS])
    scores = [score for row in rows if (score := all_scores[row]) is not None]
    assert found.self_bleu == (pytest.approx(sum(scores) / len(scores)) if scores else None)


def test_perplexity_weighs_tokens_equally() -> None:
    texts = [Continuation((1, 2, 3), "abc", False), Continuation((1,), "a", False)]
    judged = Likelihood(np.array([2.0, 4.0]), np.array([2, 1]))
    found = MeasuredTexts(texts, Likelihood(np.array([3.0, 5.0]), np.array([3, 1])), 9, judged).statistics()
    assert found.perplexity == pytest.approx(math.exp(8 / 4))
    assert found.judge_perplexity == pytest.approx(math.exp(6 / 3))


def test_an_infinite_perplexity_is_null_in_json() -> None:
    found = MeasuredTexts([Continuation((1,), "a", False)], Likelihood(np.array([1e6]), np.array([1])), 9).statistics()
    assert found.perplexity == math.inf
    assert to_json(found)["perplexity"] is None


def some_statistics(**changes: float | None) -> Statistics:
    base: dict[str, float | None] = {
        "texts": 98, "words": 5000, "perplexity": 20.0, "judge_perplexity": None, "self_bleu": 0.3, "zipf": 0.9,
        "repetition": 0.0, "distinct_1": 0.4, "distinct_2": 0.8, "distinct_3": 0.9, "words_used": 100,
        "vocabulary_use": 0.5, "length": 100.0, "ended": 0.0,
    }  # fmt: skip
    return Statistics(**{**base, **changes})  # type: ignore[arg-type]


def test_distance_is_the_mean_of_absolute_log_ratios() -> None:
    human = some_statistics()
    assert distance(human, human) == 0
    assert distance(some_statistics(perplexity=40.0), human) == pytest.approx(math.log(2) / 6)
    assert distance(some_statistics(zipf=0.45, length=200.0), human) == pytest.approx(2 * math.log(2) / 6)
    # (49 + 1) / 100 against (0 + 1) / 100
    assert distance(some_statistics(repetition=0.5), human) == pytest.approx(math.log(50) / 6)


def test_distance_skips_statistics_that_a_side_lacks() -> None:
    human = some_statistics(zipf=None)
    assert distance(some_statistics(perplexity=40.0, self_bleu=None), human) == pytest.approx(math.log(2) / 4)


def texts_of(seed: int, count: int, words: int = 200) -> list[str]:
    source = random.Random(seed)
    return [
        " ".join(f"w{min(int(source.paretovariate(0.9)), words)}" for _ in range(source.randint(25, 35)))
        for _ in range(count)
    ]


def test_distances_separate_texts_of_different_kinds() -> None:
    human = measured(texts_of(0, 80))
    same, other = measured(texts_of(1, 80)), measured(texts_of(2, 80, words=4), 1.5)
    found = distances(human, {"same": same, "other": other})
    assert found.floor is not None
    assert found.floor.low <= found.floor.mean <= found.floor.high
    assert found.to_human["same"].mean == pytest.approx(distance(same.statistics(), human.statistics()))
    for interval in found.to_human.values():
        assert interval.low <= interval.mean <= interval.high
    assert found.to_human["same"].mean < found.floor.high < found.to_human["other"].low
    assert found.ties("same", "same")
    assert not found.ties("other", "same")
    again = distances(human, {"same": same, "other": other})
    assert again.to_human == found.to_human


def test_halves_are_compared_on_the_same_prefixes() -> None:
    human = measured(texts_of(0, 20))
    found = distances(human, {"copy": human})
    assert found.to_human["copy"] == Interval(0, 0, 0)
    assert not found.resampled["copy"].any()


def test_the_spread_of_half_samples_equals_that_of_a_bootstrap() -> None:
    """For the mean length, whose bootstrap is known in closed form."""
    random = np.random.default_rng(0)
    lengths = random.integers(50, 150, 400)
    generated = measured(["a" * length for length in lengths])
    means = []
    for _ in range(600):
        half = np.sort(random.permutation(400)[:200])
        means.append(generated.statistics(half).length)
    assert np.std(means) == pytest.approx(lengths.std() / math.sqrt(400), rel=0.12)


def test_too_few_texts_have_no_interval_and_tie() -> None:
    found = distances(measured(TEXTS[:3]), {"a": measured(TEXTS[:3]), "b": measured(["a", "b", "c"])})
    assert found.floor is None
    assert found.to_human["a"].mean == 0
    assert math.isnan(found.to_human["a"].low)
    assert found.ties("b", "a")


def test_each_statistic_without_enough_text_is_reported() -> None:
    few = sample_size_warnings(some_statistics(texts=60, words=7000))
    assert {warning.statistic for warning in few} == {"self-BLEU-4", "repetition", "MAUVE", "Zipf"}
    assert "MAUVE is unreliable: it needs about 500 texts (got 60)." in [warning.message for warning in few]
    assert set(reliable_statistics(some_statistics(texts=60, words=7000))) == {
        "perplexity",
        "distance",
        "distinct-n",
        "words used",
    }
    assert sample_size_warnings(some_statistics(texts=5000, words=500_000)) == []
