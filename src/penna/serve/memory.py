"""What a served model takes of the memory, known before it is loaded: its weight files in, bytes and slots out.

Counted are the weights, the second copy of them that a CPU reads faster (`GPT.pack`), and the keys and values of all
texts that are written at once. What reading takes for a moment is not. Of the files only the headers are read.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from penna.config.sections import ModelConfig
from penna.errors import RunError
from penna.generate.memory import cache_bytes, source_bytes
from penna.model.precision import Dtype


@dataclass(frozen=True)
class Footprint:
    """What one model takes."""

    parameters: int
    weights: int  # bytes
    slot: int  # bytes of one text that is written

    def bytes(self, slots: int) -> int:
        """All of it, where so many texts are written at once."""
        return self.weights + slots * self.slot

    def slots_within(self, limit: int | None, most: int) -> int:
        """How many of ``most`` texts can be written at once within so many bytes, 0 where not one."""
        if limit is None:
            return most
        return max(0, min(most, (limit - self.weights) // self.slot))


def footprint(config: ModelConfig, files: Iterable[Path], device: torch.device, dtype: Dtype) -> Footprint:
    """What the model of these safetensors files takes on a device, as weights in these numbers. Raises RunError for
    files that cannot be read."""
    parameters = sum(_numbers_in(file, config) for file in files)
    kept = torch.bfloat16 if dtype == "bfloat16" else torch.float32
    each = 4  # bytes: it is read from the disk in float32, whatever it is kept in
    if device.type == "cpu" and dtype == "float32":
        each *= 2
    slot = cache_bytes(config, config.block_size, kept) + source_bytes(config, kept)
    return Footprint(parameters, each * parameters, slot)


def _numbers_in(file: Path, config: ModelConfig) -> int:
    """How many numbers of a file are learned: vectors and matrices. Other tools write masks, and tied weights twice."""
    try:
        with safe_open(file, "pt") as tensors:
            shapes = {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError) as error:
        raise RunError(
            f"The weights {file} cannot be read: {error}.",
            "A whole safetensors file.",
            "Write or download it again, or leave this model out.",
        ) from error
    return sum(
        math.prod(shape)
        for name, shape in shapes.items()
        if len(shape) in (1, 2) and not (config.tie and name == "lm_head.weight")
    )
