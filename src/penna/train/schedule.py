"""Schedules: which share of the highest learning rate a step gets.

A pure function of the step, the section of the recipe, and the ``Horizon``: the step where the rate begins to fall and
the step where the run ends. Under a budget in minutes the clock sets the horizon; under any other it is known from the
start.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from penna.config.training import (
    ConstantSchedule,
    CosineSchedule,
    MultiStepSchedule,
    ScheduleConfig,
    TrainConfig,
    TrapezoidSchedule,
)


@dataclass(frozen=True)
class Horizon:
    """Where the rate begins to fall and where the run ends, in steps; None while the clock has not decided."""

    decay_start: int | None
    end: int | None


def planned_horizon(config: ScheduleConfig, steps: int) -> Horizon:
    """The horizon of a run of ``steps`` steps."""
    if isinstance(config, TrapezoidSchedule):
        return Horizon(max(config.warmup_steps, steps - round(config.decay_fraction * steps)), steps)
    return Horizon(min(config.warmup_steps, steps), steps)


def learning_rate_factor(config: ScheduleConfig, step: int, horizon: Horizon, steps_per_epoch: int) -> float:
    """The factor on the learning rate of the step after ``step`` finished ones, between 0 and 1.

    Warm-up reaches 1 at step ``warmup_steps``; a falling rate would reach its final share one step after the last.
    """
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    if isinstance(config, ConstantSchedule):
        return 1.0
    if isinstance(config, MultiStepSchedule):
        unit = steps_per_epoch if config.unit == "epoch" else 1
        if config.every is not None:
            passed = step // (config.every * unit)
        else:
            passed = sum(step >= milestone * unit for milestone in config.milestones)
        return config.factor**passed
    if horizon.decay_start is None or horizon.end is None or step < horizon.decay_start:
        return 1.0
    done = min(1.0, (step - horizon.decay_start) / max(1, horizon.end - horizon.decay_start))
    if isinstance(config, CosineSchedule):
        done = (1 - math.cos(math.pi * done)) / 2
    return 1 - done * (1 - config.final_ratio)


# MERGED train.budget: Budgets: when a run's learning rate begins to fall, and when it ends.
#
# Steps, epochs and tokens are known as a number of steps before the first one. Minutes are known only to the clock:
# it
# measures the rate of steps, decides once where the fall begins and where the run will end, and may end it earlier if
# the machine slows down. Each decision is recorded before it takes effect, and a resumed run obeys what was recorded.


# A rate that falls from the start needs the pace of steps first: it is measured over this share of the minutes.
_MEASURED_SHARE = 0.05


def budget_in_steps(config: TrainConfig, rows: int, tokens: int) -> int | None:
    """How many steps a budget is, for an epoch of ``rows`` rows and ``tokens`` tokens; None for minutes."""
    per_step = config.batch_size * config.accumulation
    steps_per_epoch = -(-rows // per_step)
    if config.steps is not None:
        return config.steps
    if config.epochs is not None:
        return max(1, math.ceil(round(config.epochs * steps_per_epoch, 6)))  # 2.2 * 25 is 55.00000000000001
    if config.tokens is not None:
        return -(-config.tokens * steps_per_epoch // tokens)
    return None


class Budget:
    """The horizon of one run, and the clock's decisions about it."""

    def __init__(
        self,
        config: TrainConfig,
        schedule: ScheduleConfig,
        steps: int | None,
        decided: dict[str, Any],
        record: Callable[[dict[str, int | float]], None],
    ) -> None:
        self._config, self._schedule, self._record = config, schedule, record
        if steps is not None:
            self.horizon = planned_horizon(schedule, steps)
        else:
            self.horizon = Horizon(decided.get("decay_start"), decided.get("end"))
        # What the first step took tells nothing of the others: it also compiles.
        self._first_step: float | None = decided.get("first_step_seconds")
        # The step at which the minutes were over. It ends the run, but not the fall: steps that are repeated after a
        # kill must get the rates they had.
        self._minutes_over: int | None = decided.get("minutes_over")

    def update(self, step: int, seconds: float, overhead: float = 0.0) -> None:
        """Let the clock decide after ``step`` steps and ``seconds`` of training, where the budget is minutes.

        ``looking`` is what evaluations and samples will cost, in seconds per step, beyond the pace so far.
        """
        if self._config.minutes is None:
            return
        total = self._config.minutes * 60
        if self.is_over(step) or self._minutes_over is not None:
            return
        if seconds >= total:
            self._record({"minutes_over": step})
            self._minutes_over = step
        elif self.horizon.end is None and not isinstance(self._schedule, ConstantSchedule | MultiStepSchedule):
            self._plan(step, seconds, overhead)

    def _plan(self, step: int, seconds: float, looking: float) -> None:
        """Decide where the rate begins to fall and where the run ends, once the pace of steps is known."""
        if self._first_step is None:
            self._first_step = seconds / step
            self._record({"first_step_seconds": self._first_step})
            return
        assert self._config.minutes is not None
        total, measured = self._config.minutes * 60, seconds - self._first_step
        fall = self._schedule.decay_fraction if isinstance(self._schedule, TrapezoidSchedule) else 1.0
        is_known = measured >= total * _MEASURED_SHARE and step >= self._schedule.warmup_steps
        if is_known and seconds >= total * (1 - fall):
            end = step + max(1, round((total - seconds) / (measured / (step - 1) + looking)))
            self._record({"decay_start": step, "end": end})
            self.horizon = Horizon(step, end)

    def progress(self, step: int, seconds: float) -> float:
        """The share of the run that is done, between 0 and 1."""
        if self._config.minutes is not None:
            return min(1.0, seconds / (self._config.minutes * 60))
        assert self.horizon.end is not None
        return min(1.0, step / self.horizon.end)

    def is_over(self, step: int) -> bool:
        """Whether the run ends after ``step`` steps."""
        return any(end is not None and step >= end for end in (self.horizon.end, self._minutes_over))
