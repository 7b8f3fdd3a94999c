"""The run folder: everything one run is, under one name.

    runs/<name>/  recipe.toml  run.json  decisions.json  tokenizer/  metrics.jsonl  samples.jsonl
                  checkpoints/step-00001000/{model.safetensors, optimizer.safetensors, state.json, checksums.json}
                  best -> checkpoints/…  last -> checkpoints/…  evaluations/*.json  figures/*.svg

This is the one place that creates, finds and locks runs. A run being created carries a temporary name until its recipe
and tokenizer are there, so a failed start leaves nothing behind.
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

RUNS = Path("runs")  # where runs are kept unless said otherwise
_A_LOOK = 0.5  # seconds that a look at a lock never takes
_NAME = re.compile(r"[^\W_][\w.\-]*")
_LONGEST_NAME = 200  # bytes, which leaves room for endings


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
        """The folder of its checkpoints."""
        return self.path / "checkpoints"

    @property
    def figures(self) -> Path:
        """The folder of its figures."""
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
        return self._json("run.json")

    def update_info(self, **changes: Any) -> None:
        """Change fields of run.json."""
        write_json(self.path / "run.json", {**self.info(), **changes})

    def decisions(self) -> dict[str, Any]:
        """What was decided by measuring (threads, compile) or by the clock; empty where nothing is yet."""
        return self._json("decisions.json")

    def save_decisions(self, **decisions: Any) -> None:
        """Record decisions before they take effect."""
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
        """Forget what came after ``step``: rows, checkpoints of later steps, and links to them."""
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
        """The checkpoint ``best`` or ``last`` points to, whole or not; None where there is no such link."""
        target = self.path / link
        return target.resolve() if target.is_symlink() else None

    def default_checkpoint(self) -> Path | None:
        """The checkpoint to be used: the best one; the last, where only the start was ever measured."""
        best, last = self.checkpoint("best"), self.checkpoint("last")
        if best is None or last is None:
            return best or last
        measured = (row["step"] for row in iter_rows(self.metrics_file) if row.get("split") == "valid")
        return best if any(step > 0 for step in measured) else last

    def prune(self, keep: int) -> None:
        """Remove all checkpoints but the newest ``keep``, the best and the last."""
        kept = {self.checkpoint("best"), self.checkpoint("last")}
        for checkpoint in list_checkpoints(self.checkpoints)[:-keep]:
            if checkpoint.resolve() not in kept:
                shutil.rmtree(checkpoint)

    @contextmanager
    def lock(self) -> Generator[None]:
        """Hold the run for writing. Raises RunError where another process does; a kill frees it.

        Who only looks whether it is held holds it for a moment, which is waited out.
        """
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=_A_LOOK)
        except Timeout as error:
            raise RunError(
                f"The run {self.path} is being written by another process.",
                "One process trains a run at a time.",
                "Wait for it or stop it, or train under another --name.",
            ) from error
        try:
            yield
        finally:
            lock.release()

    def _json(self, name: str) -> dict[str, Any]:
        file = self.path / name
        if not file.exists():
            return {}
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise RunError(
                f"{file} is not valid JSON: {error}.", "Penna writes this file whole.", "Restore or remove it."
            ) from error
        if not isinstance(found, dict):
            raise RunError(f"{file} holds no JSON object.", "Penna writes this file whole.", "Restore or remove it.")
        return cast(dict[str, Any], found)


def check_name(name: str) -> None:
    """Refuse a run name that is not a plain file name."""
    if len(name.encode()) > _LONGEST_NAME:
        raise RunError(
            f"A name of {len(name):,} characters is too long for a run.",
            f"At most {_LONGEST_NAME} bytes; file systems take hardly more.",
            "Choose a shorter --name.",
        )
    if not _NAME.fullmatch(name):
        raise RunError(
            f"{name!r} cannot name a run.",
            "A name is letters, digits, '.', '_' and '-', and starts with a letter or digit; no folders.",
            "Choose another --name; --runs-dir chooses the folder.",
        )


def free_name(runs_dir: Path, stem: str) -> str:
    """``stem``, or ``stem-2``, ``stem-3`` … : the first that no run has."""
    name, number = stem, 2
    while (runs_dir / name).exists():
        name, number = f"{stem}-{number}", number + 1
    return name


def check_name_is_free(runs_dir: Path, name: str, overwrite: bool) -> None:
    """Refuse a name that a run has already, unless it may be overwritten and is a run."""
    check_name(name)
    path = runs_dir / name
    if not path.exists():
        return
    if not overwrite:
        raise RunError(
            f"The run {path} exists.",
            "A new run needs a free name.",
            f"Go on with it (`penna resume {path}`), choose another --name, or replace it with --overwrite.",
        )
    if not (path / "recipe.toml").exists():
        raise RunError(
            f"{path} exists and is not a run (it has no recipe.toml), so it is not overwritten.",
            "--overwrite replaces a run only.",
            "Choose another --name.",
        )


@contextmanager
def new_run(runs_dir: Path, name: str, recipe: Recipe, *, overwrite: bool = False) -> Generator[RunFolder]:
    """Make ``runs_dir/name``: the block fills it under a temporary name; it gets its own when the block succeeds."""
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
    """The run of a path or of a name under ``runs_dir``. Raises RunError naming the runs there are."""
    for path in (Path(target), runs_dir / target):
        if (path / "recipe.toml").is_file():
            return RunFolder(path)
    names = sorted(path.parent.name for path in runs_dir.glob("*/recipe.toml"))
    raise RunError(
        f"{target!r} is not a run.",
        "A run is a folder with a recipe.toml in it, given by path or by its name"
        + (f"; under {runs_dir} there are: {', '.join(names)}." if names else f"; {runs_dir} holds none yet."),
        "Check the name, or make one: `penna demo`.",
    )
