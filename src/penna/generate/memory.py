"""How much memory KV caches take, and how many rows fit into the free memory."""

from __future__ import annotations

from pathlib import Path

import torch

from penna.config.sections import ModelConfig
from penna.errors import DeviceError
from penna.model.gpt import GPT

_SHARE = 0.8  # of the free memory; the rest is for temporary tensors of a forward pass


def cache_bytes(config: ModelConfig, tokens: int, dtype: torch.dtype) -> int:
    """The bytes of the keys and values of this many tokens."""
    return 2 * config.n_layer * config.kv_heads * config.head_width * tokens * dtype.itemsize


def source_bytes(config: ModelConfig, dtype: torch.dtype) -> int:
    """The bytes of the longest encoded source, with its keys and values; 0 without an encoder."""
    if config.arch == "gpt":
        return 0
    states = config.source_span * config.n_embd * dtype.itemsize
    return cache_bytes(config, config.source_span, dtype) + states


def row_bytes(model: GPT, capacity: int) -> int:
    """The bytes of a row of ``capacity`` tokens, with its source."""
    dtype = model.wte.weight.dtype
    return cache_bytes(model.config, capacity, dtype) + source_bytes(model.config, dtype)


def max_rows(model: GPT, rows: int, capacity: int, *, held: int = 0) -> int:
    """How many of these rows of ``capacity`` tokens fit into memory if ``held`` bytes are freed first. Raises
    DeviceError if not even one does."""
    each = row_bytes(model, capacity)
    free = free_bytes(model.wte.weight.device)
    if free is None:
        return rows
    free += held
    if each * rows <= free * _SHARE:
        return rows
    fitting = int(free * _SHARE) // each
    if not fitting:
        raise DeviceError(
            f"The cache of one text takes {each / 2**30:,.1f} GiB ({capacity:,} tokens, all its beams counted), but "
            f"{free / 2**30:,.1f} GiB are free.",
            f"A cache may take at most {_SHARE:.0%} of the free memory.",
            "Use fewer beams (num_beams) or generate fewer tokens (max_new_tokens).",
        )
    return fitting


def free_bytes(device: torch.device) -> int | None:
    """The free memory of a device; None if the system does not report it."""
    if device.type == "cuda":
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # by torch, and not in use
        return torch.cuda.mem_get_info(device)[0] + held
    found = [each for each in (_meminfo(), _control_group()) if each is not None]
    return min(found, default=None)


def _meminfo() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _control_group() -> int | None:
    """The memory that a container may still use, if it is limited."""
    folder = Path("/sys/fs/cgroup")
    try:
        most = (folder / "memory.max").read_text(encoding="ascii").strip()
        taken = int((folder / "memory.current").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return None if most == "max" else max(0, int(most) - taken)
