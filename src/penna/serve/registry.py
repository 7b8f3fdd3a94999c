"""The models that are served, by name and never by path: targets in when the server starts, workers out on demand.

A model is loaded when it is first asked for, one at a time, and stays. Where loading another would pass the memory
limit, those that nobody uses give way, the one that was used longest ago first. A model is in use while it has work to
do, and for as long as an asyncio task that asked for it runs.
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
from penna.serve.job import server_stopping
from penna.serve.memory import Footprint, footprint
from penna.serve.settings import ServeSettings
from penna.serve.worker import Busy, Worker
from penna.train.device import resolve_device

# MERGED serve.targets: What may be served: a run by name or path, a checkpoint or a Hugging Face folder in, what is
# known of it out.


State = Literal["loaded", "not loaded", "gone"]


@dataclass(frozen=True)
class ModelInfo:
    """What is known of a model without loading it."""

    name: str
    task: str
    created: int  # seconds since 1970
    block_size: int
    parameters: int
    state: State


@dataclass(frozen=True)
class ServedTarget:
    """A model that can be served."""

    card: ModelInfo
    path: str
    proofs: tuple[Path, ...]  # files without which there is no model
    footprint: Footprint


def inspect_target(word: str, runs_dir: Path, device: str, dtype: Dtype) -> ServedTarget:
    """What is known of a target, also one given as NAME=TARGET. Raises RunError or ExchangeError where it is none."""
    alias, is_named, rest = word.partition("=")
    if not is_named or Path(word).exists():
        alias, rest = None, word
    else:
        check_name(alias)
    folder = hf_folder(rest)
    if folder is not None:
        name, path, described = folder.resolve().name, folder.resolve(), folder.resolve() / "config.json"
        created, files = int(described.stat().st_mtime), _weights_of(path)
        _, config, labels = config_from_json(read_json_object(described), described)
        task, proofs = HFModel(config, {}, None, labels).task, (described, *files)
    else:
        run, checkpoint = find_run_and_checkpoint(rest, runs_dir)
        path = run.path.resolve()
        name, created, recipe = path.name, _created(run), run.recipe()
        config, task = recipe.model, recipe.task
        chosen = checkpoint or run.default_checkpoint()
        if chosen is None:
            raise RunError(
                f"The run {run.path} has no checkpoint yet.",
                "A checkpoint is written before the first step.",
                f"Go on with it: `penna resume {run.path}`.",
            )
        files = [chosen / MODEL]
        link = "best" if chosen == run.checkpoint("best") else "last"  # which a run that trains on moves
        proofs = (path / "recipe.toml", path / link / MODEL)
        if checkpoint is not None:
            name, path, proofs = f"{name}-{checkpoint.name}", checkpoint, (checkpoint / MODEL,)
    takes = footprint(config, files, resolve_device(device), dtype)
    card = ModelInfo(alias or name, task.kind, created, config.block_size, takes.parameters, "not loaded")
    return ServedTarget(card, str(path), proofs, takes)


def _weights_of(folder: Path) -> list[Path]:
    """The weight files of a Hugging Face folder. Raises ExchangeError where there are none that are read."""
    files = [folder / SINGLE] if (folder / SINGLE).is_file() else sorted(folder.glob("*.safetensors"))
    if not files:
        read_weights(folder, allow_pickle=False)
    return files


def _created(run: RunFolder) -> int:
    try:
        return int(datetime.fromisoformat(str(run.info().get("created"))).timestamp())
    except ValueError:
        return int((run.path / "recipe.toml").stat().st_mtime)


_LOG = logging.getLogger(__name__)


class UnknownModel(PennaError):  # noqa: N818 - a name that clients are told, as in OpenAI's API
    """A model that is not served."""


class UnreadableModel(PennaError):  # noqa: N818 - not the client's fault
    """A model whose files cannot be read any more."""

    exit_code = 1


@dataclass(frozen=True)
class _KeptRun(RunFolder):
    """A run whose recipe is known still when its folder is gone."""

    kept: Recipe

    def recipe(self) -> Recipe:
        """The recipe as it was when the model was loaded."""
        return self.kept


@dataclass(eq=False)
class _Entry:
    """A model that is served."""

    card: ModelInfo
    target: str
    proofs: tuple[Path, ...]  # files without which there is no model
    footprint: Footprint
    slots: int
    worker: Worker | None = None
    loading: asyncio.Task[Worker] | None = None
    waiting: int = 0  # tasks that wait for it to be loaded
    used: int = 0  # when it was last asked for, as a count
    tasks: set[asyncio.Task[Any]] = field(default_factory=set[asyncio.Task[Any]])

    @property
    def bytes(self) -> int:
        return self.footprint.bytes(self.slots)

    @property
    def is_unused(self) -> bool:
        return self.worker is not None and self.worker.is_idle and not self.tasks

    @property
    def state(self) -> State:
        if self.worker is not None:
            return "loaded"
        return "not loaded" if all(file.is_file() for file in self.proofs) else "gone"


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
        """Look at every target: a run by name or path, a checkpoint, a Hugging Face folder, each also as NAME=TARGET.

        Nothing is loaded. Raises RunError or ExchangeError where a target is no model, RunError where two have one
        name, and DeviceError where one alone passes the memory limit.
        """
        self._settings, self._runs_dir, self._device = settings, runs_dir, device
        self._dtype: Dtype = dtype
        self._entries: dict[str, _Entry] = {}
        self._turn = asyncio.Lock()  # to load
        self._count = 0
        self._is_closing = False
        for target in targets:
            entry = self._looked_at(target)
            name = entry.card.name
            if name in self._entries:
                raise RunError(
                    f"Two models would be served as {name!r}: {self._entries[name].target} and {entry.target}.",
                    "A name of its own for each, by which clients ask for it.",
                    f"Name one of them yourself: OTHER-NAME={target.partition('=')[2] or target}.",
                )
            self._entries[name] = entry

    def models(self) -> list[ModelInfo]:
        """What is served, in the order of the targets."""
        return [replace(entry.card, state=entry.state) for entry in self._entries.values()]

    def model(self, name: str) -> ModelInfo:
        """What is known of one. Raises UnknownModel where there is none of this name."""
        cards = {card.name: card for card in self.models()}
        if name not in cards:
            raise self._unknown(name)
        return cards[name]

    def workers(self) -> dict[str, Worker]:
        """Those that are loaded, by name."""
        return {name: entry.worker for name, entry in self._entries.items() if entry.worker is not None}

    async def worker(self, name: str) -> Worker:
        """The model of this name, loaded; it stays so at least until the task that asks is over.

        Raises UnknownModel where there is none of this name, or no more; Busy where others need the memory, or too many
        wait for it; Closing where the server stops; and what loading it raises.
        """
        entry = self._entries.get(name)
        if entry is None:
            raise self._unknown(name)
        self._check_open()
        task = asyncio.current_task()
        if task is not None and task not in entry.tasks:
            entry.tasks.add(task)
            task.add_done_callback(entry.tasks.discard)
        self._count += 1
        entry.used = self._count
        return entry.worker or await self._loaded(entry)

    async def close(self, drain: float) -> None:
        """Let all models end what they do within ``drain`` seconds, and put them away."""
        self._is_closing = True
        loading = [entry.loading for entry in self._entries.values() if entry.loading is not None]
        for task in loading:
            task.cancel()  # what is loaded now would do nothing any more
        await asyncio.gather(*(worker.close(drain) for worker in self.workers().values()))
        for entry in self._entries.values():
            entry.worker = None

    def _unknown(self, name: str) -> UnknownModel:
        return UnknownModel(
            f"There is no model {reprlib.repr(name)} here.",
            f"One of: {', '.join(self._entries)}." if self._entries else "None is served.",
            "Ask for one of these by its name; GET /v1/models lists them.",
        )

    def _check_open(self) -> None:
        if self._is_closing:
            raise server_stopping()

    async def _loaded(self, entry: _Entry) -> Worker:
        """The worker of a model that is being loaded, whoever asked for it first; who leaves does not stop that."""
        most = self._settings.slots + self._settings.max_waiting
        if entry.waiting >= most:
            raise Busy(
                f"{entry.waiting:,} requests wait for {entry.card.name} to be loaded.", f"At most {most:,}.", 5.0
            )
        if entry.loading is None:
            entry.loading = asyncio.create_task(self._load(entry))
            entry.loading.add_done_callback(_retrieved)
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
            async with self._turn:
                self._check_open()
                if entry.state == "gone":
                    raise UnknownModel(
                        f"The model {entry.card.name} is gone: its files were removed while it was served.",
                        "A model whose files are there when it is loaded.",
                        "Ask for another; GET /v1/models lists them.",
                    )
                await self._make_room(entry)
                entry.worker = await asyncio.to_thread(self._worker_of, entry)
                return entry.worker
        finally:
            entry.loading = None

    def _worker_of(self, entry: _Entry) -> Worker:
        try:
            loaded = load(entry.target, runs_dir=self._runs_dir, device=self._device, dtype=self._dtype)
            self._check_open()
            return Worker(_kept(loaded), self._settings, slots=entry.slots)
        except (RunError, InteropError, TokenizerError, OSError) as error:  # which tell of places on this machine
            _LOG.error("%s cannot be loaded", entry.card.name, exc_info=error)
            raise UnreadableModel(
                f"The model {entry.card.name} cannot be loaded: its files were changed or damaged since the server "
                "began.",
                "Files as they were; the server's log says what is wrong with them.",
                "Ask for another, or tell who runs the server.",
            ) from error

    async def _make_room(self, entry: _Entry) -> None:
        """Put models away that nobody uses, as many as must be. Raises Busy where that is not enough."""
        limit = self._settings.memory_limit
        if limit is None:
            return
        others = [other for other in self._entries.values() if other.worker is not None]
        unused = sorted((other for other in others if other.is_unused), key=lambda other: other.used)
        passed = entry.bytes + sum(other.bytes for other in others) - limit
        if passed <= sum(other.bytes for other in unused):
            for other in unused:
                if passed > 0 and other.worker is not None and other.is_unused:  # still: closing one took a moment
                    worker, other.worker = other.worker, None
                    passed -= other.bytes
                    await worker.close(1)
        if passed > 0:
            raise Busy(
                f"There is no memory for {entry.card.name} now: other models are at work.",
                f"All that are loaded take {_shown(limit)} at most (memory_limit).",
                5.0,
            )

    def _looked_at(self, word: str) -> _Entry:
        """What is known of a target without loading it."""
        found = inspect_target(word, self._runs_dir, self._device, self._dtype)
        card, takes = found.card, found.footprint
        limit = self._settings.memory_limit
        slots = takes.slots_within(limit, self._settings.slots)
        if limit is not None and slots == 0:
            raise DeviceError(
                f"{card.name} alone takes {_shown(takes.bytes(1))}, even where it writes one text at a time.",
                f"All loaded models together take {_shown(limit)} at most (memory_limit).",
                "Allow more memory, serve it with --dtype bfloat16, or leave it out.",
            )
        return _Entry(card, found.path, found.proofs, takes, slots)


def _kept(loaded: LoadedModel) -> LoadedModel:
    """A model that can be used when its run's folder is gone."""
    return loaded if loaded.run is None else replace(loaded, run=_KeptRun(loaded.run.path, loaded.run.recipe()))


def _retrieved(task: asyncio.Task[Worker]) -> None:
    """Whoever waited was told of the error; where nobody did, nobody is."""
    if not task.cancelled():
        task.exception()


def _shown(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.0f} MB"
