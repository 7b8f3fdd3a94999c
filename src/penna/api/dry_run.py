"""A dry run: whether a recipe fits this machine, and how long it takes.

The recipe is trained for a few steps in a process of its own, measured like an experiment with one arm
(``api/estimate.py``). So its memory is counted from zero, and a recipe that does not fit kills only that process.
"""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from penna import errors
from penna.api.estimate import RunEstimate, estimate_experiment
from penna.api.experiment import ExperimentPlan, min_parameters
from penna.config.experiment import Arm, Experiment
from penna.config.experiment_plan import RunPlan
from penna.config.schema import Recipe
from penna.errors import DeviceError, PennaError
from penna.runs.folder import RUNS
from penna.storage import free_disk, to_json

_TRAINING_BYTES = 16  # per parameter: weight, gradient and two moments of four bytes
_ARM = "run"


@dataclass(frozen=True)
class DryRun:
    """What a run needs, and what the machine has."""

    steps: int
    seconds: float
    disk: int  # bytes of the checkpoints that it keeps
    free_disk: int
    memory: int  # bytes, the peak while it was measured
    free_memory: int | None  # before it was measured; None if the system does not report it

    @property
    def fits(self) -> bool:
        """Whether disk and memory are large enough."""
        return self.disk <= self.free_disk and (self.free_memory is None or self.memory <= self.free_memory)


def dry_run(recipe: Recipe, *, runs_dir: Path = RUNS) -> DryRun:
    """Measure what a recipe needs on this machine. Only its prepared text is kept.

    Raises DeviceError if its memory does not suffice, and the errors that training would raise about its data.
    """
    free = free_memory()
    minimum = _TRAINING_BYTES * min_parameters(recipe)
    if free is not None and minimum > free:
        raise _too_large(f"{minimum / 1e9:,.1f} GB for weights, gradients and moments alone", free)
    process = subprocess.run(
        [sys.executable, "-c", "from penna.api.dry_run import measure; measure()"],
        input=recipe.model_dump_json(),
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    if process.returncode in (-signal.SIGKILL, -signal.SIGABRT):
        raise _too_large("so much memory that the system killed the process", free)
    if process.returncode:
        raise RuntimeError(f"measuring ended with exit code {process.returncode}: {process.stderr[-2000:]}")
    result = json.loads(process.stdout.splitlines()[-1])
    if "error" in result:
        raise getattr(errors, result["error"], PennaError)(*result["parts"])
    estimate = RunEstimate(**result["estimate"])
    return DryRun(estimate.steps, estimate.seconds, estimate.disk, free_disk(runs_dir), result["memory"], free)


def measure() -> None:
    """The measuring process: read a recipe from standard input, print its estimate or its error as JSON."""
    recipe = Recipe.model_validate_json(sys.stdin.read())
    plan = ExperimentPlan(
        name=_ARM,
        text="",
        experiment=Experiment(arms=[Arm(name=_ARM, base="default")]),
        runs=[RunPlan(_ARM, recipe.train.seed, False, {}, {}, {}, {})],
        recipes={_ARM: recipe},
    )
    try:
        estimate = estimate_experiment(plan).runs[0]
    except PennaError as error:
        parts = (error.happened, error.expected, error.advice)
        print(json.dumps({"error": type(error).__name__, "parts": parts}))
        return
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    memory = peak if sys.platform == "darwin" else peak * 1024
    print(json.dumps({"estimate": to_json(estimate), "memory": memory}))


def free_memory() -> int | None:
    """The bytes of memory available without swapping; None if the system does not report them."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return int(fields["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in fields else None


def _too_large(needed: str, free: int | None) -> DeviceError:
    available = "" if free is None else f"; {free / 1e9:,.1f} GB are free"
    return DeviceError(
        f"Training this recipe needs {needed}{available}.",
        "Model and batches must fit into memory.",
        "Use a smaller model (model.n_layer, model.n_embd), a shorter context (model.block_size) or a smaller batch "
        "(train.batch_size).",
    )
