"""Schedules and budgets: the learning rate of each step, and the step at which a run ends.

The rate is a pure function of the step, the recipe and the ``Horizon``. A budget in steps, epochs or tokens fixes the
horizon before the first step. Under a budget in minutes, the clock decides it once the speed is known. Each decision is
recorded before it takes effect, and a resumed run follows the record.
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

_MEASURED_SHARE = 0.05  # the share of the minutes over which the speed is measured before a decay starts


@dataclass(frozen=True)
class Horizon:
    """The steps at which the decay of the learning rate starts and the run ends; None until the clock decides."""

    decay_start: int | None
    end: int | None


def planned_horizon(config: ScheduleConfig, steps: int) -> Horizon:
    """The horizon of a run of ``steps`` steps."""
    if isinstance(config, TrapezoidSchedule):
        return Horizon(max(config.warmup_steps, steps - round(config.decay_fraction * steps)), steps)
    return Horizon(min(config.warmup_steps, steps), steps)


def learning_rate_factor(config: ScheduleConfig, step: int, horizon: Horizon, steps_per_epoch: int) -> float:
    """The factor on the learning rate of the next step after ``step`` finished ones, between 0 and 1.

    Warm-up reaches 1 at step ``warmup_steps``; a decay would reach its final ratio one step after the last.
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
    share = min(1.0, (step - horizon.decay_start) / max(1, horizon.end - horizon.decay_start))
    if isinstance(config, CosineSchedule):
        share = (1 - math.cos(math.pi * share)) / 2
    return 1 - share * (1 - config.final_ratio)


def budget_in_steps(config: TrainConfig, rows: int, tokens: int) -> int | None:
    """The budget in steps, for epochs of ``rows`` rows and ``tokens`` tokens; None for a budget in minutes."""
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
    """The horizon of one run, and the decisions of the clock.

    ``steps`` is the budget in steps, None for minutes. ``decisions`` holds what the run recorded before, and ``record``
    writes new decisions.
    """

    def __init__(
        self,
        config: TrainConfig,
        schedule: ScheduleConfig,
        steps: int | None,
        decisions: dict[str, Any],
        record: Callable[[dict[str, int | float]], None],
    ) -> None:
        self._config, self._schedule, self._record = config, schedule, record
        if steps is not None:
            self.horizon = planned_horizon(schedule, steps)
        else:
            self.horizon = Horizon(decisions.get("decay_start"), decisions.get("end"))
        # The first step also compiles and allocates, so its time says nothing about the others.
        self._first_step: float | None = decisions.get("first_step_seconds")
        # The step at which the minutes were over. It ends the run, but leaves the decay as it is: steps that are
        # repeated after a kill must get the same rates.
        self._minutes_over: int | None = decisions.get("minutes_over")

    def update(self, step: int, seconds: float, overhead: float = 0.0) -> None:
        """Let the clock decide, after ``step`` steps and ``seconds`` of training; only minutes need it.

        ``overhead`` is the expected time of evaluations and samples, in seconds per step, beyond the speed so far.
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
            self._decide_horizon(step, seconds, overhead)

    def _decide_horizon(self, step: int, seconds: float, overhead: float) -> None:
        """Start the decay and set the end of the run, once the speed is known and it is time."""
        if self._first_step is None:
            self._first_step = seconds / step
            self._record({"first_step_seconds": self._first_step})
            return
        assert self._config.minutes is not None
        total, measured = self._config.minutes * 60, seconds - self._first_step
        decay_share = self._schedule.decay_fraction if isinstance(self._schedule, TrapezoidSchedule) else 1.0
        is_known = measured >= total * _MEASURED_SHARE and step >= self._schedule.warmup_steps
        if is_known and seconds >= total * (1 - decay_share):
            end = step + max(1, round((total - seconds) / (measured / (step - 1) + overhead)))
            self._record({"decay_start": step, "end": end})
            self.horizon = Horizon(step, end)

    def progress(self, step: int, seconds: float) -> float:
        """The share of the budget that is spent, between 0 and 1."""
        if self._config.minutes is not None:
            return min(1.0, seconds / (self._config.minutes * 60))
        assert self.horizon.end is not None
        return min(1.0, step / self.horizon.end)

    def is_over(self, step: int) -> bool:
        """Whether the run ends after ``step`` steps."""
        return any(end is not None and step >= end for end in (self.horizon.end, self._minutes_over))
