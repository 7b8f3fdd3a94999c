"""Whether a run fits this machine, and how long it takes: a recipe in; steps, minutes, memory and disk out.

The recipe is trained for some steps in a process of its own, as an experiment of one arm would be measured
(``api/estimate.py``), so that memory is counted from nothing and one that does not fit takes nobody along.
"""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from penna import errors
from penna.api.estimate import RunEstimate, estimate_experiment
from penna.api.experiment import ExperimentPlan, free_disk, min_parameters
from penna.config.experiment import Arm, Experiment
from penna.config.experiment_plan import RunPlan
from penna.config.schema import Recipe
from penna.errors import DeviceError, PennaError
from penna.runs.folder import RUNS

_TRAINED = 16  # bytes for each parameter: its weight, its gradient and two moments of four bytes
_ARM = "run"


@dataclass(frozen=True)
class DryRun:
    """What a run takes, and what there is."""

    steps: int
    seconds: float
    disk: int  # bytes of the checkpoints it keeps
    free_disk: int
    memory: int  # bytes at the most, while it was measured
    free_memory: int | None  # before; None where the system does not say

    @property
    def fits(self) -> bool:
        """Whether there is room for all of it."""
        return self.disk <= self.free_disk and (self.free_memory is None or self.memory <= self.free_memory)


def dry_run(recipe: Recipe, *, runs_dir: Path = RUNS) -> DryRun:
    """Measure what a recipe takes here. Nothing is kept but its prepared text.

    Raises DeviceError where its weights alone do not fit the memory, or the process was killed for it, and what
    training would raise about its data.
    """
    free = free_memory()
    least = _TRAINED * min_parameters(recipe)
    if free is not None and least > free:
        raise _too_large(f"{least / 1e9:,.1f} GB for weights, gradients and moments alone", free)
    measured = subprocess.run(
        [sys.executable, "-c", "from penna.api.dry_run import measure; measure()"],
        input=recipe.model_dump_json(),
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    if measured.returncode in (-signal.SIGKILL, -signal.SIGABRT):
        raise _too_large("so much that the system ended the process that measured it", free)
    if measured.returncode:
        raise RuntimeError(f"measuring ended with exit code {measured.returncode}: {measured.stderr[-2000:]}")
    told = json.loads(measured.stdout.splitlines()[-1])
    if "fault" in told:
        raise getattr(errors, told["fault"], PennaError)(*told["parts"])
    estimate = RunEstimate(**told["estimate"])
    return DryRun(estimate.steps, estimate.seconds, estimate.disk, free_disk(runs_dir), told["memory"], free)


def free_memory() -> int | None:
    """Bytes of memory that processes may still take without swapping; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    told = dict(line.split(":", 1) for line in lines if ":" in line)
    return int(told["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in told else None


def measure() -> None:
    """Read a recipe from standard input, and print what it takes, or its fault, as JSON: the measuring process."""
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
        print(json.dumps({"fault": type(error).__name__, "parts": parts}))
        return
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"estimate": asdict(estimate), "memory": peak if sys.platform == "darwin" else peak * 1024}))


def _too_large(needed: str, free: int | None) -> DeviceError:
    there = "" if free is None else f"; {free / 1e9:,.1f} GB are free"
    return DeviceError(
        f"Training this recipe takes {needed}{there}.",
        "A model and batches that fit the memory.",
        "Take a smaller model (model.n_layer, model.n_embd), a shorter block (model.block_size) or a smaller batch "
        "(train.batch_size).",
    )
