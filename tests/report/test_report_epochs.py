"""Metrics per epoch from log rows, including logs of older versions and logs with lost rows."""

import json
import math
from typing import Any

import pytest

from penna.report.epochs import epoch_metrics
from penna.storage import to_json

Row = dict[str, Any]


def train(step: int, epoch: float, tokens: int, loss: float, due: int | None = None, **more: Any) -> Row:
    row: Row = {"step": step, "epoch": epoch, "tokens": tokens, "seconds": 6.0 * step, "split": "train", "loss": loss,
           "accuracy": loss / 10, "bits_per_byte": 2 * loss, "learning_rate": 0.1, "tokens_per_second": 1.0}  # fmt: skip
    if due is not None:
        row["due"] = {"loss": due, "correct": due, "tokens": due, "bytes": due // 2}
    return {**row, **more}


def valid(step: int, epoch: float, loss: float, **more: Any) -> Row:
    return {"step": step, "epoch": epoch, "tokens": 0, "seconds": 6.0 * step, "split": "valid", "loss": loss,
            "accuracy": 0.5, "learning_rate": 0.1, **more}  # fmt: skip


def test_a_log_without_steps_has_no_epochs() -> None:
    assert epoch_metrics([]) == []
    assert epoch_metrics([valid(0, 0.0, 5.0)]) == []


def test_rows_are_weighted_by_targets() -> None:
    rows = [
        valid(0, 0.0, 9.0),
        train(4, 0.8, 30, 4.0, 30),
        train(5, 1.0, 40, 2.0, 10),
        valid(5, 1.0, 3.5),
        train(8, 1.6, 60, 1.0, 20),
        valid(8, 1.6, 3.0),
    ]
    one, two = epoch_metrics(rows)
    assert (one.number, one.steps, one.tokens, one.minutes, one.whole) == (1, 5, 40, 0.5, True)
    assert one.train.loss == pytest.approx((4 * 30 + 2 * 10) / 40)
    assert one.train.accuracy == pytest.approx((0.4 * 30 + 0.2 * 10) / 40)
    assert one.train.bits_per_byte == pytest.approx((8 * 15 + 4 * 5) / 20)
    assert one.valid is not None
    assert (one.valid.loss, one.valid.accuracy, one.valid.bits_per_byte) == (3.5, 0.5, None)
    assert (two.number, two.share, two.steps, two.tokens) == (2, pytest.approx(0.6), 3, 20)
    assert (two.minutes, two.whole, two.train.loss) == (pytest.approx(0.3), False, 1.0)
    assert two.valid is not None
    assert two.valid.loss == 3.0
    assert one.exact
    assert two.exact


def test_an_epoch_without_an_evaluation_at_its_end_has_no_validation_metrics() -> None:
    rows = [train(4, 0.8, 40, 4.0, 40), valid(4, 0.8, 3.0), train(5, 1.0, 50, 2.0, 10), train(6, 1.2, 60, 2.0, 10)]
    assert [epoch.valid for epoch in epoch_metrics(rows)] == [None, None]


def test_an_old_row_across_the_end_of_an_epoch_is_split_by_steps_and_not_exact() -> None:
    # Five steps an epoch of ten tokens each; rows of four steps.
    across = [train(8, 1.6, 80, 2.0), valid(8, 1.6, 9.0)]
    rows = [train(4, 0.8, 40, 4.0), *across, train(10, 2.0, 100, 1.0), valid(10, 2.0, 1.5)]
    one, two = epoch_metrics(rows)
    assert (one.steps, one.tokens, one.minutes) == (5, 50, pytest.approx(0.5))
    assert one.train.loss == pytest.approx((4 * 40 + 2 * 10) / 50)
    assert one.whole
    assert one.valid is None
    assert (two.steps, two.tokens, two.minutes) == (5, 50, pytest.approx(0.5))
    assert two.train.loss == pytest.approx((2 * 30 + 1 * 20) / 50)
    assert two.train.bits_per_byte == pytest.approx((4 * 30 + 2 * 20) / 50)
    assert two.valid is not None
    assert two.valid.loss == 1.5
    assert not one.exact
    assert not two.exact


def test_split_steps_and_tokens_are_integers() -> None:
    # Twelve steps per epoch; the epoch is logged with six digits.
    rows = [train(step, round(step / 12, 6), 10 * step, 1.0) for step in range(5, 41, 5)]
    found = epoch_metrics(rows)
    assert [(epoch.steps, epoch.tokens) for epoch in found] == [(12, 120), (12, 120), (12, 120), (4, 40)]


def test_an_old_row_may_span_several_epochs() -> None:
    one, two, three = epoch_metrics([train(10, 2.5, 100, 3.0)])  # four steps an epoch
    assert [epoch.tokens for epoch in (one, two, three)] == [40, 40, 20]
    assert [epoch.whole for epoch in (one, two, three)] == [True, True, False]
    assert [epoch.train.loss for epoch in (one, two, three)] == [pytest.approx(3.0)] * 3


def test_an_epoch_with_old_and_new_rows_is_weighted_by_tokens() -> None:
    parts: Row = {"label_loss": 1.0, "lm_loss": 2.0, "lm_accuracy": 0.1}
    new = {
        **train(2, 1.0, 100, 4.0, **parts),
        "label_loss": 3.0,
        "due": {"label": 1, "lm": 900, "tokens": 40, "bytes": 1},
    }
    (epoch,) = epoch_metrics([train(1, 0.5, 60, 2.0, **parts), new])
    assert epoch.train.label_loss == pytest.approx(0.6 * 1 + 0.4 * 3)
    assert not epoch.exact


def test_lost_rows_are_noticed_and_do_not_affect_other_epochs() -> None:
    whole = [train(step, step / 5, 10 * step, float(step), due=10) for step in range(1, 11)]
    one, two = epoch_metrics(whole[:3] + whole[6:])  # the end of one epoch and the start of the next
    assert (one.steps, one.tokens, one.whole, one.exact) == (3, 30, False, True)
    assert one.train.loss == pytest.approx(2.0)
    assert (two.steps, two.whole, two.exact) == (5, True, False)
    assert two.train.loss == pytest.approx(8.5)  # of steps 7 to 10


def test_an_epoch_may_have_more_steps_than_digits() -> None:
    (epoch,) = epoch_metrics([train(1, 0.0, 10, 4.0, 10), train(2, 0.0, 20, 2.0, 10), train(3, 1e-6, 30, 3.0, 10)])
    assert (epoch.steps, epoch.tokens, epoch.train.loss, epoch.exact) == (3, 30, pytest.approx(3.0), True)


def test_json_has_every_metric_and_no_infinity() -> None:
    (epoch,) = epoch_metrics([train(5, 1.0, 50, 1000.0, 50), valid(5, 1.0, 2.0)])
    assert epoch.train.perplexity == math.inf
    content = json.loads(json.dumps(to_json(epoch), allow_nan=False))
    assert content["train"]["perplexity"] is None
    assert content["valid"]["perplexity"] == pytest.approx(math.e**2)
    assert (content["number"], content["whole"], content["exact"], content["train"]["loss"]) == (1, True, True, 1000.0)
