"""How well texts were classified: true classes and predicted probabilities in, one result out.

The predicted class is the likeliest one, the first of equally likely ones. What cannot be said is None, never 0 by
definition: the precision of a class that was never predicted, the recall of a class that no text has, both and the F1
of a class that is in neither. Macro F1 is the mean over the classes that texts have or were predicted, so a class that
is only a name does not pull it down. Wherever these are defined they are scikit-learn's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penna.errors import DataError

# MERGED evaluate.calibration: Whether a classifier's probabilities can be believed: how sure it was and whether it
# was right in, gaps by bin out.
#
# The expected calibration error is that of Guo et al. 2017 ("On calibration of modern neural networks", equation
# 3): the
# predictions are put by their confidence, the probability of the predicted class, into 15 bins of equal width, each
# without its lower edge and with its upper one; per bin, the share of right predictions is held against the mean
# confidence; the error is the mean distance between the two, each bin weighing as much as it has predictions.


BINS = 15


@dataclass(frozen=True)
class CalibrationBin:
    """The predictions with a confidence above ``low`` and up to ``high``."""

    low: float
    high: float
    count: int
    confidence: float | None  # mean; None in an empty bin, as the accuracy
    accuracy: float | None


def reliability_bins(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> tuple[CalibrationBin, ...]:
    """The bins of N predictions; a confidence above 1 by rounding belongs to the last one."""
    edges = np.linspace(0.0, 1.0, BINS + 1)
    places = np.searchsorted(edges[1:-1], confidence, side="left")  # (N,) 0 … BINS - 1
    counts = np.bincount(places, minlength=BINS)
    confidences = np.bincount(places, weights=confidence, minlength=BINS)
    rights = np.bincount(places, weights=right, minlength=BINS)
    return tuple(
        CalibrationBin(
            low=float(edges[at]),
            high=float(edges[at + 1]),
            count=int(counts[at]),
            confidence=float(confidences[at] / counts[at]) if counts[at] else None,
            accuracy=float(rights[at] / counts[at]) if counts[at] else None,
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


_SUM_MAY_BE_OFF = 0.01  # of a row of probabilities, from 1: bfloat16 has two to three digits
WORST = 20  # mistakes kept


@dataclass(frozen=True)
class ClassMetrics:
    """One class."""

    name: str
    support: int  # texts that have it
    predicted: int  # texts it was predicted for
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class Mistake:
    """A text that was put into a wrong class."""

    number: int  # of the text, the first being 0
    true: str
    predicted: str
    confidence: float  # probability of the predicted class
    true_probability: float
    text: str | None
    place: str | None  # where it stands, such as "file:line"


@dataclass(frozen=True)
class SubsetMetrics:
    """Figures on some of the texts alone, such as those that do not occur in the training data as well."""

    name: str
    count: int
    accuracy: float | None  # None where it has no text, as the macro F1
    macro_f1: float | None


@dataclass(frozen=True)
class ClassificationMetrics:
    """What can be said of a classifier on a labelled set."""

    count: int
    accuracy: float
    majority: float  # accuracy of always saying the class that most of these texts have
    macro_f1: float
    log_loss: float  # nats per text; a probability of 0 is taken for the smallest step of its number format
    calibration_error: float
    classes: tuple[ClassMetrics, ...]
    confusion: tuple[tuple[int, ...], ...]  # [true][predicted], texts
    reliability: tuple[CalibrationBin, ...]
    parts: tuple[SubsetMetrics, ...]
    worst: tuple[Mistake, ...]  # the most confident mistakes, the worst first
    bad_records: int = 0  # left out where the texts were read

    def as_json(self) -> dict[str, Any]:
        """A dictionary for JSON."""
        return asdict(self)


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
    """Figures from true classes (N,), integers from 0, and probabilities (N, K).

    ``names`` of the K classes are their numbers where none are given. ``texts`` and ``places`` (N each) are shown with
    the mistakes; each of ``parts`` is a mask (N,) of the texts it is made of. Raises DataError where the arrays do not
    go together or are no classes and probabilities.
    """
    true, probabilities = np.asarray(true), np.asarray(probabilities)
    _check(true, probabilities)
    count, classes = probabilities.shape
    names = tuple(map(str, range(classes) if names is None else names))
    for what, given, expected in (("names", names, classes), ("texts", texts, count), ("places", places, count)):
        if given is not None and len(given) != expected:
            raise DataError(
                f"There are {len(given)} {what} for {count} texts and {classes} classes.",
                f"{expected} {what}.",
                "Check that labels, probabilities, names and texts come from the same data.",
            )
    predicted = probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = predicted == true
    confusion = _confusion(true, predicted, classes)
    bins = reliability_bins(confidence, right)
    figures = _class_figures(confusion, names)
    of_true = probabilities[np.arange(count), true]
    wrong = np.flatnonzero(~right)
    worst_first = wrong[np.argsort(-confidence[wrong], kind="stable")][:worst]
    return ClassificationMetrics(
        count=count,
        accuracy=float(right.mean()),
        majority=float(confusion.sum(axis=1).max() / count),
        macro_f1=_macro_f1(figures),
        log_loss=_log_loss(of_true),
        calibration_error=expected_calibration_error(bins),
        classes=figures,
        confusion=tuple(map(tuple, confusion.tolist())),
        reliability=bins,
        parts=tuple(_part(name, mask, true, predicted, names) for name, mask in (parts or {}).items()),
        worst=tuple(
            Mistake(
                number=at,
                true=names[true[at]],
                predicted=names[predicted[at]],
                confidence=float(confidence[at]),
                true_probability=float(of_true[at]),
                text=None if texts is None else texts[at],
                place=None if places is None else places[at],
            )
            for at in map(int, worst_first)
        ),
    )


def _check(true: NDArray[Any], probabilities: NDArray[Any]) -> None:
    if true.ndim != 1 or probabilities.ndim != 2 or len(true) != len(probabilities) or not probabilities.size:
        raise DataError(
            f"True classes of shape {true.shape} and probabilities of shape {probabilities.shape} do not go together.",
            "Shapes (N,) and (N, K) with at least one text and one class.",
            "Give each text one class and K probabilities.",
        )
    classes = probabilities.shape[1]
    if not np.issubdtype(true.dtype, np.integer) or true.min() < 0 or true.max() >= classes:
        outside = true if not np.issubdtype(true.dtype, np.integer) else true[(true < 0) | (true >= classes)]
        raise DataError(
            f"{outside[0]} is no class ({true.dtype}).", f"An integer from 0 to {classes - 1}.", "Number the classes."
        )
    # A comparison with NaN is false, so NaN is refused too.
    good = (probabilities >= 0).all(axis=1)
    good &= np.abs(probabilities.sum(axis=1, dtype=np.float64) - 1) <= _SUM_MAY_BE_OFF
    if not good.all():
        at = int(np.flatnonzero(~good)[0])
        raise DataError(
            f"Row {at} of the probabilities is no distribution: {probabilities[at].tolist()[:10]}.",
            "Numbers from 0 to 1 that add up to 1.",
            "Take the softmax of the scores first.",
        )


def _confusion(true: NDArray[Any], predicted: NDArray[Any], classes: int) -> NDArray[np.int64]:
    """How many texts of each true class (row) each class was predicted for (column)."""
    pairs = true.astype(np.int64) * classes + predicted
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def _class_figures(confusion: NDArray[np.int64], names: Sequence[str]) -> tuple[ClassMetrics, ...]:
    figures: list[ClassMetrics] = []
    for at, name in enumerate(names):
        hits, support, predicted = int(confusion[at, at]), int(confusion[at].sum()), int(confusion[:, at].sum())
        figures.append(
            ClassMetrics(
                name=name,
                support=support,
                predicted=predicted,
                precision=hits / predicted if predicted else None,
                recall=hits / support if support else None,
                f1=2 * hits / (support + predicted) if support + predicted else None,
            )
        )
    return tuple(figures)


def _macro_f1(classes: Sequence[ClassMetrics]) -> float:
    known = [each.f1 for each in classes if each.f1 is not None]
    return sum(known) / len(known)


def _log_loss(of_true: NDArray[Any]) -> float:
    """The mean of -log p; p is at least the epsilon of its format, so that one certain mistake is not infinite."""
    kind = of_true.dtype if np.issubdtype(of_true.dtype, np.floating) else np.dtype(np.float64)
    clipped = np.clip(of_true.astype(np.float64), float(np.finfo(kind).eps), 1.0)
    return float(-np.log(clipped).mean())


def _part(
    name: str, mask: NDArray[np.bool_], true: NDArray[Any], predicted: NDArray[Any], names: Sequence[str]
) -> SubsetMetrics:
    if mask.shape != true.shape or mask.dtype != np.bool_:
        raise DataError(
            f"The part “{name}” is given by an array of shape {mask.shape} ({mask.dtype}).",
            f"One truth value for each of the {len(true)} texts.",
            "Compare something of each text, such as whether it occurs in the training data.",
        )
    count = int(mask.sum())
    if not count:
        return SubsetMetrics(name, 0, None, None)
    figures = _class_figures(_confusion(true[mask], predicted[mask], len(names)), names)
    return SubsetMetrics(name, count, float((true == predicted)[mask].mean()), _macro_f1(figures))
