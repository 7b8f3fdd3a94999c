"""What an experiment will take, measured here: its plan in; steps, minutes and disk of each run out, nothing trained.

Each distinct model and batch is trained for some steps by the loop itself, on the recipe's own text, in a folder that
is thrown away: what a step, an evaluation with its samples and a checkpoint take is known then. Text that is not
prepared yet is prepared, and found in the cache later.
"""

from __future__ import annotations

import heapq
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import torch

from penna.api.experiment import ExperimentPlan, checkpoint_bytes
from penna.api.experiment_runner import threads_per_run
from penna.api.train import prepare_recipe, with_vocab_size
from penna.config.experiment_plan import RunPlan
from penna.config.schema import Recipe
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

Say = Callable[[str], None]
_STEPS, _SECONDS = 12, 20.0  # measured at most; two steps at least
_NO_PACE = frozenset({
    "seed", "steps", "epochs", "tokens", "minutes", "evaluate_every", "patience", "log_every", "checkpoint_every",
    "keep_checkpoints", "init_from", "sample_every",
})  # fmt: skip


@dataclass(frozen=True)
class Pace:
    """What was measured of one model and batch, in seconds."""

    parameters: int
    rows: int  # of an epoch
    tokens: int  # of an epoch
    load_data: float  # finding the prepared text
    setup: float  # what is found out before the first step
    step: float
    evaluation: float  # an evaluation, with its samples
    checkpoint: float


@dataclass(frozen=True)
class RunEstimate:
    """What one run will take."""

    name: str
    steps: int
    seconds: float
    disk: int  # bytes of the checkpoints it keeps


@dataclass(frozen=True)
class Estimate:
    """What an experiment will take."""

    runs: list[RunEstimate]
    seconds: float  # from its start to its end, with so many workers
    workers: int

    @property
    def disk(self) -> int:
        """Bytes of all checkpoints that will be kept."""
        return sum(run.disk for run in self.runs)


def estimate_experiment(plan: ExperimentPlan, *, workers: int = 1, report: Say = lambda _: None) -> Estimate:
    """Measure what a plan will take with so many workers. Raises what training it would raise about its data."""
    paces: dict[str, tuple[Pace, Tokenizer]] = {}
    of_arm: dict[str, tuple[Pace, Tokenizer]] = {}
    arm_of_run = {run.name: run.arm for run in plan.runs}
    threads_before = torch.get_num_threads()
    try:
        for run in plan.runs:
            if run.arm in of_arm:
                continue
            recipe = plan.recipes[run.arm]
            lent = next((of_arm[arm_of_run[name]][1] for name in run.references.values()), None)
            key = _key(recipe, lent)
            if key not in paces:
                report(f"Measuring {run.arm}")
                paces[key] = _measured(recipe, lent, threads_per_run(workers), report)
            of_arm[run.arm] = paces[key]
    finally:
        torch.set_num_threads(threads_before)
    starting = _seconds_to_start()
    runs = [_estimate(run.name, plan.recipes[run.arm], of_arm[run.arm][0], starting) for run in plan.runs]
    return Estimate(runs, total_seconds(plan.runs, {run.name: run.seconds for run in runs}, workers), workers)


def _key(recipe: Recipe, tokenizer: Tokenizer | None) -> str:
    """All that the pace of a run depends on; a tokenizer that another run lends counts by what it is."""
    kept = recipe.model_copy(update={"train": recipe.train.model_copy(update=dict.fromkeys(_NO_PACE))})
    left_out = {"description", "schedule", "optim", *(["tokenizer"] if tokenizer else [])}
    fingerprint = None if tokenizer is None else tokenizer.fingerprint()
    return repr((recipe.optim.kind, fingerprint, kept.model_dump(mode="json", exclude=left_out)))


class _EnoughError(Exception):
    """Ends a training that was only to be measured."""


@dataclass
class _Watch:
    """Notes when things happened in a training, and ends it once enough is known."""

    begun: float = field(default_factory=time.perf_counter)
    started: float = 0.0
    looked: float = 0.0
    saved: float = 0.0
    steps: list[float] = field(default_factory=list)

    def listen(self, event: Event) -> None:
        now = time.perf_counter()
        match event:
            case Started():
                self.started = now
            case Evaluated() | Sampled():
                self.looked = now
            case Saved():
                self.saved = now
            case Logged():
                self.steps.append(now)
                if len(self.steps) > 2 and (len(self.steps) > _STEPS or now - self.saved > _SECONDS):
                    raise _EnoughError
            case _:
                pass

    def pace(self, parameters: int, batches: TrainingBatches, reading: float) -> Pace:
        """What was measured; the first step is left out, for it allocates what the others use."""
        steps = [later - earlier for earlier, later in pairwise([self.saved, *self.steps])]
        return Pace(
            parameters,
            batches.rows,
            batches.tokens,
            reading,
            self.started - self.begun,
            statistics.median(steps[1:]),
            self.looked - self.started,
            self.saved - self.looked,
        )


def _measured(recipe: Recipe, tokenizer: Tokenizer | None, threads: int | None, report: Say) -> tuple[Pace, Tokenizer]:
    """Train a recipe for some steps, and throw it away."""
    tokenizer = prepare_recipe(recipe, tokenizer, report).tokenizer
    begun = time.perf_counter()
    ready = prepare_recipe(recipe, tokenizer, lambda _: None)  # as each run finds it
    reading = time.perf_counter() - begun
    changed = {"steps": _STEPS + 2, "epochs": None, "tokens": None, "minutes": None, "log_every": 1, "init_from": None}
    never = {"evaluate_every": 1 << 40, "checkpoint_every": 1 << 40, "sample_every": None, "patience": None}
    # Compiling pays over thousands of steps, and is not tried here: where it does, a run is faster than told.
    compiled = "off" if recipe.train.compile == "auto" else recipe.train.compile
    chosen = {"compile": compiled, "threads": recipe.train.threads or threads}
    train = recipe.train.model_copy(update={**changed, **never, **chosen})
    tried = ready.complete_recipe(with_vocab_size(recipe.model_copy(update={"train": train}), tokenizer))
    model = build_model(tried.model)
    model.init_weights(train.seed)
    job = ready.training_task(tried, model)
    watch = _Watch()
    with tempfile.TemporaryDirectory() as place:
        with new_run(Path(place), "measured", tried):
            pass
        run = RunFolder(Path(place) / "measured")
        loop = Trainer(
            job, tried, run, group=ProcessGroup(0, 1, 0), device=resolve_device(train.device), on_event=watch.listen
        )
        watch.begun = time.perf_counter()
        try:
            loop.train()
        except _EnoughError:
            pass
        else:
            raise KeyboardInterrupt  # nothing but a signal ends it earlier
    return watch.pace(count_parameters(model), job.batches, reading), tokenizer


def _estimate(name: str, recipe: Recipe, pace: Pace, starting: float) -> RunEstimate:
    """What one run takes, its evaluations and checkpoints in it; a budget in minutes is taken as it stands."""
    train = recipe.train
    per_epoch = -(-pace.rows // (train.batch_size * train.accumulation))
    every = per_epoch if train.evaluate_every == "epoch" else train.evaluate_every
    saved_every = min(every, per_epoch if train.checkpoint_every == "epoch" else train.checkpoint_every)
    before = starting + pace.load_data + pace.setup + pace.evaluation + pace.checkpoint
    steps = budget_in_steps(train, pace.rows, pace.tokens)
    if steps is None:
        assert train.minutes is not None
        seconds = train.minutes * 60
        steps = max(1, round(seconds / (pace.step + pace.evaluation / every + pace.checkpoint / saved_every)))
    else:
        seconds = steps * pace.step + -(-steps // every) * pace.evaluation + -(-steps // saved_every) * pace.checkpoint
    return RunEstimate(name, steps, before + seconds, checkpoint_bytes(recipe, pace.parameters))


def total_seconds(runs: Sequence[RunPlan], seconds: Mapping[str, float], workers: int) -> float:
    """When the last run ends, where each is begun in order once a worker is free and what it needs is trained."""
    free = [0.0] * workers
    ended: dict[str, float] = {}
    left = list(runs)
    while left:
        now = heapq.heappop(free)
        ready = [run for run in left if all(ended.get(name, float("inf")) <= now for name in run.references.values())]
        if not ready:  # wait for the next run to end
            heapq.heappush(free, min(end for end in ended.values() if end > now))
            continue
        ended[ready[0].name] = now + seconds[ready[0].name]
        heapq.heappush(free, ended[ready[0].name])
        left.remove(ready[0])
    return max(ended.values(), default=0.0)


def _seconds_to_start() -> float:
    """What a process takes before it does anything."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import penna.api"], check=True)
    return time.perf_counter() - begun
