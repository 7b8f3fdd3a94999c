"""The served models, by name: described when the server starts, loaded on demand.

A model is loaded at its first request, one model at a time, and stays loaded. If the memory limit would be exceeded,
unused models are unloaded, the least recently used first. A model is in use while it has work, and while an asyncio
task that requested it runs.
"""

from __future__ import annotations

import asyncio
import logging
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from penna.api.models import load
from penna.config.schema import Recipe
from penna.errors import DeviceError, InteropError, PennaError, RunError, TokenizerError
from penna.interop.hf_config import config_from_json
from penna.interop.hf_files import SINGLE, read_json_object, read_weights
from penna.interop.hf_folder import HFModel
from penna.loading import LoadedModel, find_run_and_checkpoint, hf_folder
from penna.model.precision import Dtype
from penna.runs.checkpoint import MODEL
from penna.runs.folder import RUNS, RunFolder, check_name
from penna.serve.generation_job import server_stopping
from penna.serve.memory import Footprint, footprint
from penna.serve.settings import ServeSettings
from penna.serve.worker import Busy, Worker
from penna.train.device import resolve_device

_LOG = logging.getLogger(__name__)
ModelState = Literal["loaded", "not loaded", "gone"]


class UnknownModel(PennaError):  # noqa: N818 - the client's error, as in OpenAI's API
    """There is no served model of this name."""


class UnreadableModel(PennaError):  # noqa: N818 - not the client's error
    """The files of a model have become unreadable."""

    exit_code = 1


@dataclass(frozen=True)
class ModelInfo:
    """What is known of a model without loading it."""

    name: str
    task: str
    created: int  # seconds since 1970
    block_size: int
    parameters: int
    state: ModelState


@dataclass(frozen=True)
class ServedTarget:
    """A model that can be served."""

    info: ModelInfo
    path: str
    required_files: tuple[Path, ...]
    footprint: Footprint


def inspect_target(target: str, runs_dir: Path, device: str, dtype: Dtype) -> ServedTarget:
    """Describe a run, checkpoint or Hugging Face folder, optionally given as NAME=TARGET.

    Raises RunError or InteropError if it is none of these.
    """
    alias, is_named, rest = target.partition("=")
    if not is_named or Path(target).exists():
        alias, rest = None, target
    else:
        check_name(alias)
    folder = hf_folder(rest)
    if folder is not None:
        path = folder.resolve()
        name, config_file = path.name, path / "config.json"
        created, files = int(config_file.stat().st_mtime), _weight_files(path)
        _, config, labels = config_from_json(read_json_object(config_file), config_file)
        task, required = HFModel(config, {}, None, labels).task, (config_file, *files)
    else:
        run, checkpoint = find_run_and_checkpoint(rest, runs_dir)
        path = run.path.resolve()
        name, created, recipe = path.name, _created(run), run.recipe()
        config, task = recipe.model, recipe.task
        chosen = checkpoint or run.default_checkpoint()
        if chosen is None:
            raise RunError(
                f"The run {run.path} has no checkpoint yet.",
                "Training writes one before its first step.",
                f"Resume it: `penna resume {run.path}`.",
            )
        files = [chosen / MODEL]
        link = "best" if chosen == run.checkpoint("best") else "last"  # a run that is still training moves its links
        required = (path / "recipe.toml", path / link / MODEL)
        if checkpoint is not None:
            name, path, required = f"{name}-{checkpoint.name}", checkpoint, (checkpoint / MODEL,)
    memory = footprint(config, files, resolve_device(device), dtype)
    info = ModelInfo(alias or name, task.kind, created, config.block_size, memory.parameters, "not loaded")
    return ServedTarget(info, str(path), required, memory)


def _weight_files(folder: Path) -> list[Path]:
    """The weight files of a Hugging Face folder. Raises InteropError if it has none that can be read."""
    files = [folder / SINGLE] if (folder / SINGLE).is_file() else sorted(folder.glob("*.safetensors"))
    if not files:
        read_weights(folder, allow_pickle=False)
    return files


def _created(run: RunFolder) -> int:
    try:
        return int(datetime.fromisoformat(str(run.info().get("created"))).timestamp())
    except ValueError:
        return int((run.path / "recipe.toml").stat().st_mtime)


@dataclass(frozen=True)
class _CachedRun(RunFolder):
    """A run that remembers its recipe when its folder is gone."""

    cached_recipe: Recipe

    def recipe(self) -> Recipe:
        """The recipe when the model was loaded."""
        return self.cached_recipe


@dataclass(eq=False)
class _Entry:
    """A served model and its worker."""

    target: ServedTarget
    slots: int
    worker: Worker | None = None
    loading: asyncio.Task[Worker] | None = None
    waiting: int = 0  # tasks waiting for it to load
    last_used: int = 0  # a counter
    tasks: set[asyncio.Task[Any]] = field(default_factory=set[asyncio.Task[Any]])

    @property
    def name(self) -> str:
        return self.target.info.name

    @property
    def bytes(self) -> int:
        return self.target.footprint.bytes(self.slots)

    @property
    def is_unused(self) -> bool:
        return self.worker is not None and self.worker.is_idle and not self.tasks

    @property
    def state(self) -> ModelState:
        if self.worker is not None:
            return "loaded"
        return "not loaded" if all(file.is_file() for file in self.target.required_files) else "gone"


class Registry:
    """The models of one server."""

    def __init__(
        self,
        targets: Sequence[str],
        settings: ServeSettings,
        *,
        runs_dir: Path = RUNS,
        device: str = "auto",
        dtype: Dtype = "float32",
    ) -> None:
        """Inspect every target: a run by name or path, a checkpoint or a Hugging Face folder, also as NAME=TARGET.

        Nothing is loaded. Raises RunError or InteropError if a target is no model, RunError if two have the same name,
        and DeviceError if one alone exceeds the memory limit.
        """
        self._settings, self._runs_dir, self._device = settings, runs_dir, device
        self._dtype: Dtype = dtype
        self._entries: dict[str, _Entry] = {}
        self._load_lock = asyncio.Lock()
        self._requests = 0
        self._is_closing = False
        for target in targets:
            entry = self._entry(target)
            if entry.name in self._entries:
                raise RunError(
                    f"Two models would be served as {entry.name!r}: {self._entries[entry.name].target.path} and "
                    f"{entry.target.path}.",
                    "Clients need a unique name for each model.",
                    f"Name one of them yourself: OTHER-NAME={target.partition('=')[2] or target}.",
                )
            self._entries[entry.name] = entry

    def list_models(self) -> list[ModelInfo]:
        """All served models, in the order of the targets."""
        return [replace(entry.target.info, state=entry.state) for entry in self._entries.values()]

    def model_info(self, name: str) -> ModelInfo:
        """The model of this name. Raises UnknownModel if there is none."""
        models = {model.name: model for model in self.list_models()}
        if name not in models:
            raise self._unknown(name)
        return models[name]

    def workers(self) -> dict[str, Worker]:
        """The loaded models, by name."""
        return {name: entry.worker for name, entry in self._entries.items() if entry.worker is not None}

    async def worker(self, name: str) -> Worker:
        """The worker of a model, which is loaded if necessary and stays loaded at least until the calling task ends.

        Raises UnknownModel, Busy if other models need the memory or too many tasks wait, ModelClosing if the server
        stops, and the errors of loading.
        """
        entry = self._entries.get(name)
        if entry is None:
            raise self._unknown(name)
        self._check_open()
        task = asyncio.current_task()
        if task is not None and task not in entry.tasks:
            entry.tasks.add(task)
            task.add_done_callback(entry.tasks.discard)
        self._requests += 1
        entry.last_used = self._requests
        return entry.worker or await self._wait_until_loaded(entry)

    async def close(self, drain: float) -> None:
        """Let all models finish their work within ``drain`` seconds and unload them."""
        self._is_closing = True
        for task in [entry.loading for entry in self._entries.values() if entry.loading is not None]:
            task.cancel()
        await asyncio.gather(*(worker.close(drain) for worker in self.workers().values()))
        for entry in self._entries.values():
            entry.worker = None

    def _unknown(self, name: str) -> UnknownModel:
        return UnknownModel(
            f"There is no model {reprlib.repr(name)} here.",
            f"One of: {', '.join(self._entries)}." if self._entries else "No model is served.",
            "Use one of these names; GET /v1/models lists them.",
        )

    def _check_open(self) -> None:
        if self._is_closing:
            raise server_stopping()

    async def _wait_until_loaded(self, entry: _Entry) -> Worker:
        """Load a model, or wait while it loads; cancelling a waiting task does not stop the loading."""
        maximum = self._settings.slots + self._settings.max_waiting
        if entry.waiting >= maximum:
            raise Busy(
                f"{entry.waiting:,} requests wait for {entry.name} to load.", f"At most {maximum:,} may wait.", 5.0
            )
        if entry.loading is None:
            entry.loading = asyncio.create_task(self._load(entry))
            entry.loading.add_done_callback(_retrieve_exception)
        loading, entry.waiting = entry.loading, entry.waiting + 1
        try:
            return await asyncio.shield(loading)
        except asyncio.CancelledError:
            if loading.cancelled():
                raise server_stopping() from None
            raise
        finally:
            entry.waiting -= 1

    async def _load(self, entry: _Entry) -> Worker:
        try:
            async with self._load_lock:
                self._check_open()
                if entry.state == "gone":
                    raise UnknownModel(
                        f"The model {entry.name} is gone: its files were deleted while it was served.",
                        "A model's files must exist when it is loaded.",
                        "Use another model; GET /v1/models lists them.",
                    )
                await self._free_memory(entry)
                entry.worker = await asyncio.to_thread(self._create_worker, entry)
                return entry.worker
        finally:
            entry.loading = None

    def _create_worker(self, entry: _Entry) -> Worker:
        try:
            loaded = load(entry.target.path, runs_dir=self._runs_dir, device=self._device, dtype=self._dtype)
            self._check_open()
            return Worker(_with_cached_recipe(loaded), self._settings, slots=entry.slots)
        except (RunError, InteropError, TokenizerError, OSError) as error:  # their messages contain local paths
            _LOG.error("%s cannot be loaded", entry.name, exc_info=error)
            raise UnreadableModel(
                f"The model {entry.name} cannot be loaded: its files were changed or damaged after the server started.",
                "The server's log has the details.",
                "Use another model, or tell the administrator of the server.",
            ) from error

    async def _free_memory(self, entry: _Entry) -> None:
        """Unload as many unused models as necessary. Raises Busy if that is not enough."""
        limit = self._settings.memory_limit
        if limit is None:
            return
        others = [other for other in self._entries.values() if other.worker is not None]
        unused = sorted((other for other in others if other.is_unused), key=lambda other: other.last_used)
        excess = entry.bytes + sum(other.bytes for other in others) - limit
        if excess <= sum(other.bytes for other in unused):
            for other in unused:
                # Closing a worker takes a moment, in which the others may have been used.
                if excess > 0 and other.worker is not None and other.is_unused:
                    worker, other.worker = other.worker, None
                    excess -= other.bytes
                    await worker.close(1)
        if excess > 0:
            raise Busy(
                f"There is no memory for {entry.name} now: other models are in use.",
                f"All loaded models may take {_format_bytes(limit)} together (memory_limit).",
                5.0,
            )

    def _entry(self, target: str) -> _Entry:
        """The entry of a target, with as many slots as the memory limit allows."""
        found = inspect_target(target, self._runs_dir, self._device, self._dtype)
        limit = self._settings.memory_limit
        slots = found.footprint.slots_within(limit, self._settings.slots)
        if limit is not None and slots == 0:
            raise DeviceError(
                f"{found.info.name} alone takes {_format_bytes(found.footprint.bytes(1))}, even with one slot.",
                f"All loaded models may take {_format_bytes(limit)} together (memory_limit).",
                "Increase the limit, use --dtype bfloat16, or do not serve this model.",
            )
        return _Entry(found, slots)


def _with_cached_recipe(loaded: LoadedModel) -> LoadedModel:
    """A model that works even if its run folder is deleted."""
    return loaded if loaded.run is None else replace(loaded, run=_CachedRun(loaded.run.path, loaded.run.recipe()))


def _retrieve_exception(task: asyncio.Task[Worker]) -> None:
    """Keep asyncio from logging an error that nobody waits for."""
    if not task.cancelled():
        task.exception()


def _format_bytes(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.0f} MB"
