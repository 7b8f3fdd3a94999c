"""Checkpoints: weights, optimizer state and counters of one step.

A checkpoint is written to a hidden folder, flushed, checksummed and renamed to ``step-00001000``, so a kill at any byte
leaves the previous checkpoint intact. Reading verifies every checksum first. Nothing is pickled.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from penna.errors import RunError
from penna.storage import flush, friendly_disk_errors, sha256, write_json

MODEL, OPTIMIZER, STATE, CHECKSUMS = "model.safetensors", "optimizer.safetensors", "state.json", "checksums.json"


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run at one step."""

    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    state: dict[str, Any]


def step_name(step: int) -> str:
    """The folder name of a checkpoint."""
    return f"step-{step:08d}"


def list_checkpoints(folder: Path) -> list[Path]:
    """The complete checkpoints in ``folder``, oldest first."""
    return sorted(path for path in folder.glob("step-*") if path.is_dir())


def write_checkpoint(folder: Path, step: int, checkpoint: Checkpoint) -> Path:
    """Write ``folder/step-…`` atomically and return its path."""
    final = folder / step_name(step)
    temporary = folder / f".{final.name}.tmp"
    folder.mkdir(parents=True, exist_ok=True)
    with friendly_disk_errors(final):
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            save_tensors(temporary / MODEL, checkpoint.model)
            save_tensors(temporary / OPTIMIZER, checkpoint.optimizer)
            write_json(temporary / STATE, checkpoint.state)
            write_json(temporary / CHECKSUMS, {name: sha256(temporary / name) for name in (MODEL, OPTIMIZER, STATE)})
            flush(temporary)
            temporary.rename(final)
            flush(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return final


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write named tensors as safetensors and flush the file to disk."""
    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, path)
    flush(path)


def verify_checkpoint(path: Path) -> None:
    """Compare every file with its checksum. Raises RunError naming the damaged file and an intact checkpoint."""
    damage = _find_damage(path)
    if damage is None:
        return
    good = [other for other in list_checkpoints(path.parent) if other != path and _find_damage(other) is None]
    raise RunError(
        f"The checkpoint {path} is damaged: {damage}.",
        "Every file must match its checksum.",
        f"Resume from the newest intact checkpoint: `penna resume {good[-1]}`."
        if good
        else "No other checkpoint of this run is intact. Train again with --overwrite.",
    )


def _find_damage(path: Path) -> str | None:
    try:
        checksums: dict[str, str] = json.loads((path / CHECKSUMS).read_text(encoding="utf-8"))
        for name in (MODEL, OPTIMIZER, STATE):
            if sha256(path / name) != checksums[name]:
                return f"{name} is truncated or altered"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (ValueError, KeyError, TypeError):
        return f"{CHECKSUMS} is unreadable"
    return None


def read_checkpoint(path: Path, device: torch.device | str = "cpu") -> Checkpoint:
    """Verify and read a checkpoint, with its tensors on ``device``."""
    verify_checkpoint(path)
    state = json.loads((path / STATE).read_text(encoding="utf-8"))
    return Checkpoint(read_tensors(path / MODEL, device), read_tensors(path / OPTIMIZER, device), state)


def read_tensors(path: Path, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """The named tensors of a safetensors file."""
    try:
        return load_file(path, device=str(device))
    except (SafetensorError, OSError) as error:
        raise RunError(
            f"The weights {path} cannot be read: {error}.",
            "A complete safetensors file is needed.",
            "Use another checkpoint of the run, or write the file again.",
        ) from error
