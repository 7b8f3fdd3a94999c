"""Estimates of an experiment: the steps, time and disk space of each run, measured on this machine.

Each distinct model and batch is trained for a few steps by the trainer itself, on the recipe's own text, in a temporary
folder. Text that is not prepared yet is prepared, and stays in the cache.
"""

from __future__ import annotations

import heapq
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import torch

from penna.api.experiment import ExperimentPlan, checkpoint_bytes
from penna.api.experiment_runner import threads_per_run
from penna.api.train import prepare_recipe, with_vocab_size
from penna.config.experiment_plan import RunPlan
from penna.config.schema import Recipe
from penna.data.cache import Progress
from penna.model.gpt import count_parameters
from penna.model.seq2seq import build_model
from penna.runs.folder import RunFolder, new_run
from penna.tokenizer.tokenizer import Tokenizer
from penna.train.device import resolve_device
from penna.train.distributed import ProcessGroup
from penna.train.events import Evaluated, Event, Logged, Sampled, Saved, Started
from penna.train.schedule import budget_in_steps
from penna.train.task import TrainingBatches
from penna.train.trainer import Trainer

_MAX_STEPS, _MAX_SECONDS = 12, 20.0  # of a measurement; at least two steps
_IRRELEVANT = frozenset({  # fields of [train] that do not change the time of a step
    "seed", "steps", "epochs", "tokens", "minutes", "evaluate_every", "patience", "log_every", "checkpoint_every",
    "keep_checkpoints", "init_from", "sample_every",
})  # fmt: skip


@dataclass(frozen=True)
class Timing:
    """The measurements of one model and batch, in seconds."""

    parameters: int
    rows: int  # in an epoch
    tokens: int  # in an epoch
    load_data: float  # to find the prepared data
    setup: float  # to measure how to execute the model
    step: float
    evaluation: float  # with its samples
    checkpoint: float


@dataclass(frozen=True)
class RunEstimate:
    """The estimate of one run."""

    name: str
    steps: int
    seconds: float
    disk: int  # bytes of the checkpoints that it keeps


@dataclass(frozen=True)
class Estimate:
    """The estimate of an experiment."""

    runs: list[RunEstimate]
    seconds: float  # from start to end, with this number of workers
    workers: int

    @property
    def disk(self) -> int:
        """The bytes of all checkpoints that are kept."""
        return sum(run.disk for run in self.runs)


def estimate_experiment(plan: ExperimentPlan, *, workers: int = 1, report: Progress = lambda _: None) -> Estimate:
    """Estimate a plan by measuring its models. Raises the errors that training would raise about its data."""
    timings: dict[str, tuple[Timing, Tokenizer]] = {}
    by_arm: dict[str, tuple[Timing, Tokenizer]] = {}
    arm_of_run = {run.name: run.arm for run in plan.runs}
    threads_before = torch.get_num_threads()
    try:
        for run in plan.runs:
            if run.arm in by_arm:
                continue
            recipe = plan.recipes[run.arm]
            borrowed = next((by_arm[arm_of_run[name]][1] for name in run.references.values()), None)
            key = _timing_key(recipe, borrowed)
            if key not in timings:
                report(f"Measuring {run.arm}")
                timings[key] = _measure(recipe, borrowed, threads_per_run(workers), report)
            by_arm[run.arm] = timings[key]
    finally:
        torch.set_num_threads(threads_before)
    startup = _startup_seconds()
    runs = [_estimate(run.name, plan.recipes[run.arm], by_arm[run.arm][0], startup) for run in plan.runs]
    return Estimate(runs, total_seconds(plan.runs, {run.name: run.seconds for run in runs}, workers), workers)


def _timing_key(recipe: Recipe, tokenizer: Tokenizer | None) -> str:
    """Everything that a timing depends on. ``tokenizer`` is one borrowed from another run."""
    relevant = recipe.model_copy(update={"train": recipe.train.model_copy(update=dict.fromkeys(_IRRELEVANT))})
    excluded = {"description", "schedule", "optim", *(["tokenizer"] if tokenizer else [])}
    fingerprint = None if tokenizer is None else tokenizer.fingerprint()
    return repr((recipe.optim.kind, fingerprint, relevant.model_dump(mode="json", exclude=excluded)))


class _MeasuredError(Exception):
    """Ends a training when enough is measured."""


@dataclass
class _Stopwatch:
    """Records the times of a trainer's events, and ends the training when enough is measured."""

    start: float = field(default_factory=time.perf_counter)
    started: float = 0.0
    evaluated: float = 0.0
    saved: float = 0.0
    steps: list[float] = field(default_factory=list)

    def on_event(self, event: Event) -> None:
        now = time.perf_counter()
        match event:
            case Started():
                self.started = now
            case Evaluated() | Sampled():
                self.evaluated = now
            case Saved():
                self.saved = now
            case Logged():
                self.steps.append(now)
                if len(self.steps) > 2 and (len(self.steps) > _MAX_STEPS or now - self.saved > _MAX_SECONDS):
                    raise _MeasuredError
            case _:
                pass

    def timing(self, parameters: int, batches: TrainingBatches, load_data: float) -> Timing:
        """The measurements, without the first step, which allocates memory for the others."""
        steps = [later - earlier for earlier, later in pairwise([self.saved, *self.steps])]
        return Timing(
            parameters,
            batches.rows,
            batches.tokens,
            load_data,
            self.started - self.start,
            statistics.median(steps[1:]),
            self.evaluated - self.started,
            self.saved - self.evaluated,
        )


def _measure(
    recipe: Recipe, tokenizer: Tokenizer | None, threads: int | None, report: Progress
) -> tuple[Timing, Tokenizer]:
    """Train a recipe for a few steps in a temporary folder."""
    tokenizer = prepare_recipe(recipe, tokenizer, report).tokenizer
    start = time.perf_counter()
    data = prepare_recipe(recipe, tokenizer, lambda _: None)  # from the cache, as each run does
    load_data = time.perf_counter() - start
    changed = {
        "steps": _MAX_STEPS + 2,
        "epochs": None,
        "tokens": None,
        "minutes": None,
        "log_every": 1,
        "init_from": None,
    }
    never = {"evaluate_every": 1 << 40, "checkpoint_every": 1 << 40, "sample_every": None, "patience": None}
    # Compiling pays only over thousands of steps and is not measured: a run that compiles is faster than estimated.
    compiled = "off" if recipe.train.compile == "auto" else recipe.train.compile
    chosen = {"compile": compiled, "threads": recipe.train.threads or threads}
    train = recipe.train.model_copy(update={**changed, **never, **chosen})
    recipe = data.complete_recipe(with_vocab_size(recipe.model_copy(update={"train": train}), tokenizer))
    model = build_model(recipe.model)
    model.init_weights(train.seed)
    task = data.training_task(recipe, model)
    stopwatch = _Stopwatch()
    with tempfile.TemporaryDirectory() as folder:
        with new_run(Path(folder), "measured", recipe):
            pass
        run = RunFolder(Path(folder) / "measured")
        trainer = Trainer(
            task,
            recipe,
            run,
            group=ProcessGroup(0, 1, 0),
            device=resolve_device(train.device),
            on_event=stopwatch.on_event,
        )
        stopwatch.start = time.perf_counter()
        try:
            trainer.train()
        except _MeasuredError:
            pass
        else:
            raise KeyboardInterrupt  # only a signal can end it earlier
    return stopwatch.timing(count_parameters(model), task.batches, load_data), tokenizer


def _estimate(name: str, recipe: Recipe, timing: Timing, startup: float) -> RunEstimate:
    """The estimate of one run with its evaluations and checkpoints. A budget in minutes is used as it is."""
    train = recipe.train
    per_epoch = -(-timing.rows // (train.batch_size * train.accumulation))
    every = per_epoch if train.evaluate_every == "epoch" else train.evaluate_every
    saved_every = min(every, per_epoch if train.checkpoint_every == "epoch" else train.checkpoint_every)
    before = startup + timing.load_data + timing.setup + timing.evaluation + timing.checkpoint
    steps = budget_in_steps(train, timing.rows, timing.tokens)
    if steps is None:
        assert train.minutes is not None
        seconds = train.minutes * 60
        steps = max(1, round(seconds / (timing.step + timing.evaluation / every + timing.checkpoint / saved_every)))
    else:
        seconds = (
            steps * timing.step + -(-steps // every) * timing.evaluation + -(-steps // saved_every) * timing.checkpoint
        )
    return RunEstimate(name, steps, before + seconds, checkpoint_bytes(recipe, timing.parameters))


def total_seconds(runs: Sequence[RunPlan], seconds: Mapping[str, float], workers: int) -> float:
    """The time until all runs end. Each starts in order when a worker is free and the runs they need have ended."""
    free = [0.0] * workers
    ended: dict[str, float] = {}
    remaining = list(runs)
    while remaining:
        now = heapq.heappop(free)
        ready = [
            run for run in remaining if all(ended.get(name, float("inf")) <= now for name in run.references.values())
        ]
        if not ready:  # wait for the next run to end
            heapq.heappush(free, min(end for end in ended.values() if end > now))
            continue
        ended[ready[0].name] = now + seconds[ready[0].name]
        heapq.heappush(free, ended[ready[0].name])
        remaining.remove(ready[0])
    return max(ended.values(), default=0.0)


def _startup_seconds() -> float:
    """The time that a process takes to import Penna."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import penna.api"], check=True)
    return time.perf_counter() - start
