"""Budgets in steps, epochs, tokens and minutes, and the decisions of the clock."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import InterruptedByTest, assert_same_bits, at_step, interrupt, losses, tiny_recipe

from penna import api
from penna.config.training import (
    ConstantSchedule,
    CosineSchedule,
    LinearSchedule,
    MultiStepSchedule,
    ScheduleConfig,
    TrainConfig,
    TrapezoidSchedule,
)
from penna.train.schedule import Budget, budget_in_steps, learning_rate_factor
from penna.train.trainer import Trainer

# --- Steps, epochs, tokens


@pytest.mark.parametrize(("fields", "expected"), [
    ({"steps": 7}, 7),
    ({"epochs": 1}, 10),  # 73 rows, 8 a step
    ({"epochs": 1, "accumulation": 2}, 5),
    ({"epochs": 3}, 30),
    ({"epochs": 1.1}, 11),
    ({"epochs": 2.2, "batch_size": 3}, 55),  # 2.2 * 25 is 55.00000000000001
    ({"epochs": 1.15}, 12),
    ({"epochs": 0.001}, 1),
    ({"tokens": 1160}, 10),  # the epoch's tokens
    ({"tokens": 1161}, 11),
    ({"tokens": 3480}, 30),
    ({"tokens": 1}, 1),
    ({"minutes": 1}, None),
])  # fmt: skip
def test_budget_in_steps(fields: dict[str, Any], expected: int | None) -> None:
    assert budget_in_steps(TrainConfig(**{"batch_size": 8, **fields}), rows=73, tokens=1160) == expected


def test_a_budget_in_epochs_trains_on_every_token_that_often(tmp_path: Path) -> None:
    run, _ = api.train_recipe(tiny_recipe(tmp_path, {"train.epochs": 2}), name="run", runs_dir=tmp_path)
    last = run.metrics()[-1]
    assert last["epoch"] == 2.0
    assert last["tokens"] == 2 * run.info()["data"]["train_tokens"]


@pytest.mark.parametrize("tokens", [1, 128, 129, 1000, 1480, 1600, 4000])
def test_a_budget_in_tokens_is_reached_and_exceeded_by_less_than_a_step(tmp_path: Path, tokens: int) -> None:
    run, _ = api.train_recipe(tiny_recipe(tmp_path, {"train.tokens": tokens}), name="run", runs_dir=tmp_path)
    seen = [row["tokens"] for row in run.metrics() if row["split"] == "train"]
    assert seen[-1] >= tokens
    assert seen[-1] - tokens < 2 * 128


# --- Minutes, by a clock that the test turns

TOTAL = 600.0  # seconds


class SimulatedRun:
    """A run under a budget of ten minutes whose steps take a given time."""

    def __init__(self, schedule: ScheduleConfig, decided: dict[str, Any] | None = None) -> None:
        self.schedule = schedule
        self.recorded: dict[str, float] = dict(decided or {})
        self.rates: list[float] = []
        self.records: list[dict[str, float]] = []
        self.budget = Budget(TrainConfig(minutes=TOTAL / 60), schedule, None, dict(self.recorded), self._record)
        self.seconds = 0.0
        self.step = 0

    def _record(self, decisions: dict[str, float]) -> None:
        assert not self.budget.is_over(self.step)  # neither is in effect before it is recorded
        assert "end" not in decisions or self.budget.horizon.end is None
        assert all(decisions.values())
        self.records.append(decisions)
        self.recorded.update(decisions)

    def go(self, seconds_of: Callable[[int], float], until: int = 100_000) -> "SimulatedRun":
        while not self.budget.is_over(self.step) and self.step < until:
            self.rates.append(learning_rate_factor(self.schedule, self.step, self.budget.horizon, 100))
            self.seconds += seconds_of(self.step)
            self.step += 1
            self.budget.update(self.step, self.seconds)
        return self


FALLING = [LinearSchedule(), CosineSchedule(), TrapezoidSchedule(), LinearSchedule(warmup_steps=50)]
EVERY = [*FALLING, ConstantSchedule(), MultiStepSchedule(every=100)]
kinds = [f"{schedule.kind} {schedule.warmup_steps}" for schedule in EVERY]


@pytest.mark.parametrize("schedule", EVERY, ids=kinds)
@pytest.mark.parametrize("pace", [0.1, 1.0, 7.3])
def test_a_steady_machine_uses_its_minutes_and_at_most_one_step_more(schedule: ScheduleConfig, pace: float) -> None:
    ride = SimulatedRun(schedule).go(lambda _: pace)
    assert TOTAL - 2 * pace <= ride.seconds < TOTAL + pace
    assert ride.budget.progress(ride.step, ride.seconds) == pytest.approx(1, abs=2 * pace / TOTAL)


@pytest.mark.parametrize("schedule", FALLING, ids=kinds[: len(FALLING)])
def test_the_decay_is_decided_once_and_ends_with_the_run(schedule: ScheduleConfig) -> None:
    ride = SimulatedRun(schedule).go(lambda _: 1.0)
    decided = [record for record in ride.records if "decay_start" in record]
    assert len(decided) == 1
    share = schedule.decay_fraction if isinstance(schedule, TrapezoidSchedule) else 1.0
    begins = max(0.05, 1 - share) * TOTAL
    assert decided[0]["decay_start"] == pytest.approx(max(begins, schedule.warmup_steps), abs=1)
    decay_start = decided[0]["decay_start"]
    assert isinstance(decay_start, int)
    assert ride.rates[decay_start] == 1.0
    assert ride.rates[-1] < 0.01


@pytest.mark.parametrize("schedule", FALLING, ids=kinds[: len(FALLING)])
def test_a_machine_that_slows_down_ends_at_the_limit(schedule: ScheduleConfig) -> None:
    ride = SimulatedRun(schedule).go(lambda step: 1.0 if step < 400 else 5.0)
    assert TOTAL <= ride.seconds < TOTAL + 5
    assert ride.step < ride.recorded["end"]
    assert ride.recorded["minutes_over"] == ride.step


@pytest.mark.parametrize("schedule", FALLING, ids=kinds[: len(FALLING)])
def test_a_machine_that_speeds_up_ends_with_the_decay(schedule: ScheduleConfig) -> None:
    ride = SimulatedRun(schedule).go(lambda step: 1.0 if step < 400 else 0.5)
    assert ride.step == ride.recorded["end"]
    assert ride.seconds < TOTAL


def test_the_horizon_includes_future_evaluations() -> None:
    """Steps take 1 s; one of 50 s after every hundredth, which the pace of the first 30 does not show."""
    records: list[dict[str, float]] = []
    budget = Budget(TrainConfig(minutes=TOTAL / 60), LinearSchedule(), None, {}, records.append)
    budget.update(1, 1.0, overhead=50 / 100)
    budget.update(31, 31.0, overhead=50 / 100)
    assert records == [{"first_step_seconds": 1.0}, {"decay_start": 31, "end": 31 + 379}]  # 569 s at 1.5 s a step


@pytest.mark.parametrize("schedule", FALLING, ids=kinds[: len(FALLING)])
def test_slow_first_steps_do_not_end_the_run_early(schedule: ScheduleConfig) -> None:
    ride = SimulatedRun(schedule).go(lambda step: 60.0 if step == 0 else 1.0)
    assert TOTAL - 2 <= ride.seconds < TOTAL + 1


def test_a_constant_rate_needs_only_the_end() -> None:
    ride = SimulatedRun(ConstantSchedule()).go(lambda _: 1.0)
    assert ride.records == [{"minutes_over": 600}]


def test_warm_up_longer_than_the_minutes_ends_with_them() -> None:
    ride = SimulatedRun(LinearSchedule(warmup_steps=10_000)).go(lambda _: 1.0)
    assert ride.step == 600
    assert ride.rates[-1] == pytest.approx(600 / 10_000)


@pytest.mark.parametrize("schedule", EVERY, ids=kinds)
@pytest.mark.parametrize("slow", [1.0, 5.0])
@pytest.mark.parametrize("resume_at", [0, 20, 430])
def test_recorded_decisions_are_repeated_at_any_speed(schedule: ScheduleConfig, slow: float, resume_at: int) -> None:
    """A run is killed after its last step and resumed from an earlier one on a machine of another speed.

    A slower machine may end the run earlier only if the minutes were over in the first run: they are a limit.
    """
    first = SimulatedRun(schedule).go(lambda step: 1.0 if step < 400 else slow)
    for pace in (0.2, 1.0, 1.2) if "minutes_over" in first.recorded else (0.2, 1.0):
        again = SimulatedRun(schedule, first.recorded)
        again.step, again.seconds = resume_at, float(resume_at)
        again.go(lambda _, pace=pace: pace)
        assert again.step == first.step
        assert again.rates == first.rates[resume_at:]
        assert again.records == []


# --- Minutes in the trainer


@pytest.fixture
def turned_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[int], float]], None]:
    """turned_clock(seconds_of) sets the time that each step takes; nothing else takes any time."""
    hand = [0.0]
    monkeypatch.setattr("penna.train.trainer.time.perf_counter", lambda: hand[0])

    def turn(seconds_of: Callable[[int], float]) -> None:
        real = Trainer._training_seconds

        def clock(self: Trainer) -> float:
            hand[0] += seconds_of(self.progress.step)
            return real(self)

        monkeypatch.setattr(Trainer, "_training_seconds", clock)

    return turn


MINUTE = {"train.minutes": 0.5, "train.checkpoint_every": 4, "train.evaluate_every": 8, "model.dropout": 0.1}


@pytest.mark.parametrize("kind", ["linear", "trapezoid", "constant"])
@pytest.mark.parametrize("stop", [1, 11, 25, 30])
@pytest.mark.parametrize("how", ["signal", "crash"])
def test_run_under_minutes_is_bit_identical_when_resumed(
    tmp_path: Path, turned_clock: Callable[[Callable[[int], float]], None], kind: str, stop: int, how: str
) -> None:
    turned_clock(lambda step: 1.0 if step < 20 else 1.25)  # slows down: the limit comes before the planned end
    recipe = tiny_recipe(tmp_path, {**MINUTE, "schedule.kind": kind})
    whole, end = api.train_recipe(recipe, name="whole", runs_dir=tmp_path)
    assert end.step == 28
    crash_at = min(stop, 28)
    if how == "signal":
        act = at_step(crash_at, lambda: os.kill(os.getpid(), signal.SIGTERM))
        api.train_recipe(recipe, name="cut", runs_dir=tmp_path, on_event=act)
    else:
        with pytest.raises(InterruptedByTest):
            api.train_recipe(recipe, name="cut", runs_dir=tmp_path, on_event=at_step(crash_at, interrupt))
    cut, end = api.resume("cut", runs_dir=tmp_path)
    assert end.step == 28
    assert_same_bits(whole, cut)
    assert losses(cut, "valid") == losses(whole, "valid")
    assert cut.decisions() == whole.decisions()


def test_seconds_continue_after_a_resume(
    tmp_path: Path, turned_clock: Callable[[Callable[[int], float]], None]
) -> None:
    turned_clock(lambda _: 2.0)
    recipe = tiny_recipe(tmp_path, {"train.steps": 6})

    def terminate() -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    run, _ = api.train_recipe(recipe, name="run", runs_dir=tmp_path, on_event=at_step(2, terminate))
    api.resume("run", runs_dir=tmp_path, on_event=at_step(4, terminate))
    api.resume("run", runs_dir=tmp_path)
    seconds = {row["step"]: row["seconds"] for row in run.metrics()}
    assert seconds == {step: 2.0 * step for step in range(7)}
