"""Whether scores tell the truth: words are taken out in the order a method gives them, and the answer is asked again.

For each text come in a probe, its words (units) and each method's score of each; out come comprehensiveness, how much
of the target's probability goes with the k % of words scored highest, and sufficiency, how much is missing where they
alone are left (DeYoung et al. 2020, "ERASER", section 4.2). Over several k their mean is the area over the perturbation
curve, AOPC. A good order takes much and misses little: high comprehensiveness, low sufficiency. The floor is the mean
of several random orders of the same text. To take a word out is to delete its tokens and to read the rest anew; tokens
that are not asked about stay. Shapes: N texts, K shares.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penna.errors import DataError
from penna.explain.explanation import Method
from penna.explain.probe import Probe
from penna.tokenizer.words import Word

SHARES = (5, 10, 20, 50)  # % of the words, rounded up
RANDOM_ORDERS = 10
RESAMPLES = 1000

_Ids = tuple[int, ...]


@dataclass(frozen=True)
class Curves:
    """What is lost of the target's probability, for each of `SHARES`."""

    comprehensiveness: tuple[float, ...]  # with the words scored highest gone
    sufficiency: tuple[float, ...]  # with them alone left


@dataclass(frozen=True)
class TextFaithfulness:
    """The methods on one text."""

    probability: float  # of the target, with all words there
    words: int
    methods: dict[Method, Curves]  # "random" among them


@dataclass(frozen=True)
class Mean:
    """A mean over texts, and between what the middle 95 % of its bootstrap resamples lie."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Measure:
    """Comprehensiveness, or sufficiency, of one method over texts."""

    aopc: Mean
    shares: tuple[float, ...]  # the mean for each of `SHARES`
    lead: Mean  # AOPC less that of the random orders, text by text


@dataclass(frozen=True)
class MethodMetrics:
    """How faithful a method is."""

    comprehensiveness: Measure
    sufficiency: Measure


@dataclass(frozen=True)
class FaithfulnessMetrics:
    """The methods side by side on the same texts."""

    texts: int
    words: float  # of a text, on average
    probability: float  # of the target, on average
    methods: dict[Method, MethodMetrics]

    def as_json(self) -> dict[str, Any]:
        """A dictionary for JSON."""
        return {**asdict(self), "percent_of_words": list(SHARES), "random_orders": RANDOM_ORDERS}


def measure_text(
    probe: Probe, words: Sequence[Word], scores: Mapping[Method, Sequence[float]], *, seed: int | Sequence[int] = 0
) -> TextFaithfulness:
    """The curves of each method's scores, one for each word, and of random orders drawn from ``seed``.

    Words lie within the question's features, their tokens counted as in its ids. Of words with the same score the
    earlier counts as the higher. Raises DataError for a single word, of which nothing would be left.
    """
    if len(words) < 2:
        raise DataError(
            "There is only one word to take out, or none.",
            "A text of two words or more: one is taken, and another is left.",
            "Leave such texts out, or make them longer.",
        )
    for method, values in scores.items():
        if len(values) != len(words):
            raise ValueError(f"{method} scores {len(values)} of {len(words)} words")
    features = probe.question.features
    if any(word.start < features.start or word.end > features.stop for word in words):
        raise ValueError("a word reaches beyond the tokens that are asked about")
    random = np.random.default_rng(seed)
    orders: dict[Method, list[NDArray[np.int64]]] = {
        method: [np.argsort(-np.asarray(values), kind="stable")] for method, values in scores.items()
    }
    orders["random"] = [random.permutation(len(words)) for _ in range(RANDOM_ORDERS)]
    without = {method: [_rows(probe, words, order, keep=False) for order in own] for method, own in orders.items()}
    alone = {method: [_rows(probe, words, order, keep=True) for order in own] for method, own in orders.items()}
    ids = probe.question.ids
    asked = {ids} | {row for found in (without, alone) for own in found.values() for rows in own for row in rows}
    probabilities = _probabilities(probe, asked)

    def curve(own: Sequence[Sequence[_Ids]]) -> tuple[float, ...]:
        lost = [[probabilities[ids] - probabilities[row] for row in rows] for rows in own]
        return tuple(np.mean(lost, axis=0).tolist())

    methods: dict[Method, Curves] = {method: Curves(curve(without[method]), curve(alone[method])) for method in orders}
    return TextFaithfulness(probabilities[ids], len(words), methods)


def summarize_faithfulness(texts: Sequence[TextFaithfulness], *, seed: int = 0) -> FaithfulnessMetrics:
    """Means over texts on which the same methods were measured, with bootstrap intervals drawn from ``seed``.

    The lead over the random orders is resampled text by text (a paired bootstrap: Koehn 2004). Raises DataError where
    there is no text.
    """
    if not texts:
        raise DataError(
            "There is no text to measure on.",
            "Texts of two words or more.",
            "Give a file with more or longer texts.",
        )
    methods = tuple(texts[0].methods)
    if any(text.methods.keys() != texts[0].methods.keys() for text in texts):
        raise ValueError("not every text was measured with the same methods")
    draws = np.random.default_rng(seed).integers(0, len(texts), (RESAMPLES, len(texts)))

    def measure(method: Method, name: str) -> Measure:
        curves, floor = (
            np.array([getattr(text.methods[which], name) for text in texts]) for which in (method, "random")
        )  # (N, K) both
        aopc = curves.mean(axis=1)
        lead = _mean(aopc - floor.mean(axis=1), draws)
        return Measure(_mean(aopc, draws), tuple(curves.mean(axis=0).tolist()), lead)

    return FaithfulnessMetrics(
        texts=len(texts),
        words=float(np.mean([text.words for text in texts])),
        probability=float(np.mean([text.probability for text in texts])),
        methods={
            method: MethodMetrics(measure(method, "comprehensiveness"), measure(method, "sufficiency"))
            for method in methods
        },
    )


def _rows(probe: Probe, words: Sequence[Word], order: NDArray[np.int64], *, keep: bool) -> list[_Ids]:
    """For each of `SHARES` the ids without the first so many words of an order, or with them alone."""
    rows: list[_Ids] = []
    for share in SHARES:
        count = -(-share * len(words) // 100)
        taken = order[count:] if keep else order[:count]
        gone = {place for word in taken for place in range(words[word].start, words[word].end)}
        rows.append(tuple(index for place, index in enumerate(probe.question.ids) if place not in gone))
    return rows


def _probabilities(probe: Probe, asked: set[_Ids]) -> dict[_Ids, float]:
    """Of the target behind each of the rows, those of one length read together."""
    by_length: defaultdict[int, list[_Ids]] = defaultdict(list)
    for row in sorted(asked):
        by_length[len(row)].append(row)
    found: dict[_Ids, float] = {}
    for rows in by_length.values():
        found |= zip(rows, probe.values_and_probabilities(rows)[1].tolist(), strict=True)
    return found


def _mean(values: NDArray[np.float64], draws: NDArray[np.int64]) -> Mean:
    low, high = np.percentile(values[draws].mean(axis=1), (2.5, 97.5))
    return Mean(float(values.mean()), float(low), float(high))
