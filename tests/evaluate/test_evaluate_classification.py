"""Classification metrics equal scikit-learn's, and the calibration error equals a direct computation."""

import json
import math
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penna.errors import DataError
from penna.evaluate.classification import BINS, ClassificationMetrics, measure_classification
from penna.storage import to_json

sklearn_metrics = pytest.importorskip("sklearn.sklearn_metrics")


@st.composite
def predictions(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """True classes and probabilities; with few texts and several classes, so that some classes are often missing."""
    count, classes = draw(st.integers(1, 40)), draw(st.integers(2, 6))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    probabilities = random.dirichlet(np.full(classes, draw(st.sampled_from([0.05, 0.5, 5.0]))), count)
    return random.integers(0, classes, count), probabilities.astype(draw(st.sampled_from(["float64", "float32"])))


@given(predictions())
@settings(max_examples=25, deadline=None)
def test_accuracy_precision_recall_f1_and_log_loss_equal_scikit_learn(case: Any) -> None:
    true, probabilities = case
    classes = list(range(probabilities.shape[1]))
    predicted = probabilities.argmax(axis=1)
    metrics = measure_classification(true, probabilities)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns about undefined metrics
        precision, recall, f1, support = sklearn_metrics.precision_recall_fscore_support(
            true, predicted, labels=classes, zero_division=math.nan
        )
        assert metrics.macro_f1 == pytest.approx(
            sklearn_metrics.f1_score(true, predicted, average="macro", zero_division=0)
        )
        # scikit-learn subtracts in float32 and loses digits next to 1.
        wide = probabilities.clip(np.finfo(probabilities.dtype).eps).astype("float64")
        assert metrics.log_loss == pytest.approx(
            sklearn_metrics.log_loss(true, wide, labels=classes), rel=1e-5, abs=1e-6
        )
    assert metrics.accuracy == pytest.approx(sklearn_metrics.accuracy_score(true, predicted))
    assert metrics.confusion == tuple(
        map(tuple, sklearn_metrics.confusion_matrix(true, predicted, labels=classes).tolist())
    )
    for at, each in enumerate(metrics.classes):
        assert each.support == support[at] == (true == at).sum()
        assert each.predicted == (predicted == at).sum()
        for own, reference in ((each.precision, precision[at]), (each.recall, recall[at])):
            assert (own is None and math.isnan(reference)) or own == pytest.approx(reference)
        if each.support + each.predicted:
            assert each.f1 == pytest.approx(0.0 if math.isnan(f1[at]) else f1[at])
        else:
            assert each.f1 is None


def calibration_error_by_definition(true: np.ndarray, probabilities: np.ndarray) -> float:
    """Equation 3 of Guo et al. 2017, text by text."""
    error = 0.0
    for number in range(BINS):
        low, high = number / BINS, (number + 1) / BINS
        inside = [
            (float(max(row)), int(np.argmax(row)) == right)
            for row, right in zip(probabilities, true, strict=True)
            if low < float(max(row)) <= high
        ]
        if inside:
            confidence = sum(sure for sure, _ in inside) / len(inside)
            accuracy = sum(right for _, right in inside) / len(inside)
            error += len(inside) / len(true) * abs(accuracy - confidence)
    return error


@given(predictions())
@settings(max_examples=50, deadline=None)
def test_the_calibration_error_equals_its_definition_and_every_text_is_in_a_bin(case: Any) -> None:
    true, probabilities = case
    metrics = measure_classification(true, probabilities)
    assert metrics.calibration_error == pytest.approx(calibration_error_by_definition(true, probabilities))
    assert sum(each.count for each in metrics.reliability) == len(true)
    assert all((each.accuracy is None) == (each.count == 0) for each in metrics.reliability)


def test_a_bin_includes_its_upper_edge_only() -> None:
    edge = float(np.linspace(0, 1, BINS + 1)[10])
    metrics = measure_classification(np.array([0, 0]), np.array([[edge, 1 - edge], [edge + 1e-9, 1 - edge - 1e-9]]))
    assert [each.count for each in metrics.reliability][9:11] == [1, 1]


def test_a_classifier_that_is_always_certain_and_half_right_has_a_calibration_error_of_half() -> None:
    probabilities = np.array([[1.0, 0.0]] * 4)
    metrics = measure_classification(np.array([0, 1, 0, 1]), probabilities)
    assert metrics.calibration_error == 0.5
    assert metrics.reliability[-1].count == 4
    # A probability of 0 costs -log of the format's epsilon, as in scikit-learn.
    assert metrics.log_loss == pytest.approx(-math.log(np.finfo(np.float64).eps) / 2)


@pytest.fixture
def five() -> ClassificationMetrics:
    probabilities = np.array([[0.9, 0.1, 0.0], [0.8, 0.2, 0.0], [0.3, 0.7, 0.0], [0.05, 0.95, 0.0], [0.6, 0.4, 0.0]])
    seen = np.array([True, True, True, False, False])
    return measure_classification(
        np.array([0, 1, 0, 0, 0]),
        probabilities,
        ["no", "yes", "never"],
        texts=["a", "b", "c", "d", "e"],
        places=[f"reviews.tsv:{line}" for line in range(2, 7)],
        parts={"seen": seen, "unseen": ~seen, "none": np.zeros(5, dtype=bool)},
        worst=2,
    )


def test_the_worst_mistakes_are_the_most_confident_ones(
    five: ClassificationMetrics,
) -> None:
    first, second = five.worst
    assert (first.number, first.true, first.predicted, first.text, first.place) == (
        3,
        "no",
        "yes",
        "d",
        "reviews.tsv:5",
    )
    assert (first.confidence, first.true_probability) == (0.95, 0.05)
    assert (second.text, second.predicted, second.confidence) == ("b", "no", 0.8)


def test_a_part_is_measured_on_its_own_texts(five: ClassificationMetrics) -> None:
    seen, unseen, none = five.parts
    assert (seen.count, seen.accuracy) == (3, pytest.approx(1 / 3))
    assert (unseen.count, unseen.accuracy) == (2, 0.5)
    assert unseen.macro_f1 == pytest.approx((2 / 3 + 0) / 2)
    assert (none.count, none.accuracy, none.macro_f1) == (0, None, None)


def test_an_absent_class_has_no_metrics_and_does_not_count_in_the_macro_f1(five: ClassificationMetrics) -> None:
    no, yes, never = five.classes
    assert (never.precision, never.recall, never.f1, never.support, never.predicted) == (None, None, None, 0, 0)
    assert no.f1 is not None and yes.f1 is not None
    assert five.macro_f1 == pytest.approx((no.f1 + yes.f1) / 2)
    assert five.majority == 0.8


def test_the_json_contains_all_metrics(five: ClassificationMetrics) -> None:
    read = json.loads(json.dumps(to_json(five), allow_nan=False))
    assert read["confusion"] == [[2, 2, 0], [1, 0, 0], [0, 0, 0]]
    assert read["accuracy"] == 0.4
    assert read["worst"][0]["place"] == "reviews.tsv:5"
    assert read["parts"][1] == {"name": "unseen", "count": 2, "accuracy": 0.5, "macro_f1": pytest.approx(1 / 3)}


HALVES = np.array([[0.5, 0.5], [0.5, 0.5]])


@pytest.mark.parametrize(
    ("true", "probabilities", "options", "message"),
    [
        ([0], HALVES, {}, "(1,)"),
        ([], np.zeros((0, 2)), {}, "(0,)"),
        ([0, 2], HALVES, {}, "2 is not a class"),
        ([0, -1], HALVES, {}, "-1 is not a class"),
        ([0.0, 1.0], HALVES, {}, "float64"),
        ([0, 1], HALVES * 3, {}, "Row 0"),
        ([0, 1], np.array([[0.5, 0.5], [1.5, -0.5]]), {}, "Row 1"),
        ([0, 1], np.array([[0.5, 0.5], [math.nan, 1.0]]), {}, "Row 1"),
        ([0, 1], HALVES, {"names": ["one"]}, "1 names"),
        ([0, 1], HALVES, {"texts": ["one"]}, "1 texts"),
        ([0, 1], HALVES, {"parts": {"seen": np.array([0, 1])}}, "“seen”"),
    ],
)
def test_invalid_input_is_refused_and_named(
    true: list[Any], probabilities: np.ndarray, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError) as raised:
        measure_classification(np.array(true), probabilities, **options)
    assert message in raised.value.happened
    assert raised.value.expected and raised.value.advice
