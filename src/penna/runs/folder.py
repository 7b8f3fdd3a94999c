"""The run folder: everything that belongs to one run.

    runs/<name>/  recipe.toml  run.json  decisions.json  tokenizer/  metrics.jsonl  samples.jsonl
                  checkpoints/step-00001000/{model.safetensors, optimizer.safetensors, state.json, checksums.json}
                  best -> checkpoints/…  last -> checkpoints/…  evaluations/*.json  figures/*.svg

Only this module creates, finds and locks runs. A new run has a temporary name until its recipe and tokenizer are
written, so a failed start leaves nothing.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from filelock import FileLock, Timeout

from penna.config.recipe import build_recipe, read_toml, recipe_toml
from penna.config.schema import Recipe
from penna.errors import RunError
from penna.runs.checkpoint import list_checkpoints
from penna.runs.metrics import append_row, drop_rows_after, iter_rows, read_rows
from penna.storage import friendly_disk_errors, update_symlink, write_atomically, write_json

RUNS = Path("runs")  # the default folder of runs
_LOCK_TIMEOUT = 0.5  # seconds; a process that only tests the lock holds it for less
_NAME = re.compile(r"[^\W_][\w.\-]*")
_MAX_NAME_BYTES = 200  # leaves space for file endings


@dataclass(frozen=True)
class RunFolder:
    """One run on disk."""

    path: Path

    @property
    def name(self) -> str:
        """The run's name."""
        return self.path.name

    @property
    def tokenizer(self) -> Path:
        """The folder of the run's tokenizer."""
        return self.path / "tokenizer"

    @property
    def checkpoints(self) -> Path:
        """The folder of the run's checkpoints."""
        return self.path / "checkpoints"

    @property
    def figures(self) -> Path:
        """The folder of the run's plots."""
        return self.path / "figures"

    @property
    def metrics_file(self) -> Path:
        """metrics.jsonl."""
        return self.path / "metrics.jsonl"

    @property
    def samples_file(self) -> Path:
        """samples.jsonl."""
        return self.path / "samples.jsonl"

    def recipe(self) -> Recipe:
        """The recipe the run was started with."""
        return build_recipe(read_toml(self.path / "recipe.toml"), origin=f"recipe of {self.path}")

    def info(self) -> dict[str, Any]:
        """run.json: versions, machine, data and tokenizer hashes, state."""
        return self._read_json("run.json")

    def update_info(self, **changes: Any) -> None:
        """Change fields of run.json."""
        write_json(self.path / "run.json", {**self.info(), **changes})

    def decisions(self) -> dict[str, Any]:
        """The choices made by measuring (matmul, threads, compile) and by the clock; empty if there are none yet."""
        return self._read_json("decisions.json")

    def save_decisions(self, **decisions: Any) -> None:
        """Add decisions to decisions.json. Call it before they take effect."""
        write_json(self.path / "decisions.json", {**self.decisions(), **decisions})

    def metrics(self) -> list[dict[str, Any]]:
        """All rows of metrics.jsonl."""
        return read_rows(self.metrics_file)

    def samples(self) -> list[dict[str, Any]]:
        """All rows of samples.jsonl."""
        return read_rows(self.samples_file)

    def log(self, row: dict[str, Any]) -> None:
        """Append a row to metrics.jsonl."""
        append_row(self.metrics_file, row)

    def log_sample(self, row: dict[str, Any]) -> None:
        """Append a row to samples.jsonl."""
        append_row(self.samples_file, row)

    def save_evaluation(self, name: str, result: dict[str, Any]) -> Path:
        """Write evaluations/NAME.json."""
        folder = self.path / "evaluations"
        with friendly_disk_errors(folder):
            folder.mkdir(exist_ok=True)
        write_json(folder / f"{name}.json", result)
        return folder / f"{name}.json"

    def rewind(self, step: int) -> None:
        """Remove everything after ``step``: rows, checkpoints, and links to them."""
        for checkpoint in list_checkpoints(self.checkpoints):
            if int(checkpoint.name.removeprefix("step-")) > step:
                shutil.rmtree(checkpoint)
        for link in (self.path / "best", self.path / "last"):
            if not link.exists():
                link.unlink(missing_ok=True)
        drop_rows_after(self.metrics_file, step)
        drop_rows_after(self.samples_file, step)

    def set_checkpoint(self, link: str, checkpoint: Path) -> None:
        """Point ``best`` or ``last`` to a checkpoint."""
        update_symlink(self.path / link, f"checkpoints/{checkpoint.name}")

    def checkpoint(self, link: str) -> Path | None:
        """The checkpoint that ``best`` or ``last`` points to, intact or not; None without a link."""
        target = self.path / link
        return target.resolve() if target.is_symlink() else None

    def default_checkpoint(self) -> Path | None:
        """The checkpoint to use: the best one, or the last one if only the untrained model was evaluated."""
        best, last = self.checkpoint("best"), self.checkpoint("last")
        if best is None or last is None:
            return best or last
        evaluated = (row["step"] for row in iter_rows(self.metrics_file) if row.get("split") == "valid")
        return best if any(step > 0 for step in evaluated) else last

    def prune(self, keep: int) -> None:
        """Remove all checkpoints except the newest ``keep``, the best and the last."""
        kept = {self.checkpoint("best"), self.checkpoint("last")}
        for checkpoint in list_checkpoints(self.checkpoints)[:-keep]:
            if checkpoint.resolve() not in kept:
                shutil.rmtree(checkpoint)

    @contextmanager
    def lock(self) -> Generator[None]:
        """Lock the run for writing. Raises RunError if another process has the lock; a kill releases it."""
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=_LOCK_TIMEOUT)
        except Timeout as error:
            raise RunError(
                f"The run {self.path} is being written by another process.",
                "Only one process may train a run at a time.",
                "Wait for it, stop it, or train with another --name.",
            ) from error
        try:
            yield
        finally:
            lock.release()

    def _read_json(self, name: str) -> dict[str, Any]:
        file = self.path / name
        if not file.exists():
            return {}
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise RunError(
                f"{file} is not valid JSON: {error}.", "Penna writes this file atomically.", "Restore or remove it."
            ) from error
        if not isinstance(content, dict):
            raise RunError(
                f"{file} is not a JSON object.", "Penna writes this file atomically.", "Restore or remove it."
            )
        return cast(dict[str, Any], content)


def check_name(name: str) -> None:
    """Raise RunError if a run name is not a plain file name."""
    if len(name.encode()) > _MAX_NAME_BYTES:
        raise RunError(
            f"A run name of {len(name):,} characters is too long.",
            f"It must have at most {_MAX_NAME_BYTES} bytes; file systems allow hardly more.",
            "Choose a shorter --name.",
        )
    if not _NAME.fullmatch(name):
        raise RunError(
            f"{name!r} is not a valid run name.",
            "A name has letters, digits, '.', '_' and '-', and starts with a letter or digit; it names no folders.",
            "Choose another --name; --runs-dir chooses the folder.",
        )


def free_name(runs_dir: Path, stem: str) -> str:
    """The first of ``stem``, ``stem-2``, ``stem-3`` … that is not taken."""
    name, number = stem, 2
    while (runs_dir / name).exists():
        name, number = f"{stem}-{number}", number + 1
    return name


def check_name_is_free(runs_dir: Path, name: str, overwrite: bool) -> None:
    """Raise RunError if a name is taken, unless by a run that may be overwritten."""
    check_name(name)
    path = runs_dir / name
    if not path.exists():
        return
    if not overwrite:
        raise RunError(
            f"The run {path} exists.",
            "A new run needs a free name.",
            f"Resume it (`penna resume {path}`), choose another --name, or replace it with --overwrite.",
        )
    if not (path / "recipe.toml").exists():
        raise RunError(
            f"{path} exists and is not a run (it has no recipe.toml), so it is not overwritten.",
            "--overwrite replaces only runs.",
            "Choose another --name.",
        )


@contextmanager
def new_run(runs_dir: Path, name: str, recipe: Recipe, *, overwrite: bool = False) -> Generator[RunFolder]:
    """Create ``runs_dir/name``. It has a temporary name inside the block, and is renamed if the block succeeds."""
    check_name_is_free(runs_dir, name, overwrite)
    path, temporary = runs_dir / name, runs_dir / f".{name}.new"
    with friendly_disk_errors(path):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            (temporary / "checkpoints").mkdir()
            write_atomically(temporary / "recipe.toml", recipe_toml(recipe))
            yield RunFolder(temporary)
            if path.exists():
                with RunFolder(path).lock():
                    shutil.rmtree(path)
            temporary.rename(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def find_run(target: str, runs_dir: Path) -> RunFolder:
    """The run at a path, or with a name under ``runs_dir``. Raises RunError that lists the existing runs."""
    for path in (Path(target), runs_dir / target):
        if (path / "recipe.toml").is_file():
            return RunFolder(path)
    names = sorted(path.parent.name for path in runs_dir.glob("*/recipe.toml"))
    raise RunError(
        f"{target!r} is not a run.",
        "A run is a folder with a recipe.toml, given by its path or name. "
        + (f"The runs in {runs_dir} are: {', '.join(names)}." if names else f"{runs_dir} has no runs yet."),
        "Check the name, or train a run: `penna demo`.",
    )
