"""The experiment folder: the runs of one experiment, side by side under its name, and what becomes of each.

    runs/<name>/  experiment.toml  experiment.json  recipes/<arm>-s<seed>.toml  logs/<arm>-s<seed>.log
                  <arm>-s<seed>/ (ordinary run folders)  comparison/

This is the one place that makes, finds and locks experiments. The plan is settled when the folder is made: what an
experiment goes on with is in its recipes/, whatever became of the files they were made from.
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
from dataclasses import asdict, dataclass, replace
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
    """One run of an experiment, and what became of it."""

    arm: str
    seed: int
    is_start: bool
    values: dict[str, Any]  # what the axes (or the arm's own lines) say for it: axis name -> value or its name
    fields: dict[str, Any]  # the dotted recipe fields these set
    state: str = "waiting"  # one of STATES; one that was interrupted after it had begun is "training"
    message: str | None = None  # why it failed or was skipped, on one line
    needs: tuple[str, ...] = ()  # the runs that must be trained before it

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
        """The folder of its tables, figures and report."""
        return self.path / "comparison"

    def runs(self) -> list[PlannedRun]:
        """All runs, in the order they are begun in."""
        rows: list[dict[str, Any]] = self._json()["runs"]
        return [replace(PlannedRun(**row), needs=tuple(row["needs"])) for row in rows]

    def run_folder(self, planned: PlannedRun) -> RunFolder:
        """The folder of a run, there or not yet."""
        return RunFolder(self.path / planned.name)

    def recipe_file(self, planned: PlannedRun) -> Path:
        """The recipe that a run is trained from."""
        return self.path / "recipes" / f"{planned.name}.toml"

    def log_file(self, planned: PlannedRun) -> Path:
        """What its training said."""
        return self.path / "logs" / f"{planned.name}.log"

    def settings(self) -> dict[str, Any]:
        """The experiment file as a dictionary."""
        return tomllib.loads((self.path / _TEXT).read_text(encoding="utf-8"))

    def replace_text(self, text: str) -> None:
        """Keep another wording of the experiment file, one that asks for the same runs."""
        write_atomically(self.path / _TEXT, _named(text, self.name))

    def update_run(self, name: str, **changes: Any) -> None:
        """Change what is known of one run."""
        runs = [replace(run, **changes) if run.name == name else run for run in self.runs()]
        write_json(self.path / _PLAN, {**self._json(), "runs": [asdict(run) for run in runs]})

    def identical(self) -> dict[str, Any] | None:
        """What was found to be the same in all arms; None where that was not looked at yet."""
        return self._json().get("identical")

    def save_identical(self, found: Mapping[str, Any]) -> None:
        """Keep what was found to be the same in all arms."""
        write_json(self.path / _PLAN, {**self._json(), "identical": dict(found)})

    @contextmanager
    def lock(self) -> Generator[None]:
        """Hold the experiment. Raises RunError where another process runs it; a kill frees it."""
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise RunError(
                f"The experiment {self.path} is being run by another process.",
                "One process runs an experiment; --workers trains several of its runs at a time.",
                "Wait for it or stop it, or run it under another --name.",
            ) from error
        try:
            yield
        finally:
            lock.release()

    def lock_for_child(self, planned: PlannedRun) -> int | None:
        """An open file that locks a run for as long as any process has it open; None where one has it already.

        A child inherits it: a child that outlived its parent is known by it, from its first moment to its last.
        """
        path = self.path / "logs" / f".{planned.name}.lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def _json(self) -> dict[str, Any]:
        file = self.path / _PLAN
        try:
            return json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(
                f"{file} cannot be read: {error}.", "Penna writes this file whole.", "Restore or remove the experiment."
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
    """Make ``runs_dir/name``, whole or not at all; ``table_of`` gives each run's recipe in its future folder."""
    check_experiment_name_is_free(runs_dir, name, overwrite)
    made = ExperimentFolder(runs_dir / name)
    growing = runs_dir / f".{name}.new"
    with friendly_disk_errors(made.path):
        shutil.rmtree(growing, ignore_errors=True)
        growing.mkdir(parents=True)
        try:
            (growing / "recipes").mkdir()
            (growing / "logs").mkdir()
            write_atomically(growing / _TEXT, _named(text, name))
            for run in runs:
                write_atomically(growing / "recipes" / f"{run.name}.toml", tomli_w.dumps(table_of(made, run)))
            write_json(growing / _PLAN, {"name": name, "runs": [asdict(run) for run in runs], "identical": None})
            if made.path.exists():
                with made.lock():
                    shutil.rmtree(made.path)
            growing.rename(made.path)
        finally:
            shutil.rmtree(growing, ignore_errors=True)
    return made


def check_experiment_name_is_free(runs_dir: Path, name: str, overwrite: bool) -> None:
    """Refuse a name that is taken, unless by an experiment that may be overwritten and that no process trains."""
    check_name(name)
    path = runs_dir / name
    if not path.exists():
        return
    found = find_experiment(str(path), runs_dir)
    if found is None:
        raise RunError(
            f"{path} exists and is not an experiment (it has no {_PLAN}).",
            "A new experiment needs a free name; --overwrite replaces an experiment only.",
            "Choose another --name.",
        )
    if not overwrite:
        raise RunError(
            f"The experiment {path} exists.",
            "A new experiment needs a free name.",
            f"Go on with it (`penna experiment {path}`), choose another --name, or replace it with --overwrite.",
        )
    with found.lock():
        for run in found.runs():
            held = found.lock_for_child(run)
            if held is None:
                raise RunError(
                    f"{found.run_folder(run).path} is still being trained by a process left over from before.",
                    "An experiment that nobody writes may be overwritten.",
                    "Wait for that process or stop it, or choose another --name.",
                )
            os.close(held)


def find_experiment(target: str, runs_dir: Path) -> ExperimentFolder | None:
    """The experiment of a path or of a name under ``runs_dir``; None where it is none."""
    for path in (Path(target), runs_dir / target):
        if (path / _PLAN).is_file():
            return ExperimentFolder(path)
    return None


def _named(text: str, name: str) -> str:
    """An experiment file's text with the experiment's name in it."""
    given = tomllib.loads(text).get("name")
    line = f"name = {json.dumps(name, ensure_ascii=False)}"
    if given is None:
        return f"{line}\n{text}"
    return text if given == name else re.sub(r"(?m)^\s*name\s*=.*$", line, text, count=1)
