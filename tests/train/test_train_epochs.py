"""Averages per epoch equal the sums of all steps, with any logging interval and after a resume."""

import json
import math
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import InterruptedByTest, assert_same_bits, at_step, interrupt, tiny_recipe
from tiny_tasks import task_recipe
from torch import Tensor

from penna import api
from penna.report.epochs import EpochMetrics, epoch_metrics
from penna.runs.folder import RunFolder
from penna.storage import to_json
from penna.train import trainer as loop
from penna.train.events import Event, Started
from penna.train.objective import Objective, weighted_loss

# 93 rows: 12 steps an epoch. 5 divides neither that nor the 30 steps.
TWO_AND_A_HALF = {"train.steps": 30, "train.log_every": 5, "train.evaluate_every": "epoch", "train.checkpoint_every": 7,
                  "model.dropout": 0.1}  # fmt: skip
SELDOM = {"train.evaluate_every": 100, "train.checkpoint_every": 100}  # both end a row


class Summed:
    """The sums and counts of every step, recorded where the loss is computed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: list[tuple[dict[str, float], dict[str, int]]] = []

        def weigh(objective: Objective, sums: dict[str, Tensor], counts: dict[str, int]) -> Tensor:
            self.steps.append(({term: value.item() for term, value in sums.items()}, counts))
            return weighted_loss(objective, sums, counts)

        monkeypatch.setattr(loop, "weighted_loss", weigh)

    def on_event(self, event: Event) -> None:
        """Forget what was measured before the first step."""
        if isinstance(event, Started):
            self.steps.clear()

    def share(self, steps: slice, term: str, of: str) -> float:
        """A term over a count, in these steps."""
        taken = self.steps[steps]
        return sum(sums[term] for sums, _ in taken) / sum(counts[of] for _, counts in taken)


@pytest.fixture
def summed(monkeypatch: pytest.MonkeyPatch) -> Summed:
    return Summed(monkeypatch)


def evaluated(run: RunFolder) -> dict[int, float]:
    return {row["step"]: row["loss"] for row in run.metrics() if row["split"] == "valid"}


@pytest.mark.parametrize("log_every", [1, 5, 100])
def test_epoch_averages_do_not_depend_on_the_logging_interval(tmp_path: Path, summed: Summed, log_every: int) -> None:
    recipe = tiny_recipe(tmp_path, {**TWO_AND_A_HALF, "train.log_every": log_every})
    run, _ = api.train_recipe(recipe, name="run", runs_dir=tmp_path, on_event=summed.on_event)
    epochs = epoch_metrics(run.metrics())
    assert [(each.number, each.share, each.steps, each.whole, each.exact) for each in epochs] == [
        (1, 1.0, 12, True, True), (2, 1.0, 12, True, True), (3, 0.5, 6, False, True),
    ]  # fmt: skip
    for each, steps in zip(epochs, (slice(0, 12), slice(12, 24), slice(24, 30)), strict=True):
        assert each.train.loss == pytest.approx(summed.share(steps, "loss", "loss"), rel=1e-9)
        assert each.train.accuracy == pytest.approx(summed.share(steps, "correct", "loss"), rel=1e-9)
        nats_per_byte = summed.share(steps, "loss", "bytes")
        assert each.train.bits_per_byte == pytest.approx(nats_per_byte / math.log(2), rel=1e-9)
        assert each.train.perplexity == pytest.approx(math.exp(each.train.loss))
        assert each.tokens == sum(counts["loss"] for _, counts in summed.steps[steps])
        assert each.valid is not None
        assert each.valid.loss == evaluated(run)[steps.stop]


def test_rows_of_unequal_lengths_are_weighted_by_their_targets(tmp_path: Path, summed: Summed) -> None:
    fields = {"train.steps": 7, "train.log_every": 3, "train.batch_size": 4, **SELDOM}
    run, _ = api.train_recipe(task_recipe(tmp_path, "chat", fields), runs_dir=tmp_path, on_event=summed.on_event)
    epochs = epoch_metrics(run.metrics())  # 13 rows: 4 steps, the last of a single one
    rows = [row for row in run.metrics() if row["split"] == "train"]
    assert [row["step"] for row in rows] == [3, 4, 6, 7]
    wrong = (rows[0]["loss"] + rows[1]["loss"]) / 2
    assert epochs[0].train.loss == pytest.approx(summed.share(slice(0, 4), "loss", "loss"), rel=1e-9)
    assert abs(epochs[0].train.loss - wrong) > 1e-4
    assert [epoch.steps for epoch in epochs] == [4, 3]


@pytest.mark.parametrize("case", ["classify", "classify-label-alone"])
def test_classification_losses_are_averaged_over_texts_and_over_tokens(
    tmp_path: Path, summed: Summed, case: str
) -> None:
    fields = {"train.steps": 9, "train.log_every": 3, "train.batch_size": 4, **SELDOM}
    run, _ = api.train_recipe(task_recipe(tmp_path, case, fields), runs_dir=tmp_path, on_event=summed.on_event)
    first, second, third = epoch_metrics(run.metrics())
    for each, steps in ((first, slice(0, 4)), (second, slice(4, 8)), (third, slice(8, 9))):
        label = summed.share(steps, "label", "label")
        assert each.train.label_loss == pytest.approx(label, rel=1e-6)
        assert each.train.accuracy == pytest.approx(summed.share(steps, "correct", "label"))
        if case == "classify":
            lm = summed.share(steps, "lm", "lm")
            assert each.train.lm_loss == pytest.approx(lm, rel=1e-6)
            assert each.train.lm_accuracy == pytest.approx(summed.share(steps, "lm_correct", "lm"))
            assert each.train.loss == pytest.approx(label + 0.5 * lm, rel=1e-6)
            assert each.train.perplexity == pytest.approx(math.exp(lm), rel=1e-6)
        else:
            assert each.train.loss == each.train.label_loss
            assert each.train.lm_loss is each.train.lm_accuracy is each.train.perplexity is None
        assert each.tokens == sum(counts["tokens"] for _, counts in summed.steps[steps])
        assert each.exact
    assert first.valid is second.valid is None  # evaluated at the run's end alone
    assert third.valid is not None
    assert third.valid.macro_f1 is not None


def approximately(epoch: EpochMetrics) -> Any:
    """All but the minutes. Cut at other steps, the same sums are added up in another order."""
    return [None if value is None else pytest.approx(value, rel=1e-12) for value in flat(epoch)]


def flat(epoch: EpochMetrics) -> list[Any]:
    found = to_json(epoch)
    valid = [] if found["valid"] is None else found["valid"].values()
    return [*(found[name] for name in ("number", "share", "steps", "tokens")), *found["train"].values(), *valid]


@pytest.mark.parametrize(("how", "stop"), [("signal", 3), ("signal", 12), ("crash", 16), ("crash", 24)])  # 12 ends one
def test_a_resumed_run_has_the_epoch_averages_and_weights_of_an_uninterrupted_one(
    tmp_path: Path, stop: int, how: str
) -> None:
    recipe = tiny_recipe(tmp_path, {**TWO_AND_A_HALF, "train.log_every": 1 if stop in (3, 16) else 5})
    whole, _ = api.train_recipe(recipe, name="whole", runs_dir=tmp_path)
    if how == "signal":
        end: Callable[[], None] = lambda: os.kill(os.getpid(), signal.SIGTERM)  # noqa: E731
        api.train_recipe(recipe, name="cut", runs_dir=tmp_path, on_event=at_step(stop, end))
    else:
        with pytest.raises(InterruptedByTest):
            api.train_recipe(recipe, name="cut", runs_dir=tmp_path, on_event=at_step(stop, interrupt))
    cut, _ = api.resume("cut", runs_dir=tmp_path)
    assert_same_bits(whole, cut)
    found = epoch_metrics(cut.metrics())
    assert [flat(epoch) for epoch in found] == [approximately(epoch) for epoch in epoch_metrics(whole.metrics())]
    assert all(epoch.exact and epoch.minutes > 0 for epoch in found)
    assert sum(epoch.minutes for epoch in found) == pytest.approx(cut.metrics()[-1]["seconds"] / 60)


def test_a_run_of_an_older_version_resumes_and_reports_inexact_epochs(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, TWO_AND_A_HALF)
    whole, _ = api.train_recipe(recipe, name="whole", runs_dir=tmp_path)
    api.train_recipe(
        recipe, name="cut", runs_dir=tmp_path, on_event=at_step(10, lambda: os.kill(os.getpid(), signal.SIGTERM))
    )
    log = tmp_path / "cut" / "metrics.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    log.write_text("".join(json.dumps({k: v for k, v in row.items() if k != "due"}) + "\n" for row in rows))
    cut, _ = api.resume("cut", runs_dir=tmp_path)
    assert_same_bits(whole, cut)
    found, expected = epoch_metrics(cut.metrics()), epoch_metrics(whole.metrics())
    assert [epoch.exact for epoch in found] == [False, True, True]
    # The tokens of running text are its targets, so that their weights are the right ones.
    assert found[0].train.loss == pytest.approx(expected[0].train.loss, rel=1e-12)
    assert flat(found[1]) == approximately(expected[1])
