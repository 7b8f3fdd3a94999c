"""Where and how precisely a run computes, and what is found out by measuring before its first step.

The library of matrix products, thread count and compilation are chosen by timing. The choice is recorded and repeated
on resume, because results are bit-identical only for the same choice.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from penna.config.training import TrainConfig
from penna.errors import DeviceError
from penna.model.linear import Matmul, fastest_matmul

_COMPILE_SECONDS = 90.0  # what compiling a small GPT's forward and backward takes on a slow machine
_COMPILE_GAIN = 0.15  # the share of time that compiling saves, where it saves any
_LONG = 2.0  # seconds of one pass, above which repeating it to measure better costs more than it can win


def resolve_device(name: str, local_rank: int = 0) -> torch.device:
    """The torch device of a recipe's ``train.device``. Raises DeviceError where it is not there."""
    available = torch.cuda.is_available()
    if name == "auto":
        return torch.device("cuda", local_rank) if available else torch.device("cpu")
    if name.startswith("cuda"):
        index = int(name.partition(":")[2] or local_rank)
        if not available or index >= torch.cuda.device_count():
            found = f"{torch.cuda.device_count()} CUDA device(s)" if available else "no CUDA device"
            raise DeviceError(
                f"The device {name!r} is not there: this machine shows {found}.",
                "A device is auto, cpu, cuda or cuda:N of an existing one.",
                "Take auto (--device auto; --train.device auto for a training), or check the driver and torch's build.",
            )
        return torch.device("cuda", index)
    return torch.device("cpu")


def autocast(config: TrainConfig, device: torch.device) -> Callable[[], AbstractContextManager[Any]]:
    """A maker of contexts in which matrix products run in the configured precision."""
    bfloat16 = config.precision == "bfloat16" or (config.precision == "auto" and device.type == "cuda")
    if not bfloat16:
        return nullcontext
    return lambda: torch.autocast(device.type, dtype=torch.bfloat16)


def has_native_bfloat16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 natively; elsewhere it is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def keep_freed_memory() -> None:
    """Tell glibc to keep freed memory instead of giving it back, where the C library is glibc.

    Each step frees and takes the same large blocks again; giving them back costs a page fault per 4 kB, 10 % of a
    step's time on small models. 32 MiB is the largest threshold that mallopt takes.
    """
    try:
        library = ctypes.CDLL(None)
        mallopt, version = library.mallopt, library.gnu_get_libc_version
    except (OSError, AttributeError, TypeError):  # not glibc
        return
    del version
    trim_threshold, mmap_threshold = -1, -3
    mallopt(mmap_threshold, 32 << 20)
    mallopt(trim_threshold, 1 << 30)


def choose_matmul(config: TrainConfig, device: torch.device) -> Matmul:
    """The library for float32 products: the configured one, or the faster."""
    return fastest_matmul(device) if config.matmul == "auto" else config.matmul


def choose_threads(config: TrainConfig, device: torch.device, run_once: Callable[[], None]) -> int:
    """The fastest thread count for this run's forward and backward pass, of all cores, half of them, and one."""
    if config.threads is not None:
        return config.threads
    cores = available_cores()
    if device.type != "cpu" or cores == 1:
        return torch.get_num_threads()
    candidates = sorted({cores, max(1, cores // 2), 1}, reverse=True)
    times: dict[int, float] = {}
    for count in candidates:
        torch.set_num_threads(count)
        times[count] = best_seconds(run_once, 3)
        if times[count] > _LONG:  # products this large are fastest on all cores
            return cores
    # Fewer threads must win clearly: a moment's noise on a busy machine must not halve a long run's speed.
    handicapped = {count: spent * (1.0 if count == cores else 1.15) for count, spent in times.items()}
    return min(handicapped, key=handicapped.__getitem__)


def available_cores() -> int:
    """How many cores this process may use: those it is given, and no more than OMP_NUM_THREADS where that is set."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, int(limit)) if limit.isdecimal() and int(limit) > 0 else cores


def choose_compile(config: TrainConfig, seconds_planned: float | None) -> bool:
    """Whether compiling is worth trying: it must save more than it costs over the whole run."""
    if config.compile != "auto":
        return config.compile == "on"
    return seconds_planned is not None and seconds_planned * _COMPILE_GAIN > _COMPILE_SECONDS


def best_seconds(run_once: Callable[[], None], times: int) -> float:
    """The best of a few timed calls, after a first one that counts only where it is long."""

    def timed() -> float:
        begun = time.perf_counter()
        run_once()
        return time.perf_counter() - begun

    first = timed()
    return first if first > _LONG else min(timed() for _ in range(times))
