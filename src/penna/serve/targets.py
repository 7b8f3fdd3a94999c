"""What may be served: a run by name or path, a checkpoint or a Hugging Face folder in, what is known of it out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from penna.errors import RunError
from penna.exchange.classes import config_from_json
from penna.exchange.huggingface import Foreign
from penna.exchange.json_files import read_object
from penna.exchange.load import foreign_folder, run_and_checkpoint
from penna.exchange.tensors import SINGLE, read_tensors
from penna.model.precision import Dtype
from penna.runs.checkpoint import MODEL
from penna.runs.folder import RunFolder, check_name
from penna.serve.footprint import Footprint, footprint
from penna.train.device import resolve_device

State = Literal["loaded", "not loaded", "gone"]


@dataclass(frozen=True)
class Card:
    """What is known of a model without loading it."""

    name: str
    task: str
    created: int  # seconds since 1970
    block_size: int
    parameters: int
    state: State


@dataclass(frozen=True)
class Target:
    """A model that can be served."""

    card: Card
    path: str
    proofs: tuple[Path, ...]  # files without which there is no model
    footprint: Footprint


def target_of(word: str, runs_dir: Path, device: str, dtype: Dtype) -> Target:
    """What is known of a target, also one given as NAME=TARGET. Raises RunError or ExchangeError where it is none."""
    alias, is_named, rest = word.partition("=")
    if not is_named or Path(word).exists():
        alias, rest = None, word
    else:
        check_name(alias)
    folder = foreign_folder(rest)
    if folder is not None:
        name, path, described = folder.resolve().name, folder.resolve(), folder.resolve() / "config.json"
        created, files = int(described.stat().st_mtime), _weights_of(path)
        _, config, labels = config_from_json(read_object(described), described)
        task, proofs = Foreign(config, {}, None, labels).task, (described, *files)
    else:
        run, checkpoint = run_and_checkpoint(rest, runs_dir)
        path = run.path.resolve()
        name, created, recipe = path.name, _created(run), run.recipe()
        config, task = recipe.model, recipe.task
        chosen = checkpoint or run.chosen()
        if chosen is None:
            raise RunError(
                f"The run {run.path} has no checkpoint yet.",
                "A checkpoint is written before the first step.",
                f"Go on with it: `penna resume {run.path}`.",
            )
        files = [chosen / MODEL]
        link = "best" if chosen == run.marked("best") else "last"  # which a run that trains on moves
        proofs = (path / "recipe.toml", path / link / MODEL)
        if checkpoint is not None:
            name, path, proofs = f"{name}-{checkpoint.name}", checkpoint, (checkpoint / MODEL,)
    takes = footprint(config, files, resolve_device(device), dtype)
    card = Card(alias or name, task.kind, created, config.block_size, takes.parameters, "not loaded")
    return Target(card, str(path), proofs, takes)


def _weights_of(folder: Path) -> list[Path]:
    """The weight files of a Hugging Face folder. Raises ExchangeError where there are none that are read."""
    files = [folder / SINGLE] if (folder / SINGLE).is_file() else sorted(folder.glob("*.safetensors"))
    if not files:
        read_tensors(folder, allow_pickle=False)
    return files


def _created(run: RunFolder) -> int:
    try:
        return int(datetime.fromisoformat(str(run.info().get("created"))).timestamp())
    except ValueError:
        return int((run.path / "recipe.toml").stat().st_mtime)
