"""The models of a studio: every run of a folder, those within experiments among them, as it comes and goes.

``penna serve`` is told its models when it starts; a studio looks again whenever it is asked, so that a run begun a
minute ago can be talked with, and one that has trained on, or was replaced, since it was loaded is read anew.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from penna.errors import PennaError, RunError
from penna.runs.checkpoint import MODEL
from penna.runs.folder import RunFolder
from penna.serve.registry import ModelInfo, Registry, UnknownModel
from penna.serve.settings import ServeSettings
from penna.serve.worker import Worker

_Weights = tuple[Path, int, int]  # a file, its inode, and when it was written: another file is another model


def runs_within(runs_dir: Path) -> dict[str, RunFolder]:
    """The runs of a folder by name; those of an experiment are called EXPERIMENT/RUN.

    Hidden folders are no runs, nor are those whose names no address can carry, which no verb gives.
    """
    files = [*runs_dir.glob("*/recipe.toml"), *runs_dir.glob("*/*/recipe.toml")]
    folders = (file.parent.relative_to(runs_dir) for file in files)
    return {
        folder.as_posix(): RunFolder(runs_dir / folder)
        for folder in sorted(folders)
        if folder.as_posix().isprintable() and not any(part.startswith(".") for part in folder.parts)
    }


def no_run(name: str, runs_dir: Path) -> tuple[str, str, str]:
    """What is told where a run is not there (any more)."""
    return (
        f"There is no run {name!r} here.",
        f"A run in {runs_dir}; it may have been removed or renamed.",
        "Choose one from the list of runs.",
    )


class StudioModels(Registry):
    """A registry whose models are what a folder holds at the moment."""

    def __init__(self, settings: ServeSettings, runs_dir: Path, *, device: str = "auto") -> None:
        super().__init__((), settings, runs_dir=runs_dir, device=device)
        self._read: dict[str, _Weights] = {}  # what a name stands for

    def cards(self) -> list[ModelInfo]:
        """What can be used now. What is loaded stays as it is, however old."""
        for name, run in runs_within(self._runs_dir).items():
            try:
                self._look(name, run)
            except PennaError:
                continue  # its own page says what it lacks
        return [card for card in super().models() if card.state != "gone"]

    async def worker(self, name: str) -> Worker:
        """The model of a run, at its best checkpoint of now unless an earlier one is at work.

        Raises what Registry.worker raises, UnknownModel where the run is gone, RunError where it has no checkpoint yet.
        """
        run = runs_within(self._runs_dir).get(name)
        weights = None if run is None else _weights_of(name, run)
        known = self._entries.get(name)
        if known is not None and known.is_unused and self._read.get(name) != weights:
            worker, known.worker = known.worker, None
            if worker is not None:
                await worker.close(1)
        if run is None:
            self._forget(name)
            raise UnknownModel(*no_run(name, self._runs_dir))
        self._look(name, run)
        return await super().worker(name)

    def _look(self, name: str, run: RunFolder) -> None:
        """Take a run in, or again where it has other weights and none are loaded."""
        weights = _weights_of(name, run)
        if self._is_loaded(name) or self._read.get(name) == weights:
            return
        entry = self._looked_at(str(run.path))
        entry.card = replace(entry.card, name=name)
        self._entries[name], self._read[name] = entry, weights

    def _forget(self, name: str) -> None:
        """Know a run no more whose folder is gone, unless it is at work."""
        if not self._is_loaded(name):
            self._entries.pop(name, None)
            self._read.pop(name, None)

    def _is_loaded(self, name: str) -> bool:
        known = self._entries.get(name)
        return known is not None and (known.worker is not None or known.loading is not None)


def _weights_of(name: str, run: RunFolder) -> _Weights:
    """The weights that are to be used. Raises RunError where there are none."""
    chosen = run.default_checkpoint()
    if chosen is None:
        raise RunError(
            f"The run {name} has no checkpoint yet.",
            "A checkpoint is written before the first step.",
            "Wait for it, or go on with the run.",
        )
    file = chosen / MODEL
    try:
        found = file.stat()
    except OSError as error:
        raise RunError(
            f"The run {name} has no weights at {chosen.name}.",
            f"A checkpoint with its {MODEL}.",
            "Restore the run's folder, or train it anew.",
        ) from error
    return file, found.st_ino, found.st_mtime_ns
