"""What all pages of one studio share: where its runs and data lie, the models, the trainings under way.

Runs are read from their folders whenever a page asks; nothing is remembered that the folder does not say, but what was
read of a file that has not changed since.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from penna.api.experiment_runner import share_of_budget
from penna.config.schema import Recipe
from penna.errors import PennaError, RunError
from penna.runs.folder import RunFolder
from penna.serve.settings import ServeSettings
from penna.studio.jobs import TrainingProcess, TrainingProcesses, is_written
from penna.studio.long_work import LongWork
from penna.studio.models import StudioModels, no_run, runs_within
from penna.studio.rows import GrowingRows

HIDDEN = ".studio"  # the studio's own folder among the runs


@dataclass(frozen=True)
class Best:
    """The best figure of a run's validation text, and where it was reached."""

    figure: str  # a field of metrics.jsonl: "bits_per_byte", "accuracy" or "loss"
    value: float
    step: int


@dataclass(frozen=True)
class RunRow:
    """A run as a line of a list says it."""

    name: str  # NAME, or EXPERIMENT/NAME
    path: Path
    task: str | None  # None where no recipe is there (yet) that can be read
    data: tuple[str, ...]  # files, as the recipe names them
    state: str  # "preparing", "training", "interrupted", "stopped", "finished", "imported", "failed" or "damaged"
    step: int
    share: float  # of its budget that is spent, 0 to 1
    best: Best | None
    changed: float  # seconds since 1970
    problem: PennaError | None = None  # why it failed or cannot be read

    @property
    def is_alive(self) -> bool:
        """Whether a process works on it."""
        return self.state in ("preparing", "training")


@dataclass
class Studio:
    """One studio: where things lie, and what works on them."""

    runs_dir: Path
    data_dir: Path | None
    settings: ServeSettings
    device: str = "auto"
    models: StudioModels = field(init=False)
    jobs: TrainingProcesses = field(init=False)
    long: LongWork = field(default_factory=LongWork, init=False)
    _read: dict[Path, _Read] = field(default_factory=dict[Path, "_Read"], init=False)
    _reading: threading.Lock = field(default_factory=threading.Lock, init=False)

    def __post_init__(self) -> None:
        self.models = StudioModels(self.settings, self.runs_dir, device=self.device)
        self.jobs = TrainingProcesses(self.runs_dir, self.runs_dir / HIDDEN)

    @property
    def uploads(self) -> Path:
        """Where texts lie that browsers sent."""
        return self.runs_dir / HIDDEN / "uploads"

    def runs(self) -> list[RunRow]:
        """All runs, the one that was written last first, and trainings that have no folder yet."""
        there = runs_within(self.runs_dir)
        rows = {name: self._row(name, run) for name, run in there.items()}
        for gone in self._read.keys() - {run.path for run in there.values()}:
            self._read.pop(gone, None)
        for job in self.jobs.all():
            if job.name not in rows and _is_worth_telling(job):
                rows[job.name] = self._row_of_job(job)
        return sorted(rows.values(), key=lambda row: (row.is_alive, row.changed), reverse=True)

    def row(self, name: str) -> RunRow:
        """One run. Raises RunError where there is none of this name."""
        run = runs_within(self.runs_dir).get(name)
        if run is not None:
            return self._row(name, run)
        job = self.jobs.find(name)
        if job is not None and _is_worth_telling(job):
            return self._row_of_job(job)
        raise RunError(*no_run(name, self.runs_dir))

    def run(self, name: str) -> RunFolder:
        """The folder of a run. Raises RunError where there is none (any more)."""
        run = runs_within(self.runs_dir).get(name)
        if run is None:
            raise RunError(*no_run(name, self.runs_dir))
        return run

    def _row(self, name: str, run: RunFolder) -> RunRow:
        try:
            read = self._read_row(name, run)
            return self._with_state(read, run)
        except (PennaError, OSError, KeyError, TypeError, ValueError) as error:
            problem = error if isinstance(error, PennaError) else _damaged(run, error)
            return RunRow(name, run.path, None, (), "damaged", 0, 0.0, None, 0.0, problem)

    def _read_row(self, name: str, run: RunFolder) -> RunRow:
        """What files say that change seldom; the state is still to be found."""
        recipe_time = (run.path / "recipe.toml").stat().st_mtime_ns
        with self._reading:
            read = self._read.setdefault(run.path, _Read(GrowingRows(run.metrics_file, keep=_is_measured)))
            if read.log.refresh() or read.recipe_time != recipe_time:
                read.row = None
            if read.row is None:
                recipe, last = run.recipe(), read.log.last
                read.row, read.recipe_time = (
                    RunRow(
                        name=name,
                        path=run.path,
                        task=recipe.task.kind,
                        data=tuple(recipe.data.path),
                        state="",
                        step=0 if last is None else last["step"],
                        share=0.0 if last is None else share_of_budget(recipe.train, last),
                        best=best_of(recipe, read.log.rows),
                        changed=read.log.changed or recipe_time / 1e9,
                    ),
                    recipe_time,
                )
            return read.row

    def _with_state(self, row: RunRow, run: RunFolder) -> RunRow:
        said = str(run.info().get("state", "imported"))
        job = self.jobs.find(row.name)
        if job is not None and job.is_alive:
            return replace(row, state="training")
        if said == "training":
            said = "training" if is_written(run) else "interrupted"
        if said in ("interrupted", "stopped") and job is not None and job.last_said >= _info_written(run):
            failure = job.failure()  # nothing was done with the run since, from a terminal or so
            if failure is not None:
                return replace(row, state="failed", problem=failure)
        return replace(row, state=said)

    def _row_of_job(self, job: TrainingProcess) -> RunRow:
        state, begun = "preparing" if job.is_alive else "failed", job.begun.timestamp()
        return RunRow(job.name, self.runs_dir / job.name, None, (), state, 0, 0.0, None, begun, job.failure())


@dataclass
class _Read:
    """What was read of a run."""

    log: GrowingRows  # what was measured, and the last row
    recipe_time: int = 0
    row: RunRow | None = None  # what that came to


def _is_worth_telling(job: TrainingProcess) -> bool:
    """Of a training without a folder: whether it is at work or said why it failed; else it was stopped or removed."""
    return job.is_alive or job.failure() is not None


def _is_measured(row: dict[str, Any]) -> bool:
    return row.get("split") == "valid"


def best_of(recipe: Recipe, rows: list[dict[str, Any]]) -> Best | None:
    """The best figure of the validation rows: a classifier's accuracy, else the fewest bits per byte, else the loss."""
    valid = list(filter(_is_measured, rows))
    if not valid:
        return None
    if recipe.task.kind == "classify":
        best = max(valid, key=lambda row: row["accuracy"])
        return Best("accuracy", best["accuracy"], best["step"])
    figure = "bits_per_byte" if all("bits_per_byte" in row for row in valid) else "loss"
    best = min(valid, key=lambda row: math.inf if math.isnan(row[figure]) else row[figure])
    return Best(figure, best[figure], best["step"])


def _info_written(run: RunFolder) -> float:
    file = run.path / "run.json"
    return file.stat().st_mtime if file.exists() else 0.0


def _damaged(run: RunFolder, error: Exception) -> RunError:
    return RunError(
        f"The run {run.path} cannot be read: {error}.",
        "A folder as Penna writes it.",
        "Restore it, or remove the folder.",
    )
