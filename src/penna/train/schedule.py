"""Schedules: which share of the highest learning rate a step gets.

A pure function of the step, the section of the recipe, and the ``Horizon``: the step where the rate begins to fall and
the step where the run ends. Under a budget in minutes the clock sets the horizon; under any other it is known from the
start.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from penna.config.training import (
    ConstantSchedule,
    CosineSchedule,
    MultiStepSchedule,
    ScheduleConfig,
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


def multiplier(config: ScheduleConfig, step: int, horizon: Horizon, steps_per_epoch: int) -> float:
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
