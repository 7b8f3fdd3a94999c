"""Products of a few rows with a weight that stays as it is: what a token costs on a CPU.

A model that writes reads all of its weights for one row, or for a few. Then the time is that of the reading, and the
usual product of torch reaches a third of what the memory gives. Two others come closer, and which of them does so on
this machine is measured once for a process:

- one row: the weight in as many slices as there are threads, multiplied as a batch. It is read as it lies, at the speed
  of a plain sum over it.
- several rows: the weight kept a second time in the order that oneDNN likes for a batch of rows.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from penna.model.fast.onednn import is_clearly_faster, onednn_linear, pack_for_onednn

_WORTH_IT = 1 << 17  # numbers in a weight below which the usual product is as fast
_ROWS = 16  # for which oneDNN is told to order a weight; told of one row, it is up to twice as slow with several
_LARGE = 1 << 20  # numbers in a weight from which oneDNN multiplies three rows a quarter sooner than two
_MOST_SLICES = 64  # where there are no more threads
_FULLEST = 0.9  # the least share of the time that all threads are at work


class SmallBatchMatmul:
    """What stands for a weight (N, K), float32 on a CPU; only while that does not change."""

    def __init__(self, weight: Tensor) -> None:
        self._version, self._address = weight._version, weight.data_ptr()
        self._weight = weight = weight.detach().contiguous()
        count = slice_count(len(weight), torch.get_num_threads()) if is_slicing_faster() else None
        self._slices = None if count is None else weight.view(count, -1, weight.shape[1])
        self._packed = pack_for_onednn(weight, _ROWS) if is_packing_faster() else None
        self._padded_numel = 2 * weight.shape[1] if weight.numel() >= _LARGE else 0

    def multiply(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """x (..., K) times the transpose of the weight, plus bias (N,): (..., N)."""
        if self._slices is not None and x.numel() == self._slices.shape[2]:
            return sliced_linear(x, self._slices, bias)
        if self._packed is not None and x.numel():
            if x.numel() == self._padded_numel:
                rows = F.pad(x.reshape(2, -1), (0, 0, 0, 1))
                return onednn_linear(rows, self._packed, bias)[:2].view(*x.shape[:-1], -1)
            return onednn_linear(x, self._packed, bias)
        return F.linear(x, self._weight, bias)

    def matches(self, weight: Tensor) -> bool:
        """Whether this is the weight it was made of, and unchanged."""
        return weight._version == self._version and weight.data_ptr() == self._address

    def applies_to(self, x: Tensor, weight: Tensor) -> bool:
        """Whether x (..., K) is to be multiplied with it, rather than with the weight it was made of."""
        return self.matches(weight) and x.dtype == torch.float32 and not torch.is_grad_enabled()


def small_batch_matmul(weight: Tensor, made: SmallBatchMatmul | None = None) -> SmallBatchMatmul | None:
    """What multiplies this weight with a few rows faster than torch's usual product; None where nothing does. What was
    made before is given again while it stands for the weight."""
    if made is not None and made.matches(weight):
        return made
    if weight.device.type != "cpu" or weight.dtype != torch.float32 or weight.numel() < _WORTH_IT:
        return None
    if weight.is_inference():  # it cannot tell whether it was changed
        return None
    return SmallBatchMatmul(weight) if is_packing_faster() or is_slicing_faster() else None


def sliced_linear(x: Tensor, slices: Tensor, bias: Tensor | None) -> Tensor:
    """One row x (..., K) times the transpose of a weight in slices (S, N / S, K), plus bias (N,): (..., N)."""
    count, rows, width = slices.shape
    column = x.contiguous().as_strided((count, width, 1), (0, 1, width))  # with other strides BLAS reads slowly
    y = torch.bmm(slices, column) if bias is None else torch.baddbmm(bias.view(count, rows, 1), slices, column)
    return y.view(*x.shape[:-1], -1)


def slice_count(rows: int, threads: int) -> int | None:
    """Into how many equal slices a weight of so many rows is cut, so that threads share them nearly evenly; None where
    no number does."""
    for count in range(threads, max(_MOST_SLICES, 4 * threads) + 1):
        if rows % count == 0 and count >= _FULLEST * threads * -(-count // threads):
            return count
    return None


@cache
def is_packing_faster() -> bool:
    """Whether this machine multiplies several rows faster with a weight in oneDNN's order, by timing both."""
    if not torch.backends.mkldnn.is_available():
        return False
    with torch.no_grad():
        x, weight = torch.ones(4, 1024), torch.ones(4096, 1024)
        ordered = pack_for_onednn(weight, _ROWS)
        return is_clearly_faster(lambda: onednn_linear(x, ordered, None), lambda: F.linear(x, weight))


@cache
def is_slicing_faster() -> bool:
    """Whether this machine multiplies one row faster with a weight in slices than in the way it would do otherwise.

    By timing both, with a weight too large for the caches that all cores share.
    """
    with torch.no_grad():
        threads = torch.get_num_threads()
        x, slices = torch.ones(1, 1024), torch.ones(threads, (1 << 14) // threads, 1024)
        weight = slices.view(-1, 1024)
        if is_packing_faster():
            ordered = pack_for_onednn(weight, _ROWS)
            return is_clearly_faster(lambda: sliced_linear(x, slices, None), lambda: onednn_linear(x, ordered, None))
        return is_clearly_faster(lambda: sliced_linear(x, slices, None), lambda: F.linear(x, weight))
