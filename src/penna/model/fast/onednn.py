"""The product by oneDNN, torch's second library for products on a CPU, and how one of two ways is chosen by time."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

_CLEARLY = 1.15  # how much faster a way must be, so that a moment's noise does not choose it
_TIMES = 8


def onednn_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x (..., K) times the transpose of weight (N, K), plus bias (N,): (..., N), all float32 on a CPU.

    The weight may be in an order of oneDNN's own (``in_onednn_order``).
    """
    return torch.ops.mkldnn._linear_pointwise.default(x, weight, bias, "none", [], "")  # type: ignore[no-any-return]


def pack_for_onednn(weight: Tensor, rows: int) -> Tensor:
    """A copy of a weight (N, K) in the order oneDNN likes best for x of so many rows; others may be given, too."""
    return torch.ops.mkldnn._reorder_linear_weight(weight, rows)  # type: ignore[no-any-return]


def is_clearly_faster(one: Callable[[], object], other: Callable[[], object]) -> bool:
    """Whether one takes clearly less time than the other, at the best of some turns.

    In turns, so that a busy moment touches both.
    """
    least = [float("inf"), float("inf")]
    for _ in range(_TIMES):
        for place, function in enumerate((one, other)):
            begun = time.perf_counter()
            function()
            least[place] = min(least[place], time.perf_counter() - begun)
    return least[0] * _CLEARLY < least[1]
