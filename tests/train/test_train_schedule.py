"""Schedules against torch's own schedulers and against their definitions."""

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from penna.config.training import (
    ConstantSchedule,
    CosineSchedule,
    LinearSchedule,
    MultiStepSchedule,
    ScheduleConfig,
    TrapezoidSchedule,
)
from penna.train.schedule import Horizon, learning_rate_factor, planned_horizon

STEPS, PER_EPOCH, BASE = 30, 7, 0.5


def ours(config: ScheduleConfig, steps: int = STEPS) -> list[float]:
    horizon = planned_horizon(config, steps)
    return [learning_rate_factor(config, step, horizon, PER_EPOCH) for step in range(steps)]


def torchs(make: Any) -> list[float]:
    """The factors of a scheduler of torch over STEPS steps."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=BASE)
    scheduler = make(optimizer)
    factors: list[float] = []
    for _ in range(STEPS):
        factors.append(scheduler.get_last_lr()[0] / BASE)
        optimizer.step()
        scheduler.step()
    return factors


scheduling = torch.optim.lr_scheduler
SAME: dict[str, tuple[ScheduleConfig, Any]] = {
    "constant": (ConstantSchedule(), lambda o: scheduling.LambdaLR(o, lambda _: 1.0)),
    "constant with warm-up": (
        ConstantSchedule(warmup_steps=5), lambda o: scheduling.LinearLR(o, 1 / 5, 1.0, total_iters=4)),
    "linear": (LinearSchedule(), lambda o: scheduling.LinearLR(o, 1.0, 0.0, total_iters=STEPS)),
    "linear to a tenth": (
        LinearSchedule(final_ratio=0.1), lambda o: scheduling.LinearLR(o, 1.0, 0.1, total_iters=STEPS)),
    "linear with warm-up": (LinearSchedule(warmup_steps=6), lambda o: scheduling.SequentialLR(o, [
        scheduling.LinearLR(o, 1 / 6, 1.0, total_iters=5), scheduling.LinearLR(o, 1.0, 0.0, total_iters=STEPS - 6)], [6])),
    "cosine": (CosineSchedule(), lambda o: scheduling.CosineAnnealingLR(o, STEPS)),
    "cosine to a tenth": (
        CosineSchedule(final_ratio=0.1), lambda o: scheduling.CosineAnnealingLR(o, STEPS, eta_min=0.1 * BASE)),
    "steps": (MultiStepSchedule(milestones=[3, 10, 11], factor=0.3),
              lambda o: scheduling.MultiStepLR(o, [3, 10, 11], gamma=0.3)),
    "every few steps": (MultiStepSchedule(every=4, factor=0.5), lambda o: scheduling.StepLR(o, 4, gamma=0.5)),
    "epochs": (MultiStepSchedule(milestones=[1, 3], unit="epoch", factor=0.3),
               lambda o: scheduling.MultiStepLR(o, [PER_EPOCH, 3 * PER_EPOCH], gamma=0.3)),
    "every epoch": (MultiStepSchedule(every=1, unit="epoch"), lambda o: scheduling.StepLR(o, PER_EPOCH, gamma=0.5)),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:The epoch parameter in:UserWarning")  # torch's own SequentialLR
@pytest.mark.parametrize(("config", "make"), SAME.values(), ids=SAME.keys())
def test_a_schedule_equals_torchs_scheduler_of_the_same_name(config: ScheduleConfig, make: Any) -> None:
    assert ours(config) == pytest.approx(torchs(make), abs=1e-9)


def test_a_trapezoid_is_flat_and_then_falls_to_zero_one_step_after_the_last() -> None:
    flat, falling = 18, 12  # the last 40 % of 30
    expected = [1.0] * flat + [1 - (1 - 0.1) * i / falling for i in range(falling)]
    assert ours(TrapezoidSchedule(decay_fraction=0.4, final_ratio=0.1)) == pytest.approx(expected)


def test_a_trapezoid_does_not_fall_during_warm_up() -> None:
    config = TrapezoidSchedule(warmup_steps=20, decay_fraction=0.9)
    assert planned_horizon(config, STEPS) == Horizon(20, 30)
    assert max(ours(config)) == ours(config)[19] == ours(config)[20] == 1.0


def test_the_rate_is_constant_until_the_clock_fixes_the_end() -> None:
    for config in (LinearSchedule(), CosineSchedule(), TrapezoidSchedule()):
        assert learning_rate_factor(config, 10_000, Horizon(None, None), PER_EPOCH) == 1.0


falling = st.one_of(
    st.builds(LinearSchedule, warmup_steps=st.integers(0, 40), final_ratio=st.floats(0, 1)),
    st.builds(CosineSchedule, warmup_steps=st.integers(0, 40), final_ratio=st.floats(0, 1)),
    st.builds(
        TrapezoidSchedule,
        warmup_steps=st.integers(0, 40),
        final_ratio=st.floats(0, 1),
        decay_fraction=st.floats(0.01, 1),
    ),
)
any_schedule = st.one_of(
    falling,
    st.builds(ConstantSchedule, warmup_steps=st.integers(0, 40)),
    st.builds(
        MultiStepSchedule,
        warmup_steps=st.integers(0, 40),
        every=st.integers(1, 9),
        unit=st.sampled_from(["step", "epoch"]),
        factor=st.floats(0.01, 0.99),
    ),
)


@given(any_schedule, st.integers(1, 200), st.integers(0, 300), st.integers(1, 50))
def test_the_factor_is_between_0_and_1(config: ScheduleConfig, steps: int, step: int, per_epoch: int) -> None:
    assert 0 <= learning_rate_factor(config, step, planned_horizon(config, steps), per_epoch) <= 1


@given(falling, st.integers(1, 200))
def test_decay_starts_at_1_and_is_continuous(config: ScheduleConfig, steps: int) -> None:
    horizon = planned_horizon(config, steps)
    assert horizon.decay_start is not None
    assert horizon.end == steps
    if horizon.decay_start >= config.warmup_steps:
        assert learning_rate_factor(config, horizon.decay_start, horizon, 1) == 1.0
    factors = [learning_rate_factor(config, step, horizon, 1) for step in range(horizon.decay_start, steps + 1)]
    widest = math.pi / 2 / max(1, steps - horizon.decay_start)  # the cosine's steepest slope
    for before, after in itertools.pairwise(factors):
        assert -1e-12 <= before - after <= widest + 1e-12


@given(falling, st.integers(50, 200))
def test_decay_reaches_its_final_share_one_step_after_the_last(config: Any, steps: int) -> None:
    horizon = planned_horizon(config, steps)
    assume(horizon.decay_start != steps)  # a hundredth of fifty steps is none
    assert learning_rate_factor(config, steps, horizon, 1) == pytest.approx(config.final_ratio)


@given(any_schedule.filter(lambda config: config.warmup_steps > 0))
def test_warm_up_rises_in_equal_steps_to_1(config: ScheduleConfig) -> None:
    horizon = planned_horizon(config, 100)
    rising = [learning_rate_factor(config, step, horizon, 1) for step in range(config.warmup_steps)]
    assert rising == pytest.approx([(i + 1) / config.warmup_steps for i in range(config.warmup_steps)])
