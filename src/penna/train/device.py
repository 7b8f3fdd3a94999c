"""The device and precision of a run, and the choices that are measured before its first step.

The matrix library, the thread count and compilation are chosen by timing. The choice is recorded and repeated on
resume, because results are bit-identical only under the same choice.
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

_COMPILE_SECONDS = 90.0  # time to compile a small GPT's forward and backward pass on a slow machine
_COMPILE_GAIN = 0.15  # the share of time that compiling saves, if it saves any
_LONG_PASS = 2.0  # seconds; repeating a longer pass to measure it better costs more than it can gain
_THREADS_HANDICAP = 1.15  # fewer threads must win clearly: noise on a busy machine must not halve a long run's speed


def resolve_device(name: str, local_rank: int = 0) -> torch.device:
    """The torch device of a recipe's ``train.device``. Raises DeviceError if it does not exist."""
    available = torch.cuda.is_available()
    if name == "auto":
        return torch.device("cuda", local_rank) if available else torch.device("cpu")
    if name.startswith("cuda"):
        index = int(name.partition(":")[2] or local_rank)
        if not available or index >= torch.cuda.device_count():
            found = f"{torch.cuda.device_count()} CUDA device(s)" if available else "no CUDA device"
            raise DeviceError(
                f"The device {name!r} does not exist: this machine has {found}.",
                "The device must be auto, cpu, cuda or cuda:N.",
                "Use auto (--device auto; --train.device auto for training), or check the driver and the torch build.",
            )
        return torch.device("cuda", index)
    return torch.device("cpu")


def autocast(config: TrainConfig, device: torch.device) -> Callable[[], AbstractContextManager[Any]]:
    """A factory of contexts in which matrix products run in the configured precision."""
    bfloat16 = config.precision == "bfloat16" or (config.precision == "auto" and device.type == "cuda")
    if not bfloat16:
        return nullcontext
    return lambda: torch.autocast(device.type, dtype=torch.bfloat16)


def has_native_bfloat16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 natively; without that it is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def keep_freed_memory() -> None:
    """Make glibc keep freed memory instead of returning it to the system. Does nothing under another C library.

    Each step frees and allocates the same large blocks. Returning them costs a page fault per 4 kB, 10 % of a step's
    time on small models. 32 MiB is the largest threshold that mallopt accepts.
    """
    try:
        library = ctypes.CDLL(None)
        mallopt, _ = library.mallopt, library.gnu_get_libc_version
    except (OSError, AttributeError, TypeError):  # not glibc
        return
    trim_threshold, mmap_threshold = -1, -3
    mallopt(mmap_threshold, 32 << 20)
    mallopt(trim_threshold, 1 << 30)


def choose_matmul(config: TrainConfig, device: torch.device) -> Matmul:
    """The library for float32 products: the configured one, or the fastest."""
    return fastest_matmul(device) if config.matmul == "auto" else config.matmul


def choose_threads(config: TrainConfig, device: torch.device, run_once: Callable[[], None]) -> int:
    """The configured thread count, or the fastest for ``run_once``: all cores, half of them, or one."""
    if config.threads is not None:
        return config.threads
    cores = available_cores()
    if device.type != "cpu" or cores == 1:
        return torch.get_num_threads()
    times: dict[int, float] = {}
    for count in sorted({cores, max(1, cores // 2), 1}, reverse=True):
        torch.set_num_threads(count)
        times[count] = best_seconds(run_once, 3)
        if times[count] > _LONG_PASS:  # products this large are fastest on all cores
            return cores
    return min(times, key=lambda count: times[count] * (1.0 if count == cores else _THREADS_HANDICAP))


def available_cores() -> int:
    """The number of cores that this process may use, limited by OMP_NUM_THREADS if that is set."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, int(limit)) if limit.isdecimal() and int(limit) > 0 else cores


def choose_compile(config: TrainConfig, planned_seconds: float | None) -> bool:
    """Whether compiling is configured or, over the whole run, likely to save more time than it takes."""
    if config.compile != "auto":
        return config.compile == "on"
    return planned_seconds is not None and planned_seconds * _COMPILE_GAIN > _COMPILE_SECONDS


def best_seconds(run_once: Callable[[], None], repeats: int) -> float:
    """The fastest of several timed calls after a warm-up call; the warm-up's own time if that was long."""

    def timed() -> float:
        start = time.perf_counter()
        run_once()
        return time.perf_counter() - start

    first = timed()
    return first if first > _LONG_PASS else min(timed() for _ in range(repeats))
