"""Running an experiment: each run is trained and evaluated by a process of its own.

Resuming an experiment leaves finished runs alone, resumes runs that were interrupted, and tries failed ones again. If a
run fails, its files are kept, the runs that start from it are skipped, and the others continue. A process that outlives
its experiment is waited for.
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
from penna.report.experiments.equality import EqualityCheck, check_equality
from penna.runs.experiment import ExperimentFolder, PlannedRun
from penna.runs.folder import RunFolder
from penna.train.device import available_cores
from penna.train.signals import catch_stop_signals

COMMAND = (sys.executable, "-m", "penna")
_STOPPED_BY_SIGNAL = (130, 143, -signal.SIGINT, -signal.SIGTERM)  # exit codes of a process
_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class RunStatus:
    """The progress of one run."""

    run: PlannedRun
    activity: str  # "training", "evaluating", "training elsewhere", "interrupted", or the state of the run
    step: int = 0
    share: float = 0.0  # of its budget, 0 to 1
    valid: Mapping[str, Any] | None = None  # the last logged row of validation metrics
    seconds: float = 0.0  # of training

    @property
    def seconds_left(self) -> float | None:
        """The estimated time to the end of training; None if it is not known yet."""
        return self.seconds * (1 - self.share) / self.share if self.share > 0 else None


StatusHandler = Callable[[list[RunStatus]], None]


@dataclass(frozen=True)
class ExperimentResult:
    """How an experiment ended: its runs, and the signal that stopped it, if any."""

    runs: list[PlannedRun]
    signal: int | None
    identical: Sequence[EqualityCheck] = ()  # the settings and data that all arms share, if no signal stopped it

    @property
    def failed(self) -> list[PlannedRun]:
        """The runs that failed or were skipped."""
        return [run for run in self.runs if run.state in ("failed", "skipped")]


def run_experiment(
    folder: ExperimentFolder, *, workers: int = 1, on_status: StatusHandler = lambda _: None
) -> ExperimentResult:
    """Train the unfinished runs of an experiment, up to ``workers`` at once, and evaluate them as [evaluate] says.

    At the end, check that the arms are identical in all that they do not vary. Raises RunError if another process runs
    the experiment.
    """
    with folder.lock():
        with catch_stop_signals() as request:
            result = _Runner(folder, workers, on_status).run(lambda: request.signal)
        if result.signal is None:
            identical = check_equality([(run, folder.run_folder(run)) for run in result.runs])
            folder.save_identical({finding.name: finding.text for finding in identical})
            result = replace(result, identical=identical)
    return result


class _Runner:
    """Starts runs when a worker is free and the runs they need are trained, and records the state of each."""

    def __init__(self, folder: ExperimentFolder, workers: int, on_status: StatusHandler) -> None:
        self._folder, self._workers, self._on_status = folder, workers, on_status
        self._threads = threads_per_run(workers)
        self._evaluation: dict[str, Any] = build_experiment(folder.settings(), str(folder.path)).evaluate
        self._runs = {run.name: run for run in folder.runs()}
        self._progress = {name: RunProgress(folder.run_folder(run)) for name, run in self._runs.items()}
        self._children: dict[str, ChildProcess] = {}
        self._elsewhere = {run.name for run in self._runs.values() if self._is_locked_by_child(run)}
        for run in self._runs.values():
            if run.state in ("failed", "skipped"):
                self._set_state(run.name, "training" if self._has_begun(run) else "waiting")

    def run(self, stop_signal: Callable[[], int | None]) -> ExperimentResult:
        """Run until all runs have ended, or until a signal arrives and all processes have saved their work."""
        try:
            self._loop(stop_signal)
        finally:  # an error must not leave processes behind
            for child in self._children.values():
                child.stop(signal.SIGTERM)
                child.process.wait()
        return ExperimentResult(list(self._runs.values()), stop_signal())

    def _loop(self, stop_signal: Callable[[], int | None]) -> None:
        is_forwarded = False
        while True:
            number = stop_signal()
            if number is None:
                self._start_ready_runs()
            elif not is_forwarded:
                for child in self._children.values():
                    child.stop(number)
                is_forwarded = True
            self._on_status([self._status(run) for run in self._runs.values()])
            if not self._children and (number is not None or not self._elsewhere):
                return
            time.sleep(_POLL_SECONDS)
            self._collect_ended(is_stopping=number is not None)

    def _start_ready_runs(self) -> None:
        for run in list(self._runs.values()):
            if run.state not in ("waiting", "training") or run.name in self._children:
                continue
            failed = [name for name in run.needs if self._runs[name].state in ("failed", "skipped")]
            if failed and not all(self._is_trained(self._runs[name]) for name in failed):
                self._set_state(run.name, "skipped", f"It starts from {failed[0]}, which was not trained.")
                continue
            busy = len(self._children) + len(self._elsewhere - {run.name})
            if busy < self._workers and all(self._is_trained(self._runs[name]) for name in run.needs):
                self._start(run)

    def _start(self, run: PlannedRun) -> None:
        """Train a run, or evaluate it if it is trained. If another process works on it, wait for that process."""
        lock = None if self._is_being_written(run) else self._folder.lock_for_child(run)
        if lock is None:
            self._elsewhere.add(run.name)
            return
        self._elsewhere.discard(run.name)
        try:
            if not self._is_trained(run):
                self._children[run.name] = start_training(self._folder, run, lock, self._threads)
            elif self._evaluation and not run.is_start:
                self._children[run.name] = start_evaluation(self._folder, run, self._evaluation, lock, self._threads)
            else:
                self._set_state(run.name, "finished")
                return
            self._set_state(run.name, "training")
        finally:
            os.close(lock)  # the child process has inherited it

    def _collect_ended(self, *, is_stopping: bool) -> None:
        for name, child in list(self._children.items()):
            code = child.process.poll()
            if code is None:
                continue
            del self._children[name]
            run = self._runs[name]
            if code == 0 and child.activity == "evaluating":
                self._set_state(name, "finished")
            elif code == 0 and not is_stopping:
                self._start(run)  # evaluates it
            elif code == 0:
                continue  # trained; it is evaluated when the experiment is resumed
            elif is_stopping and child.was_stopped:
                self._set_state(name, "training" if self._has_begun(run) else "waiting")
            else:
                reason = child.reason() if child.activity == "training" else f"Not evaluated: {child.reason()}"
                self._set_state(name, "failed", reason)

    def _set_state(self, name: str, state: str, message: str | None = None) -> None:
        run = self._runs[name]
        if (run.state, run.message) != (state, message):
            self._runs[name] = replace(run, state=state, message=message)
            self._folder.update_run(name, state=state, message=message)

    def _has_begun(self, run: PlannedRun) -> bool:
        return (self._folder.run_folder(run).path / "recipe.toml").exists()

    def _is_trained(self, run: PlannedRun) -> bool:
        return self._folder.run_folder(run).info().get("state") == "finished"

    def _is_locked_by_child(self, run: PlannedRun) -> bool:
        """Whether a process of an earlier session still works on the run."""
        lock = self._folder.lock_for_child(run)
        if lock is not None:
            os.close(lock)
        return lock is None

    def _is_being_written(self, run: PlannedRun) -> bool:
        """Whether a user trains the run by hand, with `penna resume`."""
        if not self._has_begun(run):
            return False
        try:
            with self._folder.run_folder(run).lock():
                return False
        except RunError:
            return True

    def _status(self, run: PlannedRun) -> RunStatus:
        child = self._children.get(run.name)
        activity = child.activity if child else "training elsewhere" if run.name in self._elsewhere else run.state
        if run.state == "training" and activity == "training" and child is None:
            activity = "interrupted"
        progress = self._progress[run.name]
        progress.refresh()
        row = progress.last
        if not row:
            return RunStatus(run, activity)
        return RunStatus(run, activity, row["step"], progress.share, progress.valid, row["seconds"])


@dataclass
class ChildProcess:
    """A process that trains or evaluates one run."""

    activity: str  # "training" or "evaluating"
    process: subprocess.Popen[bytes]
    log: Path
    log_start: int  # the size of the log before the process started

    def stop(self, number: int) -> None:
        """Forward a signal; training finishes its step and saves."""
        if self.process.poll() is None:
            self.process.send_signal(number)

    def reason(self) -> str:
        """Why it failed, on one line: Penna's last message, or how the process ended."""
        with open(self.log, "rb") as file:
            file.seek(self.log_start)
            lines = file.read().decode("utf-8", errors="replace").splitlines()
        messages = [number for number, line in enumerate(lines) if line.startswith("penna: ")]
        if messages:
            return " ".join(line.strip() for line in lines[messages[-1] :]).removeprefix("penna: ")
        code = self.process.returncode
        if code == -signal.SIGKILL:
            return "The process was killed, perhaps because the system ran out of memory."
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f"The process ended with exit code {code}{f': {last}' if last else '.'}"

    @property
    def was_stopped(self) -> bool:
        """Whether a signal ended it."""
        return self.process.returncode in _STOPPED_BY_SIGNAL


def start_training(folder: ExperimentFolder, run: PlannedRun, lock: int, threads: int | None) -> ChildProcess:
    """Train a run, or resume it if it has begun. The process inherits ``lock``, the lock of the run."""
    path = folder.run_folder(run).path
    if (path / "recipe.toml").exists():
        arguments = ["resume", str(path)]
    else:
        recipe = str(folder.recipe_file(run))
        arguments = ["train", recipe, "--name", run.name, "--runs-dir", str(folder.path)]
    return _start_process(folder.log_file(run), "training", arguments, lock, threads)


def start_evaluation(
    folder: ExperimentFolder, run: PlannedRun, overrides: dict[str, Any], lock: int, threads: int | None
) -> ChildProcess:
    """Evaluate a trained run as [evaluate] says. The metrics are written to its evaluations/."""
    arguments = ["evaluate", str(folder.run_folder(run).path)]
    for dotted, value in overrides.items():
        for item in value if isinstance(value, list) else [value]:
            arguments += [f"--{dotted}", item if isinstance(item, str) else json.dumps(item)]
    return _start_process(folder.log_file(run), "evaluating", arguments, lock, threads)


def _start_process(log: Path, activity: str, arguments: Sequence[str], lock: int, threads: int | None) -> ChildProcess:
    environment = os.environ if threads is None else {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with open(log, "ab") as output:
        log_start = output.tell()
        process = subprocess.Popen(
            [*COMMAND, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            pass_fds=(lock,),
            process_group=0,  # Ctrl-C reaches only the experiment, which forwards it once
        )
    return ChildProcess(activity, process, log, log_start)


@dataclass
class RunProgress:
    """The progress of a run, read from its metrics.jsonl as the file grows."""

    run: RunFolder
    last: dict[str, Any] = field(default_factory=dict)
    valid: dict[str, Any] = field(default_factory=dict)
    _offset: int = 0
    _recipe: Recipe | None = None

    def refresh(self) -> None:
        """Read the new rows, or the whole file if it became shorter."""
        file = self.run.metrics_file
        size = file.stat().st_size if file.exists() else 0
        if size < self._offset:
            self._offset, self.last, self.valid = 0, {}, {}
        if size == self._offset:
            return
        with open(file, "rb") as rows:
            rows.seek(self._offset)
            complete, end, _ = rows.read().rpartition(b"\n")
        self._offset += len(complete) + len(end)
        for line in complete.splitlines():
            row = json.loads(line)
            self.last = row
            if row["split"] == "valid":
                self.valid = row

    @property
    def share(self) -> float:
        """The share of the budget that is spent, 0 to 1."""
        if not self.last:
            return 0.0
        if self._recipe is None:
            self._recipe = self.run.recipe()
        return share_of_budget(self._recipe.train, self.last)


def share_of_budget(config: TrainConfig, row: dict[str, Any]) -> float:
    """The share of a budget that is spent at a logged row, 0 to 1."""
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
    """CPU threads for each of ``workers`` runs at once; None for one worker, which may use all."""
    if workers == 1:
        return None
    return max(1, available_cores() // workers)
