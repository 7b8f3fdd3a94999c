"""The processes of an experiment: how they are begun, how far they are, why they failed.

A run is trained by the command a person would type, in a process of its own, so that one that fails takes nothing along
and several can go at a time. How far it is, is read from its log of figures.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from penna.config.schema import Recipe
from penna.config.training import TrainConfig
from penna.runs.experiment import ExperimentFolder, PlannedRun
from penna.runs.folder import RunFolder
from penna.train.device import cores_allowed

COMMAND = (sys.executable, "-m", "penna")
_STOPPED = (130, 143)  # what a command gives back that a signal stopped


@dataclass
class Child:
    """A process at work on one run."""

    doing: str  # "training" or "measuring"
    process: subprocess.Popen[bytes]
    log: Path
    log_begins: int  # bytes of the log that stood there before

    def stop(self, number: int) -> None:
        """Pass a signal on; a training finishes its step and saves."""
        if self.process.poll() is None:
            self.process.send_signal(number)

    def reason(self) -> str:
        """Why it failed, on one line: what Penna said last, or how the process ended."""
        with open(self.log, "rb") as file:
            file.seek(self.log_begins)
            lines = file.read().decode("utf-8", errors="replace").splitlines()
        said = [number for number, line in enumerate(lines) if line.startswith("penna: ")]
        if said:
            return " ".join(line.strip() for line in lines[said[-1] :]).removeprefix("penna: ")
        code = self.process.returncode
        if code == -signal.SIGKILL:
            return "The process was killed, as the system does where memory is short."
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f"The process ended with exit code {code}{f': {last}' if last else '.'}"

    @property
    def was_stopped(self) -> bool:
        """Whether a signal ended it."""
        code = self.process.returncode
        return code in _STOPPED or code in (-signal.SIGINT, -signal.SIGTERM)


def begin_training(folder: ExperimentFolder, planned: PlannedRun, held: int, threads: int | None) -> Child:
    """Train a run, or go on with one that was begun; ``held`` is the run's lock, which the process takes along."""
    run = folder.run(planned)
    if (run.path / "recipe.toml").exists():
        words = ["resume", str(run.path)]
    else:
        recipe = str(folder.recipe_file(planned))
        words = ["train", recipe, "--name", planned.name, "--runs-dir", str(folder.path)]
    return _begun(folder.log_file(planned), "training", words, held, threads)


def begin_measuring(
    folder: ExperimentFolder, planned: PlannedRun, overrides: dict[str, Any], held: int, threads: int | None
) -> Child:
    """Measure a trained run as [evaluate] says; the figures go to its evaluations/."""
    words = ["evaluate", str(folder.run(planned).path)]
    for dotted, value in overrides.items():
        for one in value if isinstance(value, list) else [value]:
            words += [f"--{dotted}", one if isinstance(one, str) else json.dumps(one)]
    return _begun(folder.log_file(planned), "measuring", words, held, threads)


def _begun(log: Path, doing: str, words: Sequence[str], held: int, threads: int | None) -> Child:
    environment = os.environ if threads is None else {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with open(log, "ab") as output:
        begins = output.tell()
        process = subprocess.Popen(
            [*COMMAND, *words],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            pass_fds=(held,),
            process_group=0,  # Ctrl-C reaches the experiment alone, which passes it on once
        )
    return Child(doing, process, log, begins)


@dataclass
class Figures:
    """How far a run is, read from its metrics.jsonl as the file grows."""

    run: RunFolder
    last: dict[str, Any] = field(default_factory=dict)
    valid: dict[str, Any] = field(default_factory=dict)
    _read: int = 0
    _recipe: Recipe | None = None

    def refresh(self) -> None:
        """Read what was added, the whole file where it became shorter."""
        file = self.run.metrics_file
        size = file.stat().st_size if file.exists() else 0
        if size < self._read:
            self._read, self.last, self.valid = 0, {}, {}
        if size == self._read:
            return
        with open(file, "rb") as rows:
            rows.seek(self._read)
            whole, end, _ = rows.read().rpartition(b"\n")
        self._read += len(whole) + len(end)
        for line in whole.splitlines():
            row = json.loads(line)
            self.last = row
            if row["split"] == "valid":
                self.valid = row

    @property
    def share(self) -> float:
        """The share of its budget that is spent, 0 to 1."""
        if not self.last:
            return 0.0
        if self._recipe is None:
            self._recipe = self.run.recipe()
        return share_of_budget(self._recipe.train, self.last)


def share_of_budget(config: TrainConfig, row: dict[str, Any]) -> float:
    """How much of a budget a row of the log has spent, 0 to 1."""
    if config.minutes is not None:
        return min(1.0, row["seconds"] / 60 / config.minutes)
    spent, budget = (
        (row["step"], config.steps)
        if config.steps is not None
        else (row["epoch"], config.epochs)
        if config.epochs is not None
        else (row["tokens"], config.tokens)
    )
    assert budget is not None
    return min(1.0, spent / budget)


def threads_each(workers: int) -> int | None:
    """CPU threads for each of several runs at a time; None where one run may take what it likes."""
    if workers == 1:
        return None
    return max(1, cores_allowed() // workers)
