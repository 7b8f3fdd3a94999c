"""Running an experiment: its folder in, trained and measured runs out, and going on with one that was cut off.

Every run is trained by a process of its own. What one that failed leaves behind is kept, those that were to begin from
it are skipped, and the others finish. Going on, finished runs are left, begun ones resumed, the others begun; what
failed or was skipped is tried again. A process that outlived its experiment is waited for.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from penna.api.experiment_process import Child, Figures, begin_measuring, begin_training, threads_each
from penna.compare.identity import Finding, findings
from penna.config.experiment import build_experiment
from penna.errors import RunError
from penna.runs.experiment import ExperimentFolder, PlannedRun
from penna.train.signals import caught_signals

_BETWEEN_LOOKS = 0.5  # seconds


@dataclass(frozen=True)
class RunStatus:
    """How far one run is."""

    planned: PlannedRun
    doing: str  # what its process does, or its state
    step: int = 0
    share: float = 0.0  # of its budget, 0 to 1
    valid: Mapping[str, Any] | None = None  # the last row of the log about the validation part
    seconds: float = 0.0  # of training

    @property
    def seconds_left(self) -> float | None:
        """How long it will go on at its pace; None where that is not known yet."""
        return self.seconds * (1 - self.share) / self.share if self.share > 0 else None


Watcher = Callable[[list[RunStatus]], None]


@dataclass(frozen=True)
class ExperimentEnd:
    """How an experiment ended: the runs as they are now, and the signal that stopped it, if one did."""

    runs: list[PlannedRun]
    signal: int | None
    identical: Sequence[Finding] = ()  # what was found to be the same in all arms, where no signal stopped it

    @property
    def failed(self) -> list[PlannedRun]:
        """The runs that were not trained and will not be."""
        return [run for run in self.runs if run.state in ("failed", "skipped")]


def run_experiment(folder: ExperimentFolder, *, workers: int = 1, watch: Watcher = lambda _: None) -> ExperimentEnd:
    """Train what is left of an experiment, up to ``workers`` runs at a time, and measure what [evaluate] names.

    At the end it is looked at whether the arms share what none of them names. Raises RunError where another process
    runs it.
    """
    with folder.locked():
        with caught_signals() as request:
            end = _Runner(folder, workers, watch).run(lambda: request.signal)
        if end.signal is None:
            found = findings([(run, folder.run(run)) for run in end.runs])
            folder.save_identical({finding.name: finding.text for finding in found})
            end = replace(end, identical=found)
    return end


class _Runner:
    """Begins runs as their turn comes, looks after those at work, and notes what becomes of them."""

    def __init__(self, folder: ExperimentFolder, workers: int, watch: Watcher) -> None:
        self._folder, self._workers, self._watch = folder, workers, watch
        self._threads = threads_each(workers)
        self._to_measure: dict[str, Any] = build_experiment(folder.text(), str(folder.path)).evaluate
        self._runs = {run.name: run for run in folder.planned()}
        self._figures = {name: Figures(folder.run(run)) for name, run in self._runs.items()}
        self._children: dict[str, Child] = {}
        self._elsewhere = {run.name for run in self._runs.values() if self._is_held(run)}
        for run in self._runs.values():
            if run.state in ("failed", "skipped"):
                self._note(run.name, "training" if self._is_begun(run) else "waiting")

    def run(self, stopped_by: Callable[[], int | None]) -> ExperimentEnd:
        """Until nothing is left to do, or a signal came and all processes saved what they had."""
        try:
            self._work(stopped_by)
        finally:  # nothing goes on behind an error
            for child in self._children.values():
                child.stop(signal.SIGTERM)
                child.process.wait()
        return ExperimentEnd(list(self._runs.values()), stopped_by())

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
        held = None if self._is_being_written(run) else self._folder.held_by_child(run)
        if held is None:
            self._elsewhere.add(run.name)
            return
        self._elsewhere.discard(run.name)
        try:
            if not self._is_trained(run):
                self._children[run.name] = begin_training(self._folder, run, held, self._threads)
            elif self._to_measure and not run.is_start:
                self._children[run.name] = begin_measuring(self._folder, run, self._to_measure, held, self._threads)
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
            if code == 0 and child.doing == "measuring":
                self._note(name, "finished")
            elif code == 0 and not stopping:
                self._begin(run)  # to measure it
            elif code == 0:
                continue  # it is trained, and will be measured when the experiment goes on
            elif stopping and child.was_stopped:
                self._note(name, "training" if self._is_begun(run) else "waiting")
            else:
                self._note(
                    name, "failed", child.reason() if child.doing == "training" else f"Not measured: {child.reason()}"
                )

    def _note(self, name: str, state: str, message: str | None = None) -> None:
        run = self._runs[name]
        if (run.state, run.message) != (state, message):
            self._runs[name] = replace(run, state=state, message=message)
            self._folder.update(name, state=state, message=message)

    def _is_begun(self, run: PlannedRun) -> bool:
        return (self._folder.run(run).path / "recipe.toml").exists()

    def _is_trained(self, run: PlannedRun) -> bool:
        return self._folder.run(run).info().get("state") == "finished"

    def _is_held(self, run: PlannedRun) -> bool:
        """Whether a process works on it that outlived the experiment it belonged to."""
        held = self._folder.held_by_child(run)
        if held is not None:
            os.close(held)
        return held is None

    def _is_being_written(self, run: PlannedRun) -> bool:
        """Whether somebody trains it by hand, with `penna resume`."""
        if not self._is_begun(run):
            return False
        try:
            with self._folder.run(run).locked():
                return False
        except RunError:
            return True

    def _statuses(self) -> list[RunStatus]:
        return [self._status(run) for run in self._runs.values()]

    def _status(self, run: PlannedRun) -> RunStatus:
        child = self._children.get(run.name)
        doing = child.doing if child else "training elsewhere" if run.name in self._elsewhere else run.state
        if run.state == "training" and doing == "training" and child is None:
            doing = "interrupted"
        figures = self._figures[run.name]
        figures.refresh()
        row = figures.last
        if not row:
            return RunStatus(run, doing)
        return RunStatus(run, doing, row["step"], figures.share, figures.valid, row["seconds"])
