"""Fast products of a few rows with a fixed weight, which dominate the cost of decoding on a CPU.

Decoding reads all weights to multiply one row or a few, so memory bandwidth is the limit. torch's usual product reaches
about a third of it. Two alternatives come closer; each is used if a short measurement finds it faster on this machine:

- one row: the weight is cut into as many slices as there are threads and multiplied as a batch. Memory is then read
  about as fast as by summing the weight.
- several rows: a second copy of the weight is packed in oneDNN's order.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from penna.model.fast.onednn import is_clearly_faster, onednn_linear, pack_for_onednn

_MIN_SIZE = 1 << 17  # the usual product is as fast for smaller weights
_PACKED_ROWS = 16  # oneDNN packs for this many rows; packed for one, it is up to twice as slow with several
_LARGE_SIZE = 1 << 20  # for weights of this size, oneDNN multiplies three rows a quarter faster than two
_MAX_SLICES = 64  # unless there are more threads
_MIN_UTILIZATION = 0.9  # the share of the time that all threads must be busy


class SmallBatchMatmul:
    """The prepared form of a weight (N, K), float32 on a CPU; valid until the weight changes."""

    def __init__(self, weight: Tensor) -> None:
        self._version, self._address = weight._version, weight.data_ptr()
        self._weight = weight = weight.detach().contiguous()
        count = slice_count(len(weight), torch.get_num_threads()) if is_slicing_faster() else None
        self._slices = None if count is None else weight.view(count, -1, weight.shape[1])
        self._packed = pack_for_onednn(weight, _PACKED_ROWS) if is_packing_faster() else None
        self._padded_numel = 2 * weight.shape[1] if weight.numel() >= _LARGE_SIZE else 0

    def multiply(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """``F.linear``: x (..., K), bias (N,) -> (..., N)."""
        if self._slices is not None and x.numel() == self._slices.shape[2]:
            return sliced_linear(x, self._slices, bias)
        if self._packed is not None and x.numel():
            if x.numel() == self._padded_numel:
                rows = F.pad(x.reshape(2, -1), (0, 0, 0, 1))
                return onednn_linear(rows, self._packed, bias)[:2].view(*x.shape[:-1], -1)
            return onednn_linear(x, self._packed, bias)
        return F.linear(x, self._weight, bias)

    def matches(self, weight: Tensor) -> bool:
        """Whether it was prepared from this weight, and the weight is unchanged."""
        return weight._version == self._version and weight.data_ptr() == self._address

    def applies_to(self, x: Tensor, weight: Tensor) -> bool:
        """Whether it can multiply x (..., K) in place of ``weight``."""
        return self.matches(weight) and x.dtype == torch.float32 and not torch.is_grad_enabled()


def small_batch_matmul(weight: Tensor, existing: SmallBatchMatmul | None = None) -> SmallBatchMatmul | None:
    """A faster product for this weight, or None if there is none. ``existing`` is reused while it matches."""
    if existing is not None and existing.matches(weight):
        return existing
    if weight.device.type != "cpu" or weight.dtype != torch.float32 or weight.numel() < _MIN_SIZE:
        return None
    if weight.is_inference():  # inference tensors do not record changes
        return None
    return SmallBatchMatmul(weight) if is_packing_faster() or is_slicing_faster() else None


def sliced_linear(x: Tensor, slices: Tensor, bias: Tensor | None) -> Tensor:
    """``F.linear`` for one row: x (..., K), a weight in slices (S, N / S, K), bias (N,) -> (..., N)."""
    count, rows, width = slices.shape
    column = x.contiguous().as_strided((count, width, 1), (0, 1, width))  # BLAS is slow with other strides
    y = torch.bmm(slices, column) if bias is None else torch.baddbmm(bias.view(count, rows, 1), slices, column)
    return y.view(*x.shape[:-1], -1)


def slice_count(rows: int, threads: int) -> int | None:
    """Number of equal slices of a weight with ``rows`` rows that keeps all threads busy; None if there is none."""
    for count in range(threads, max(_MAX_SLICES, 4 * threads) + 1):
        if rows % count == 0 and count >= _MIN_UTILIZATION * threads * -(-count // threads):
            return count
    return None


@cache
def is_packing_faster() -> bool:
    """Whether several rows are multiplied faster with a packed weight on this machine (measured once)."""
    if not torch.backends.mkldnn.is_available():
        return False
    with torch.no_grad():
        x, weight = torch.ones(4, 1024), torch.ones(4096, 1024)
        packed = pack_for_onednn(weight, _PACKED_ROWS)
        return is_clearly_faster(lambda: onednn_linear(x, packed, None), lambda: F.linear(x, weight))


@cache
def is_slicing_faster() -> bool:
    """Whether one row is multiplied faster with a sliced weight than with the alternative (measured once).

    The measured weight is too large for the processor's shared cache.
    """
    with torch.no_grad():
        threads = torch.get_num_threads()
        x, slices = torch.ones(1, 1024), torch.ones(threads, (1 << 14) // threads, 1024)
        weight = slices.view(-1, 1024)
        if is_packing_faster():
            packed = pack_for_onednn(weight, _PACKED_ROWS)
            return is_clearly_faster(lambda: sliced_linear(x, slices, None), lambda: onednn_linear(x, packed, None))
        return is_clearly_faster(lambda: sliced_linear(x, slices, None), lambda: F.linear(x, weight))
