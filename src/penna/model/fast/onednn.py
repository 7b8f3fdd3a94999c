"""Products by oneDNN, torch's second CPU library, and the timing that chooses between two methods.

oneDNN can store a weight in an order of its own ("packed"), which makes products of a few rows faster.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

_MIN_SPEEDUP = 1.15  # a smaller difference may be noise
_REPETITIONS = 8


def onednn_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``F.linear`` by oneDNN: x (..., K), weight (N, K), bias (N,) -> (..., N), float32 on a CPU.

    The weight may be packed (``pack_for_onednn``).
    """
    return torch.ops.mkldnn._linear_pointwise.default(x, weight, bias, "none", [], "")  # type: ignore[no-any-return]


def pack_for_onednn(weight: Tensor, rows: int) -> Tensor:
    """A copy of a weight (N, K) in oneDNN's order, optimized for x of ``rows`` rows; other row counts work, too."""
    return torch.ops.mkldnn._reorder_linear_weight(weight, rows)  # type: ignore[no-any-return]


def is_clearly_faster(one: Callable[[], object], other: Callable[[], object]) -> bool:
    """Whether ``one`` takes clearly less time than ``other``, by the best of several alternating runs.

    They alternate so that a busy moment of the machine affects both.
    """
    best = [float("inf"), float("inf")]
    for _ in range(_REPETITIONS):
        for index, function in enumerate((one, other)):
            start = time.perf_counter()
            function()
            best[index] = min(best[index], time.perf_counter() - start)
    return best[0] * _MIN_SPEEDUP < best[1]
