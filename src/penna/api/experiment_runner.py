"""Running an experiment: its folder in, trained and measured runs out, and going on with one that was cut off.

Every run is trained by a process of its own. What one that failed leaves behind is kept, those that were to begin from
it are skipped, and the others finish. Going on, finished runs are left, begun ones resumed, the others begun; what
failed or was skipped is tried again. A process that outlived its experiment is waited for.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from penna.config.experiment import build_experiment
from penna.config.schema import Recipe
from penna.config.training import TrainConfig
from penna.errors import RunError
from penna.report.experiments.identity import Finding, findings
from penna.runs.experiment import ExperimentFolder, PlannedRun
from penna.runs.folder import RunFolder
from penna.train.device import available_cores
from penna.train.signals import catch_stop_signals

# MERGED api.experiment_process: The processes of an experiment: how they are begun, how far they are, why they
# failed.
#
# A run is trained by the command a person would type, in a process of its own, so that one that fails takes nothing
# along
# and several can go at a time. How far it is, is read from its log of figures.


COMMAND = (sys.executable, "-m", "penna")
_STOPPED = (130, 143)  # what a command gives back that a signal stopped


@dataclass
class ChildProcess:
    """A process at work on one run."""

    activity: str  # "training" or "measuring"
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


def start_training(folder: ExperimentFolder, planned: PlannedRun, held: int, threads: int | None) -> ChildProcess:
    """Train a run, or go on with one that was begun; ``held`` is the run's lock, which the process takes along."""
    run = folder.run_folder(planned)
    if (run.path / "recipe.toml").exists():
        words = ["resume", str(run.path)]
    else:
        recipe = str(folder.recipe_file(planned))
        words = ["train", recipe, "--name", planned.name, "--runs-dir", str(folder.path)]
    return _begun(folder.log_file(planned), "training", words, held, threads)


def start_evaluation(
    folder: ExperimentFolder, planned: PlannedRun, overrides: dict[str, Any], held: int, threads: int | None
) -> ChildProcess:
    """Measure a trained run as [evaluate] says; the figures go to its evaluations/."""
    words = ["evaluate", str(folder.run_folder(planned).path)]
    for dotted, value in overrides.items():
        for one in value if isinstance(value, list) else [value]:
            words += [f"--{dotted}", one if isinstance(one, str) else json.dumps(one)]
    return _begun(folder.log_file(planned), "measuring", words, held, threads)


def _begun(log: Path, doing: str, words: Sequence[str], held: int, threads: int | None) -> ChildProcess:
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
    return ChildProcess(doing, process, log, begins)


@dataclass
class RunProgress:
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


def threads_per_run(workers: int) -> int | None:
    """CPU threads for each of several runs at a time; None where one run may take what it likes."""
    if workers == 1:
        return None
    return max(1, available_cores() // workers)


_BETWEEN_LOOKS = 0.5  # seconds


@dataclass(frozen=True)
class RunStatus:
    """How far one run is."""

    run: PlannedRun
    activity: str  # what its process does, or its state
    step: int = 0
    share: float = 0.0  # of its budget, 0 to 1
    valid: Mapping[str, Any] | None = None  # the last row of the log about the validation part
    seconds: float = 0.0  # of training

    @property
    def seconds_left(self) -> float | None:
        """How long it will go on at its pace; None where that is not known yet."""
        return self.seconds * (1 - self.share) / self.share if self.share > 0 else None


StatusHandler = Callable[[list[RunStatus]], None]


@dataclass(frozen=True)
class ExperimentResult:
    """How an experiment ended: the runs as they are now, and the signal that stopped it, if one did."""

    runs: list[PlannedRun]
    signal: int | None
    identical: Sequence[Finding] = ()  # what was found to be the same in all arms, where no signal stopped it

    @property
    def failed(self) -> list[PlannedRun]:
        """The runs that were not trained and will not be."""
        return [run for run in self.runs if run.state in ("failed", "skipped")]


def run_experiment(
    folder: ExperimentFolder, *, workers: int = 1, on_status: StatusHandler = lambda _: None
) -> ExperimentResult:
    """Train what is left of an experiment, up to ``workers`` runs at a time, and measure what [evaluate] names.

    At the end it is looked at whether the arms share what none of them names. Raises RunError where another process
    runs it.
    """
    with folder.lock():
        with catch_stop_signals() as request:
            end = _Runner(folder, workers, on_status).run(lambda: request.signal)
        if end.signal is None:
            found = findings([(run, folder.run_folder(run)) for run in end.runs])
            folder.save_identical({finding.name: finding.text for finding in found})
            end = replace(end, identical=found)
    return end


class _Runner:
    """Begins runs as their turn comes, looks after those at work, and notes what becomes of them."""

    def __init__(self, folder: ExperimentFolder, workers: int, watch: StatusHandler) -> None:
        self._folder, self._workers, self._watch = folder, workers, watch
        self._threads = threads_per_run(workers)
        self._to_measure: dict[str, Any] = build_experiment(folder.settings(), str(folder.path)).evaluate
        self._runs = {run.name: run for run in folder.runs()}
        self._figures = {name: RunProgress(folder.run_folder(run)) for name, run in self._runs.items()}
        self._children: dict[str, ChildProcess] = {}
        self._elsewhere = {run.name for run in self._runs.values() if self._is_held(run)}
        for run in self._runs.values():
            if run.state in ("failed", "skipped"):
                self._note(run.name, "training" if self._is_begun(run) else "waiting")

    def run(self, stopped_by: Callable[[], int | None]) -> ExperimentResult:
        """Until nothing is left to do, or a signal came and all processes saved what they had."""
        try:
            self._work(stopped_by)
        finally:  # nothing goes on behind an error
            for child in self._children.values():
                child.stop(signal.SIGTERM)
                child.process.wait()
        return ExperimentResult(list(self._runs.values()), stopped_by())

    def _work(self, stopped_by: Callable[[], int | None]) -> None:
        passed_on = False
        while True:
            number = stopped_by()
            if number is None:
                self._begin_what_can()
            elif not passed_on:
                for child in self._children.values():
                    child.stop(number)
                passed_on = True
            self._watch(self._statuses())
            if not self._children and (number is not None or not self._elsewhere):
                return
            time.sleep(_BETWEEN_LOOKS)
            self._settle_ended(number is not None)

    def _begin_what_can(self) -> None:
        for run in list(self._runs.values()):
            if run.state not in ("waiting", "training") or run.name in self._children:
                continue
            lost = [needed for needed in run.needs if self._runs[needed].state in ("failed", "skipped")]
            if lost and not all(self._is_trained(self._runs[needed]) for needed in lost):
                self._note(run.name, "skipped", f"It was to begin from {lost[0]}, which was not trained.")
                continue
            busy = len(self._children) + len(self._elsewhere - {run.name})
            if busy < self._workers and all(self._is_trained(self._runs[needed]) for needed in run.needs):
                self._begin(run)

    def _begin(self, run: PlannedRun) -> None:
        """Train a run, or measure it where it is trained; where a process still has it, wait for that."""
        held = None if self._is_being_written(run) else self._folder.lock_for_child(run)
        if held is None:
            self._elsewhere.add(run.name)
            return
        self._elsewhere.discard(run.name)
        try:
            if not self._is_trained(run):
                self._children[run.name] = start_training(self._folder, run, held, self._threads)
            elif self._to_measure and not run.is_start:
                self._children[run.name] = start_evaluation(self._folder, run, self._to_measure, held, self._threads)
            else:
                self._note(run.name, "finished")
                return
            self._note(run.name, "training")
        finally:
            os.close(held)  # the child has it

    def _settle_ended(self, stopping: bool) -> None:
        for name, child in list(self._children.items()):
            code = child.process.poll()
            if code is None:
                continue
            del self._children[name]
            run = self._runs[name]
            if code == 0 and child.activity == "measuring":
                self._note(name, "finished")
            elif code == 0 and not stopping:
                self._begin(run)  # to measure it
            elif code == 0:
                continue  # it is trained, and will be measured when the experiment goes on
            elif stopping and child.was_stopped:
                self._note(name, "training" if self._is_begun(run) else "waiting")
            else:
                self._note(
                    name,
                    "failed",
                    child.reason() if child.activity == "training" else f"Not measured: {child.reason()}",
                )

    def _note(self, name: str, state: str, message: str | None = None) -> None:
        run = self._runs[name]
        if (run.state, run.message) != (state, message):
            self._runs[name] = replace(run, state=state, message=message)
            self._folder.update_run(name, state=state, message=message)

    def _is_begun(self, run: PlannedRun) -> bool:
        return (self._folder.run_folder(run).path / "recipe.toml").exists()

    def _is_trained(self, run: PlannedRun) -> bool:
        return self._folder.run_folder(run).info().get("state") == "finished"

    def _is_held(self, run: PlannedRun) -> bool:
        """Whether a process works on it that outlived the experiment it belonged to."""
        held = self._folder.lock_for_child(run)
        if held is not None:
            os.close(held)
        return held is None

    def _is_being_written(self, run: PlannedRun) -> bool:
        """Whether somebody trains it by hand, with `penna resume`."""
        if not self._is_begun(run):
            return False
        try:
            with self._folder.run_folder(run).lock():
                return False
        except RunError:
            return True

    def _statuses(self) -> list[RunStatus]:
        return [self._status(run) for run in self._runs.values()]

    def _status(self, run: PlannedRun) -> RunStatus:
        child = self._children.get(run.name)
        doing = child.activity if child else "training elsewhere" if run.name in self._elsewhere else run.state
        if run.state == "training" and doing == "training" and child is None:
            doing = "interrupted"
        figures = self._figures[run.name]
        figures.refresh()
        row = figures.last
        if not row:
            return RunStatus(run, doing)
        return RunStatus(run, doing, row["step"], figures.share, figures.valid, row["seconds"])
