"""The experiment folder: the runs of one experiment, and the state of each.

    runs/<name>/  experiment.toml  experiment.json  recipes/<arm>-s<seed>.toml  logs/<arm>-s<seed>.log
                  <arm>-s<seed>/ (ordinary run folders)  comparison/

Only this module creates, finds and locks experiments. The plan is fixed when the folder is created: a resumed
experiment follows its recipes/, even if the files that they were made from have changed.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import tomllib
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tomli_w
from filelock import FileLock, Timeout

from penna.errors import RunError
from penna.runs.folder import RunFolder, check_name
from penna.storage import friendly_disk_errors, write_atomically, write_json

STATES = ("waiting", "training", "finished", "failed", "skipped")
_PLAN, _TEXT = "experiment.json", "experiment.toml"


@dataclass(frozen=True)
class PlannedRun:
    """One run of an experiment, and its state."""

    arm: str
    seed: int
    is_start: bool
    values: dict[str, Any]  # its values on the axes, or those of its arm: axis name -> value or its name
    fields: dict[str, Any]  # the dotted recipe fields that they set
    state: str = "waiting"  # one of STATES; an interrupted run is "training"
    message: str | None = None  # why it failed or was skipped, on one line
    needs: tuple[str, ...] = ()  # the runs that must be trained first

    @property
    def name(self) -> str:
        """The run's name in the folder."""
        return f"{self.arm}-s{self.seed}"


@dataclass(frozen=True)
class ExperimentFolder:
    """One experiment on disk."""

    path: Path

    @property
    def name(self) -> str:
        """The experiment's name."""
        return self.path.name

    @property
    def comparison(self) -> Path:
        """The folder of the comparison: tables, plots and report."""
        return self.path / "comparison"

    def runs(self) -> list[PlannedRun]:
        """All runs, in the order in which they are started."""
        rows: list[dict[str, Any]] = self._read_plan()["runs"]
        return [replace(PlannedRun(**row), needs=tuple(row["needs"])) for row in rows]

    def run_folder(self, planned: PlannedRun) -> RunFolder:
        """The folder of a run, which may not exist yet."""
        return RunFolder(self.path / planned.name)

    def recipe_file(self, planned: PlannedRun) -> Path:
        """The recipe of a run."""
        return self.path / "recipes" / f"{planned.name}.toml"

    def log_file(self, planned: PlannedRun) -> Path:
        """The output of a run's training."""
        return self.path / "logs" / f"{planned.name}.log"

    def settings(self) -> dict[str, Any]:
        """The experiment file as a dictionary."""
        return tomllib.loads((self.path / _TEXT).read_text(encoding="utf-8"))

    def replace_text(self, text: str) -> None:
        """Replace the experiment file by one that plans the same runs."""
        write_atomically(self.path / _TEXT, _named(text, self.name))

    def update_run(self, name: str, **changes: Any) -> None:
        """Change fields of one run in experiment.json."""
        runs = [replace(run, **changes) if run.name == name else run for run in self.runs()]
        write_json(self.path / _PLAN, {**self._read_plan(), "runs": runs})

    def identical(self) -> dict[str, Any] | None:
        """The settings and data that are identical in all arms; None if they were not compared yet."""
        return self._read_plan().get("identical")

    def save_identical(self, found: Mapping[str, Any]) -> None:
        """Save the settings and data that are identical in all arms."""
        write_json(self.path / _PLAN, {**self._read_plan(), "identical": dict(found)})

    @contextmanager
    def lock(self) -> Generator[None]:
        """Lock the experiment. Raises RunError if another process runs it; a kill releases the lock."""
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise RunError(
                f"The experiment {self.path} is being run by another process.",
                "Only one process may run an experiment; --workers trains several of its runs at once.",
                "Wait for it, stop it, or run it with another --name.",
            ) from error
        try:
            yield
        finally:
            lock.release()

    def lock_for_child(self, planned: PlannedRun) -> int | None:
        """An open file that locks a run while any process has it open; None if the run is locked already.

        A child process inherits it. So a child that outlives its parent holds the lock until it ends.
        """
        path = self.path / "logs" / f".{planned.name}.lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def _read_plan(self) -> dict[str, Any]:
        file = self.path / _PLAN
        try:
            return json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(
                f"{file} cannot be read: {error}.",
                "Penna writes this file atomically.",
                "Restore or remove the experiment.",
            ) from error


def new_experiment(
    runs_dir: Path,
    name: str,
    text: str,
    runs: Sequence[PlannedRun],
    table_of: Callable[[ExperimentFolder, PlannedRun], Mapping[str, Any]],
    *,
    overwrite: bool = False,
) -> ExperimentFolder:
    """Create ``runs_dir/name`` atomically. ``table_of`` returns the recipe of each run in its future folder."""
    check_experiment_name_is_free(runs_dir, name, overwrite)
    folder = ExperimentFolder(runs_dir / name)
    temporary = runs_dir / f".{name}.new"
    with friendly_disk_errors(folder.path):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            (temporary / "recipes").mkdir()
            (temporary / "logs").mkdir()
            write_atomically(temporary / _TEXT, _named(text, name))
            for run in runs:
                write_atomically(temporary / "recipes" / f"{run.name}.toml", tomli_w.dumps(table_of(folder, run)))
            write_json(temporary / _PLAN, {"name": name, "runs": runs, "identical": None})
            if folder.path.exists():
                with folder.lock():
                    shutil.rmtree(folder.path)
            temporary.rename(folder.path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder


def check_experiment_name_is_free(runs_dir: Path, name: str, overwrite: bool) -> None:
    """Raise RunError if a name is taken, unless by an experiment that may be overwritten and is not running."""
    check_name(name)
    path = runs_dir / name
    if not path.exists():
        return
    found = find_experiment(str(path), runs_dir)
    if found is None:
        raise RunError(
            f"{path} exists and is not an experiment (it has no {_PLAN}).",
            "A new experiment needs a free name; --overwrite replaces only experiments.",
            "Choose another --name.",
        )
    if not overwrite:
        raise RunError(
            f"The experiment {path} exists.",
            "A new experiment needs a free name.",
            f"Resume it (`penna experiment {path}`), choose another --name, or replace it with --overwrite.",
        )
    with found.lock():
        for run in found.runs():
            lock = found.lock_for_child(run)
            if lock is None:
                raise RunError(
                    f"{found.run_folder(run).path} is still being trained by a process of an earlier session.",
                    "Only an experiment that is not running may be overwritten.",
                    "Wait for that process, stop it, or choose another --name.",
                )
            os.close(lock)


def find_experiment(target: str, runs_dir: Path) -> ExperimentFolder | None:
    """The experiment at a path, or with a name under ``runs_dir``; None if there is none."""
    for path in (Path(target), runs_dir / target):
        if (path / _PLAN).is_file():
            return ExperimentFolder(path)
    return None


def _named(text: str, name: str) -> str:
    """The text of an experiment file, with the experiment's name in it."""
    given = tomllib.loads(text).get("name")
    line = f"name = {json.dumps(name, ensure_ascii=False)}"
    if given is None:
        return f"{line}\n{text}"
    return text if given == name else re.sub(r"(?m)^\s*name\s*=.*$", line, text, count=1)
