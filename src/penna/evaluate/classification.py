"""Classification metrics from true classes and predicted probabilities.

The predicted class is the most probable one, the first if several are equally probable. An undefined metric is None,
never 0: the precision of a class that was never predicted, the recall of a class without texts, and both and the F1 of
a class that has neither. Macro F1 is the mean over classes that have texts or predictions. Where a metric is defined,
it equals scikit-learn's.

The expected calibration error follows Guo et al. 2017 ("On calibration of modern neural networks", equation 3):
predictions are binned by confidence, the probability of the predicted class, into 15 bins of equal width, each
including its upper edge. The error is the mean distance between a bin's accuracy and its mean confidence, weighted by
its size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penna.errors import DataError

BINS = 15
WORST = 20  # mistakes kept
_SUM_TOLERANCE = 0.01  # how far a row of probabilities may sum from 1: bfloat16 has two to three digits


@dataclass(frozen=True)
class CalibrationBin:
    """The predictions with a confidence above ``low`` and up to ``high``."""

    low: float
    high: float
    count: int
    confidence: float | None  # mean; None in an empty bin
    accuracy: float | None  # None in an empty bin


@dataclass(frozen=True)
class ClassMetrics:
    """Metrics of one class."""

    name: str
    support: int  # texts of this class
    predicted: int  # texts it was predicted for
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class Mistake:
    """A wrongly classified text."""

    number: int  # of the text, from 0
    true: str
    predicted: str
    confidence: float  # probability of the predicted class
    true_probability: float
    text: str | None
    place: str | None  # "file:line"


@dataclass(frozen=True)
class SubsetMetrics:
    """Metrics on some of the texts, for example on those that are not in the training data."""

    name: str
    count: int
    accuracy: float | None  # None if the subset is empty
    macro_f1: float | None  # None if the subset is empty


@dataclass(frozen=True)
class ClassificationMetrics:
    """Metrics of a classifier on a labeled set."""

    count: int
    accuracy: float
    majority: float  # accuracy of always predicting the most frequent class of these texts
    macro_f1: float
    log_loss: float  # nats per text; a probability of 0 counts as the epsilon of its number format
    calibration_error: float
    classes: tuple[ClassMetrics, ...]
    confusion: tuple[tuple[int, ...], ...]  # [true][predicted], texts
    reliability: tuple[CalibrationBin, ...]
    parts: tuple[SubsetMetrics, ...]
    worst: tuple[Mistake, ...]  # the most confident mistakes, the worst first
    bad_records: int = 0  # skipped while reading


def measure_classification(
    true: NDArray[Any],
    probabilities: NDArray[Any],
    names: Sequence[str] | None = None,
    *,
    texts: Sequence[str] | None = None,
    places: Sequence[str] | None = None,
    parts: Mapping[str, NDArray[np.bool_]] | None = None,
    worst: int = WORST,
) -> ClassificationMetrics:
    """Metrics from true classes (N,), integers from 0, and probabilities (N, K).

    ``names`` of the K classes default to their numbers. ``texts`` and ``places`` (N each) are kept with the mistakes.
    Each of ``parts`` is a mask (N,) that selects a subset. Raises DataError if shapes do not match, a class is out of
    range or a row of probabilities does not sum to 1.
    """
    true, probabilities = np.asarray(true), np.asarray(probabilities)
    _check_arrays(true, probabilities)
    count, classes = probabilities.shape
    names = tuple(map(str, range(classes) if names is None else names))
    for what, given, expected in (("names", names, classes), ("texts", texts, count), ("places", places, count)):
        if given is not None and len(given) != expected:
            raise DataError(
                f"There are {len(given)} {what} for {count} texts and {classes} classes.",
                f"Expected {expected} {what}.",
                "Check that labels, probabilities, names and texts come from the same data.",
            )
    predicted = probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1).astype(np.float64)
    correct = predicted == true
    confusion = _confusion(true, predicted, classes)
    bins = reliability_bins(confidence, correct)
    metrics = _class_metrics(confusion, names)
    true_probability = probabilities[np.arange(count), true]
    wrong = np.flatnonzero(~correct)
    worst_first = wrong[np.argsort(-confidence[wrong], kind="stable")][:worst]
    return ClassificationMetrics(
        count=count,
        accuracy=float(correct.mean()),
        majority=float(confusion.sum(axis=1).max() / count),
        macro_f1=_macro_f1(metrics),
        log_loss=_log_loss(true_probability),
        calibration_error=expected_calibration_error(bins),
        classes=metrics,
        confusion=tuple(map(tuple, confusion.tolist())),
        reliability=bins,
        parts=tuple(_subset_metrics(name, mask, true, predicted, names) for name, mask in (parts or {}).items()),
        worst=tuple(
            Mistake(
                number=at,
                true=names[true[at]],
                predicted=names[predicted[at]],
                confidence=float(confidence[at]),
                true_probability=float(true_probability[at]),
                text=None if texts is None else texts[at],
                place=None if places is None else places[at],
            )
            for at in map(int, worst_first)
        ),
    )


def reliability_bins(confidence: NDArray[np.float64], correct: NDArray[np.bool_]) -> tuple[CalibrationBin, ...]:
    """The calibration bins of N predictions. A confidence that rounding lifted above 1 goes into the last bin."""
    edges = np.linspace(0.0, 1.0, BINS + 1)
    bins = np.searchsorted(edges[1:-1], confidence, side="left")  # (N,) 0 … BINS - 1
    counts = np.bincount(bins, minlength=BINS)
    confidences = np.bincount(bins, weights=confidence, minlength=BINS)
    hits = np.bincount(bins, weights=correct, minlength=BINS)
    return tuple(
        CalibrationBin(
            low=float(edges[at]),
            high=float(edges[at + 1]),
            count=int(counts[at]),
            confidence=float(confidences[at] / counts[at]) if counts[at] else None,
            accuracy=float(hits[at] / counts[at]) if counts[at] else None,
        )
        for at in range(BINS)
    )


def expected_calibration_error(bins: tuple[CalibrationBin, ...]) -> float:
    """The mean distance between accuracy and confidence, from 0 to 1."""
    gaps = sum(
        abs(each.accuracy - each.confidence) * each.count
        for each in bins
        if each.accuracy is not None and each.confidence is not None
    )
    return gaps / max(sum(each.count for each in bins), 1)


def _check_arrays(true: NDArray[Any], probabilities: NDArray[Any]) -> None:
    if true.ndim != 1 or probabilities.ndim != 2 or len(true) != len(probabilities) or not probabilities.size:
        raise DataError(
            f"True classes of shape {true.shape} do not match probabilities of shape {probabilities.shape}.",
            "Expected shapes (N,) and (N, K) with at least one text and one class.",
            "Pass one class and K probabilities for each text.",
        )
    classes = probabilities.shape[1]
    if not np.issubdtype(true.dtype, np.integer) or true.min() < 0 or true.max() >= classes:
        outside = true if not np.issubdtype(true.dtype, np.integer) else true[(true < 0) | (true >= classes)]
        raise DataError(
            f"{outside[0]} is not a class ({true.dtype}).",
            f"Expected integers from 0 to {classes - 1}.",
            "Number the classes.",
        )
    # A comparison with NaN is false, so NaN is refused too.
    good = (probabilities >= 0).all(axis=1)
    good &= np.abs(probabilities.sum(axis=1, dtype=np.float64) - 1) <= _SUM_TOLERANCE
    if not good.all():
        at = int(np.flatnonzero(~good)[0])
        raise DataError(
            f"Row {at} of the probabilities is not a distribution: {probabilities[at].tolist()[:10]}.",
            "Expected numbers from 0 to 1 that sum to 1.",
            "Apply softmax to the scores first.",
        )


def _confusion(true: NDArray[Any], predicted: NDArray[Any], classes: int) -> NDArray[np.int64]:
    """The number of texts of each true class (row) per predicted class (column)."""
    pairs = true.astype(np.int64) * classes + predicted
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def _class_metrics(confusion: NDArray[np.int64], names: Sequence[str]) -> tuple[ClassMetrics, ...]:
    metrics: list[ClassMetrics] = []
    for at, name in enumerate(names):
        hits, support, predicted = int(confusion[at, at]), int(confusion[at].sum()), int(confusion[:, at].sum())
        metrics.append(
            ClassMetrics(
                name=name,
                support=support,
                predicted=predicted,
                precision=hits / predicted if predicted else None,
                recall=hits / support if support else None,
                f1=2 * hits / (support + predicted) if support + predicted else None,
            )
        )
    return tuple(metrics)


def _macro_f1(classes: Sequence[ClassMetrics]) -> float:
    known = [each.f1 for each in classes if each.f1 is not None]
    return sum(known) / len(known)


def _log_loss(true_probability: NDArray[Any]) -> float:
    """The mean of -log p, with p at least the epsilon of its format so that one certain mistake is not infinite."""
    dtype = true_probability.dtype if np.issubdtype(true_probability.dtype, np.floating) else np.dtype(np.float64)
    clipped = np.clip(true_probability.astype(np.float64), float(np.finfo(dtype).eps), 1.0)
    return float(-np.log(clipped).mean())


def _subset_metrics(
    name: str, mask: NDArray[np.bool_], true: NDArray[Any], predicted: NDArray[Any], names: Sequence[str]
) -> SubsetMetrics:
    if mask.shape != true.shape or mask.dtype != np.bool_:
        raise DataError(
            f"The mask of the part “{name}” has shape {mask.shape} and dtype {mask.dtype}.",
            f"Expected one boolean for each of the {len(true)} texts.",
            "Use a comparison that gives one result per text, such as whether it is in the training data.",
        )
    count = int(mask.sum())
    if not count:
        return SubsetMetrics(name, 0, None, None)
    metrics = _class_metrics(_confusion(true[mask], predicted[mask], len(names)), names)
    return SubsetMetrics(name, count, float((true == predicted)[mask].mean()), _macro_f1(metrics))
