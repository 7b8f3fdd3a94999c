"""What all pages of one studio share: the runs folder, the data folder, the models and the training processes.

Runs are read from their folders on every request. Only what was read from unchanged files is cached.
"""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from penna.api.experiment_runner import share_of_budget
from penna.config.schema import Recipe
from penna.errors import PennaError, RunError
from penna.runs.folder import RunFolder
from penna.runs.metrics import read_rows
from penna.serve.settings import ServeSettings
from penna.studio.background import BackgroundThreads
from penna.studio.models import StudioModels, find_runs, missing_run_message
from penna.studio.training_processes import TrainingProcess, TrainingProcesses, is_locked

STUDIO_FOLDER = ".studio"  # the studio's own folder in the runs folder


class LogReader:
    """Reads a growing JSONL file incrementally, and from the start if it was replaced or truncated."""

    def __init__(self, file: Path, keep: Callable[[dict[str, Any]], bool] = lambda _: True) -> None:
        """``keep`` selects the rows that are kept in memory."""
        self.rows: list[dict[str, Any]] = []
        self.last: dict[str, Any] | None = None  # kept or not
        self.modified = 0.0  # seconds since 1970
        self._file, self._keep, self._inode, self._end = file, keep, 0, 0

    def refresh(self) -> bool:
        """Read what was added; return whether anything changed. An incomplete last line waits.

        Raises RunError for a line that is not JSON, at this call and every later one.
        """
        try:
            with open(self._file, "rb") as log:
                stat = os.fstat(log.fileno())
                is_replaced = stat.st_ino != self._inode or stat.st_size < self._end
                if is_replaced:
                    self._reset(stat.st_ino)
                log.seek(self._end)
                complete, newline, _ = log.read().rpartition(b"\n")
        except FileNotFoundError:
            existed = bool(self._inode)
            self._reset(0)
            return existed
        added = self._parse(complete)
        self._end += len(complete) + len(newline)
        self.modified = stat.st_mtime
        self.rows.extend(filter(self._keep, added))
        self.last = added[-1] if added else self.last
        return is_replaced or bool(added)

    def _reset(self, inode: int) -> None:
        self.rows, self.last, self.modified, self._inode, self._end = [], None, 0.0, inode, 0

    def _parse(self, lines: bytes) -> list[dict[str, Any]]:
        try:
            rows = [json.loads(line) for line in lines.split(b"\n") if line]
            if not all(isinstance(row, dict) for row in rows):
                raise ValueError("a row is not an object")
        except ValueError:
            read_rows(self._file)  # raises an error that names the line
            raise
        return rows


def thin(points: Sequence[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    """At most about ``most`` of the points, evenly spaced, with the first and the last."""
    stride = -(-len(points) // most) if points else 1
    kept = list(points[::stride])
    if points and kept[-1] != points[-1]:
        kept.append(points[-1])
    return kept


@dataclass(frozen=True)
class BestMetric:
    """The best validation result of a run, and the step at which it was measured."""

    metric: str  # a field of metrics.jsonl: "bits_per_byte", "accuracy" or "loss"
    value: float
    step: int


@dataclass(frozen=True)
class RunRow:
    """A run as a row of the list of runs."""

    name: str  # NAME, or EXPERIMENT/NAME
    path: Path
    task: str | None  # None without a readable recipe
    data: tuple[str, ...]  # files, as the recipe names them
    state: str  # "preparing", "training", "interrupted", "stopped", "finished", "imported", "failed" or "damaged"
    step: int
    share: float  # of the budget, 0 to 1
    best: BestMetric | None
    modified: float  # seconds since 1970
    problem: PennaError | None = None  # why it failed or cannot be read

    @property
    def is_alive(self) -> bool:
        """Whether a process is working on it."""
        return self.state in ("preparing", "training")


@dataclass
class _CachedRow:
    """What was read of a run."""

    log: LogReader  # validation rows, and the last row
    recipe_time: int = 0
    row: RunRow | None = None


@dataclass
class Studio:
    """One studio: its folders, models, training processes and background threads."""

    runs_dir: Path
    data_dir: Path | None
    settings: ServeSettings
    device: str = "auto"
    models: StudioModels = field(init=False)
    trainings: TrainingProcesses = field(init=False)
    background: BackgroundThreads = field(default_factory=BackgroundThreads, init=False)
    _cache: dict[Path, _CachedRow] = field(default_factory=dict[Path, _CachedRow], init=False)
    _cache_lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def __post_init__(self) -> None:
        self.models = StudioModels(self.settings, self.runs_dir, device=self.device)
        self.trainings = TrainingProcesses(self.runs_dir, self.runs_dir / STUDIO_FOLDER)

    @property
    def uploads(self) -> Path:
        """The folder of uploaded texts."""
        return self.runs_dir / STUDIO_FOLDER / "uploads"

    def runs(self) -> list[RunRow]:
        """All runs, active and recent ones first, and training processes that have no run folder yet."""
        runs = find_runs(self.runs_dir)
        rows = {name: self._row(name, run) for name, run in runs.items()}
        for removed in self._cache.keys() - {run.path for run in runs.values()}:
            self._cache.pop(removed, None)
        for process in self.trainings.all():
            if process.name not in rows and _is_listed(process):
                rows[process.name] = self._process_row(process)
        return sorted(rows.values(), key=lambda row: (row.is_alive, row.modified), reverse=True)

    def row(self, name: str) -> RunRow:
        """One run. Raises RunError if there is none of this name."""
        run = find_runs(self.runs_dir).get(name)
        if run is not None:
            return self._row(name, run)
        process = self.trainings.find(name)
        if process is not None and _is_listed(process):
            return self._process_row(process)
        raise RunError(*missing_run_message(name, self.runs_dir))

    def run(self, name: str) -> RunFolder:
        """The folder of a run. Raises RunError if it does not exist."""
        run = find_runs(self.runs_dir).get(name)
        if run is None:
            raise RunError(*missing_run_message(name, self.runs_dir))
        return run

    def _row(self, name: str, run: RunFolder) -> RunRow:
        try:
            return self._with_state(self._read_row(name, run), run)
        except (PennaError, OSError, KeyError, TypeError, ValueError) as error:
            problem = error if isinstance(error, PennaError) else _damaged(run, error)
            return RunRow(name, run.path, None, (), "damaged", 0, 0.0, None, 0.0, problem)

    def _read_row(self, name: str, run: RunFolder) -> RunRow:
        """A row without its state, cached until the recipe or the log changes."""
        recipe_time = (run.path / "recipe.toml").stat().st_mtime_ns
        with self._cache_lock:
            cached = self._cache.setdefault(run.path, _CachedRow(LogReader(run.metrics_file, keep=_is_validation)))
            if cached.log.refresh() or cached.recipe_time != recipe_time:
                cached.row = None
            if cached.row is None:
                recipe, last = run.recipe(), cached.log.last
                cached.recipe_time = recipe_time
                cached.row = RunRow(
                    name=name,
                    path=run.path,
                    task=recipe.task.kind,
                    data=tuple(recipe.data.path),
                    state="",
                    step=0 if last is None else last["step"],
                    share=0.0 if last is None else share_of_budget(recipe.train, last),
                    best=best_metric(recipe, cached.log.rows),
                    modified=cached.log.modified or recipe_time / 1e9,
                )
            return cached.row

    def _with_state(self, row: RunRow, run: RunFolder) -> RunRow:
        state = str(run.info().get("state", "imported"))
        process = self.trainings.find(row.name)
        if process is not None and process.is_alive:
            return replace(row, state="training")
        if state == "training":
            state = "training" if is_locked(run) else "interrupted"
        if state in ("interrupted", "stopped") and process is not None:
            failure = process.failure()
            if failure is not None and process.last_output_time >= _info_time(run):  # nothing used the run since then
                return replace(row, state="failed", problem=failure)
        return replace(row, state=state)

    def _process_row(self, process: TrainingProcess) -> RunRow:
        state, begun = "preparing" if process.is_alive else "failed", process.begun.timestamp()
        path = self.runs_dir / process.name
        return RunRow(process.name, path, None, (), state, 0, 0.0, None, begun, process.failure())


def _is_listed(process: TrainingProcess) -> bool:
    """Whether a process without a run folder is alive or failed. Otherwise it was stopped, or the run was deleted."""
    return process.is_alive or process.failure() is not None


def _is_validation(row: dict[str, Any]) -> bool:
    return row.get("split") == "valid"


def best_metric(recipe: Recipe, rows: list[dict[str, Any]]) -> BestMetric | None:
    """The best of the validation rows: a classifier's accuracy, otherwise bits per byte, otherwise the loss."""
    valid = list(filter(_is_validation, rows))
    if not valid:
        return None
    if recipe.task.kind == "classify":
        best = max(valid, key=lambda row: row["accuracy"])
        return BestMetric("accuracy", best["accuracy"], best["step"])
    metric = "bits_per_byte" if all("bits_per_byte" in row for row in valid) else "loss"
    best = min(valid, key=lambda row: math.inf if math.isnan(row[metric]) else row[metric])
    return BestMetric(metric, best[metric], best["step"])


def _info_time(run: RunFolder) -> float:
    file = run.path / "run.json"
    return file.stat().st_mtime if file.exists() else 0.0


def _damaged(run: RunFolder, error: Exception) -> RunError:
    return RunError(
        f"The run {run.path} cannot be read: {error}.",
        "A run folder must contain the files that Penna writes.",
        "Restore it, or delete the folder.",
    )
