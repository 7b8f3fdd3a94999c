"""Faithfulness of attributions: how the answer's probability changes as high-scoring words are removed.

DeYoung et al. 2020 ("ERASER", section 4.2): comprehensiveness is the drop of the target's probability when the k % of
words with the highest scores are removed, sufficiency the drop when only they remain. The mean over several k is the
area over the perturbation curve, AOPC. Good attributions have high comprehensiveness and low sufficiency. The baseline
is the mean of several random orders of the same text. Removing a word deletes its tokens, and the rest is read again;
tokens outside of the question stay. Shapes: N texts, K shares.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
    """The drop of the target's probability for each of `SHARES`."""

    comprehensiveness: tuple[float, ...]  # without the words that have the highest scores
    sufficiency: tuple[float, ...]  # with only these words


@dataclass(frozen=True)
class TextFaithfulness:
    """The curves of each method on one text."""

    probability: float  # of the target, with all words
    words: int
    methods: dict[Method, Curves]  # including "random"


@dataclass(frozen=True)
class Mean:
    """A mean over texts, and the bounds of the middle 95 % of its bootstrap resamples."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Measure:
    """Comprehensiveness or sufficiency of one method over texts."""

    aopc: Mean
    shares: tuple[float, ...]  # the mean for each of `SHARES`
    lead: Mean  # AOPC minus that of the random orders, text by text


@dataclass(frozen=True)
class MethodMetrics:
    """How faithful a method is."""

    comprehensiveness: Measure
    sufficiency: Measure


@dataclass(frozen=True)
class FaithfulnessMetrics:
    """The faithfulness of several methods on the same texts."""

    texts: int
    words: float  # per text, mean
    probability: float  # of the target, mean
    methods: dict[Method, MethodMetrics]
    percent_of_words: tuple[int, ...] = SHARES
    random_orders: int = RANDOM_ORDERS


def measure_text(
    probe: Probe, words: Sequence[Word], scores: Mapping[Method, Sequence[float]], *, seed: int | Sequence[int] = 0
) -> TextFaithfulness:
    """The curves of each method's scores, one for each word, and of random orders drawn from ``seed``.

    Words are within the question's features; their token numbers are those of its ids. Of equal scores the earlier word
    counts as higher. Raises DataError with fewer than two words, because nothing would be left.
    """
    if len(words) < 2:
        raise DataError(
            f"The text has {len(words)} word{'' if len(words) == 1 else 's'} that could be removed.",
            "At least two are needed: one is removed and another remains.",
            "Use a longer text.",
        )
    for method, values in scores.items():
        if len(values) != len(words):
            raise ValueError(f"{method} scores {len(values)} of {len(words)} words")
    features = probe.question.features
    if any(word.start < features.start or word.end > features.stop for word in words):
        raise ValueError("a word is outside of the explained tokens")
    random = np.random.default_rng(seed)
    orders: dict[Method, list[NDArray[np.int64]]] = {
        method: [np.argsort(-np.asarray(values), kind="stable")] for method, values in scores.items()
    }
    orders["random"] = [random.permutation(len(words)) for _ in range(RANDOM_ORDERS)]
    removed = {method: [_rows(probe, words, order, keep=False) for order in own] for method, own in orders.items()}
    kept = {method: [_rows(probe, words, order, keep=True) for order in own] for method, own in orders.items()}
    ids = probe.question.ids
    rows = {ids} | {row for found in (removed, kept) for own in found.values() for rows in own for row in rows}
    probabilities = _probabilities(probe, rows)

    def curve(own: Sequence[Sequence[_Ids]]) -> tuple[float, ...]:
        drops = [[probabilities[ids] - probabilities[row] for row in rows] for rows in own]
        return tuple(np.mean(drops, axis=0).tolist())

    methods: dict[Method, Curves] = {method: Curves(curve(removed[method]), curve(kept[method])) for method in orders}
    return TextFaithfulness(probabilities[ids], len(words), methods)


def summarize_faithfulness(texts: Sequence[TextFaithfulness], *, seed: int = 0) -> FaithfulnessMetrics:
    """Means over texts that were measured with the same methods, with bootstrap intervals drawn from ``seed``.

    The lead over the random orders is resampled text by text (a paired bootstrap: Koehn 2004). Raises DataError without
    texts.
    """
    if not texts:
        raise DataError(
            "No text can be measured.",
            "Expected texts of at least two words.",
            "Use a file with more or longer texts.",
        )
    methods = tuple(texts[0].methods)
    if any(text.methods.keys() != texts[0].methods.keys() for text in texts):
        raise ValueError("not every text was measured with the same methods")
    draws = np.random.default_rng(seed).integers(0, len(texts), (RESAMPLES, len(texts)))

    def measure(method: Method, name: str) -> Measure:
        curves, baseline = (
            np.array([getattr(text.methods[which], name) for text in texts]) for which in (method, "random")
        )  # (N, K) both
        aopc = curves.mean(axis=1)
        lead = _mean(aopc - baseline.mean(axis=1), draws)
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
    """For each of `SHARES`, the ids without the first words of an order, or with only them."""
    rows: list[_Ids] = []
    for share in SHARES:
        count = -(-share * len(words) // 100)
        removed_words = order[count:] if keep else order[:count]
        removed = {at for word in removed_words for at in range(words[word].start, words[word].end)}
        rows.append(tuple(index for at, index in enumerate(probe.question.ids) if at not in removed))
    return rows


def _probabilities(probe: Probe, rows: set[_Ids]) -> dict[_Ids, float]:
    """The target's probability after each row; rows of equal length are batched."""
    by_length: defaultdict[int, list[_Ids]] = defaultdict(list)
    for row in sorted(rows):
        by_length[len(row)].append(row)
    found: dict[_Ids, float] = {}
    for batch in by_length.values():
        found |= zip(batch, probe.values_and_probabilities(batch)[1].tolist(), strict=True)
    return found


def _mean(values: NDArray[np.float64], draws: NDArray[np.int64]) -> Mean:
    low, high = np.percentile(values[draws].mean(axis=1), (2.5, 97.5))
    return Mean(float(values.mean()), float(low), float(high))
