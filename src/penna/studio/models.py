"""The models of a studio: every run in a folder, including the runs of experiments, as the folder changes.

``penna serve`` gets its models at start. A studio looks at the folder on every request, so a new run is available at
once, and a run that has new weights is loaded again.
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

_WeightsId = tuple[Path, int, int]  # file, inode and modification time


def find_runs(runs_dir: Path) -> dict[str, RunFolder]:
    """The runs of a folder by name; those of an experiment are named EXPERIMENT/RUN.

    Hidden folders are skipped, and names that no web address can contain; Penna never creates those.
    """
    files = [*runs_dir.glob("*/recipe.toml"), *runs_dir.glob("*/*/recipe.toml")]
    folders = (file.parent.relative_to(runs_dir) for file in files)
    return {
        folder.as_posix(): RunFolder(runs_dir / folder)
        for folder in sorted(folders)
        if folder.as_posix().isprintable() and not any(part.startswith(".") for part in folder.parts)
    }


def missing_run_message(name: str, runs_dir: Path) -> tuple[str, str, str]:
    """The three sentences of an error about a run that does not exist."""
    return (
        f"There is no run {name!r} here.",
        f"The run must be in {runs_dir}; it may have been deleted or renamed.",
        "Choose one from the list of runs.",
    )


class StudioModels(Registry):
    """A registry whose models are the runs that are in a folder at the moment."""

    def __init__(self, settings: ServeSettings, runs_dir: Path, *, device: str = "auto") -> None:
        super().__init__((), settings, runs_dir=runs_dir, device=device)
        self._weights: dict[str, _WeightsId] = {}  # by model name

    def list_models(self) -> list[ModelInfo]:
        """The models that can be used now. A loaded model stays, even if its run has newer weights."""
        for name, run in find_runs(self._runs_dir).items():
            try:
                self._register(name, run)
            except PennaError:
                continue  # the run's own page shows the error
        return [card for card in super().list_models() if card.state != "gone"]

    async def worker(self, name: str) -> Worker:
        """The worker of a run's best checkpoint. An older checkpoint is used as long as somebody is using it.

        Raises what Registry.worker raises, UnknownModel if the run is gone, RunError if it has no checkpoint yet.
        """
        run = find_runs(self._runs_dir).get(name)
        weights = None if run is None else _weights_id(name, run)
        entry = self._entries.get(name)
        if entry is not None and entry.is_unused and self._weights.get(name) != weights:
            worker, entry.worker = entry.worker, None
            if worker is not None:
                await worker.close(1)
        if run is None:
            self._forget(name)
            raise UnknownModel(*missing_run_message(name, self._runs_dir))
        self._register(name, run)
        return await super().worker(name)

    def _register(self, name: str, run: RunFolder) -> None:
        """Add a run, or replace it if it has other weights and none are loaded."""
        weights = _weights_id(name, run)
        if self._is_loaded(name) or self._weights.get(name) == weights:
            return
        entry = self._entry(str(run.path))
        entry.target = replace(entry.target, info=replace(entry.target.info, name=name))
        self._entries[name], self._weights[name] = entry, weights

    def _forget(self, name: str) -> None:
        """Remove a run whose folder is gone, unless it is in use."""
        if not self._is_loaded(name):
            self._entries.pop(name, None)
            self._weights.pop(name, None)

    def _is_loaded(self, name: str) -> bool:
        entry = self._entries.get(name)
        return entry is not None and (entry.worker is not None or entry.loading is not None)


def _weights_id(name: str, run: RunFolder) -> _WeightsId:
    """Identify the weights to use. Raises RunError if there are none."""
    checkpoint = run.default_checkpoint()
    if checkpoint is None:
        raise RunError(
            f"The run {name} has no checkpoint yet.",
            "Training writes the first checkpoint before its first step.",
            "Wait for it, or resume the run.",
        )
    file = checkpoint / MODEL
    try:
        stat = file.stat()
    except OSError as error:
        raise RunError(
            f"The run {name} has no weights in {checkpoint.name}.",
            f"A checkpoint must contain {MODEL}.",
            "Restore the run's folder, or train it again.",
        ) from error
    return file, stat.st_ino, stat.st_mtime_ns
