"""The memory that a served model takes, estimated before it is loaded.

It counts the weights, the second copy that makes a CPU faster (``GPT.pack``), and the KV cache of all texts that run at
once; not the temporary memory of a forward pass. Only the headers of the weight files are read.
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
    """The memory of one model."""

    parameters: int
    weights: int  # bytes
    slot: int  # bytes of the KV cache of one text

    def bytes(self, slots: int) -> int:
        """The total with this many slots."""
        return self.weights + slots * self.slot

    def slots_within(self, limit: int | None, maximum: int) -> int:
        """How many slots fit into ``limit`` bytes: at most ``maximum``, 0 if not even one does."""
        if limit is None:
            return maximum
        return max(0, min(maximum, (limit - self.weights) // self.slot))


def footprint(config: ModelConfig, files: Iterable[Path], device: torch.device, dtype: Dtype) -> Footprint:
    """The memory of a model with these safetensors files. Raises RunError for unreadable files."""
    parameters = sum(_count_parameters(file, config) for file in files)
    kept = torch.bfloat16 if dtype == "bfloat16" else torch.float32
    width = 4  # bytes; weights are read in float32, whatever the model's dtype
    if device.type == "cpu" and dtype == "float32":
        width *= 2
    slot = cache_bytes(config, config.block_size, kept) + source_bytes(config, kept)
    return Footprint(parameters, width * parameters, slot)


def _count_parameters(file: Path, config: ModelConfig) -> int:
    """The numbers in a file's vectors and matrices. Other tools also save masks, and tied weights twice."""
    try:
        with safe_open(file, "pt") as tensors:
            shapes = {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError) as error:
        raise RunError(
            f"The weights {file} cannot be read: {error}.",
            "A complete safetensors file is needed.",
            "Write or download it again, or do not serve this model.",
        ) from error
    return sum(
        math.prod(shape)
        for name, shape in shapes.items()
        if len(shape) in (1, 2) and not (config.tie and name == "lm_head.weight")
    )
