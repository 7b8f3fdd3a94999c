"""Linear layers whose float32 products go through the faster of torch's two CPU libraries.

torch sends float32 products to its BLAS, which on processors that are not Intel's may leave half of the vector width
unused; oneDNN, in the same torch, uses all of it. Which is faster is measured (``fastest_matmul``) and set on a model
(``use_matmul``). Both are float32 throughout and differ in the order of sums alone.

A model that only writes reads all of its weights for a few rows at a time. For that, a weight can be kept a second time
in the order oneDNN likes (``Packed``), which may be twice to four times as fast; that is measured, too.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Matmul = Literal["blas", "onednn"]

_WORTH_IT = 1 << 20  # multiplications below which oneDNN's set-up costs more than it saves
_WORTH_PACKING = 1 << 16  # numbers in a weight below which packing it saves nothing
_WORTH_READING_PACKED = 1 << 19  # multiplications below which oneDNN's set-up costs more than it saves there
_CLEARLY = 1.15  # how much faster oneDNN must be, so that a moment's noise does not choose it


class _OneDNN(torch.autograd.Function):
    """x (..., K) times the transpose of weight (N, K), plus bias (N,): (..., N), all float32 on a CPU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        grad = grads[0].reshape(-1, weight.shape[0])  # (rows, N)
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        grad_x = grad_of_input(grad, weight, "onednn").view_as(x) if needs_x else None
        grad_weight = grad_of_weight(grad, x.reshape(-1, x.shape[-1]), "onednn") if needs_weight else None
        return grad_x, grad_weight, grad.sum(0) if needs_bias else None


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise.default(x, weight, bias, "none", [], "")


def grad_of_input(grad: Tensor, weight: Tensor, matmul: Matmul) -> Tensor:
    """What a gradient (rows, N) of a product with weight (N, K) means for its input: (rows, K)."""
    return _product(grad, weight.t(), None) if _with_onednn(grad, weight.shape[1], matmul) else grad @ weight


def grad_of_weight(grad: Tensor, x: Tensor, matmul: Matmul) -> Tensor:
    """What a gradient (rows, N) of a product with input x (rows, K) means for its weight: (N, K)."""
    return _product(grad.t(), x.t(), None) if _with_onednn(grad, x.shape[1], matmul) else grad.t() @ x


class Packed:
    """A weight (N, K) in the order oneDNN likes; it stands for the weight only while that does not change."""

    def __init__(self, weight: Tensor) -> None:
        self.least_inputs = -(-_WORTH_READING_PACKED // weight.shape[0])  # numbers of x from which on it is worth it
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), 1)
        self._version = weight._version

    def multiply(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """x (..., K) times the transpose of the weight, plus bias (N,): (..., N)."""
        return _product(x, self._weight, bias)

    def serves(self, x: Tensor, weight: Tensor) -> bool:
        """Whether x (..., K) is to be multiplied with it, rather than with the weight it was made of."""
        return (
            x.numel() >= self.least_inputs
            and weight._version == self._version
            and x.dtype == torch.float32
            and not torch.is_grad_enabled()
        )


def packed(weight: Tensor) -> Packed | None:
    """A weight packed, where that saves something."""
    if weight.device.type != "cpu" or weight.dtype != torch.float32 or weight.numel() < _WORTH_PACKING:
        return None
    return Packed(weight)


def linear(
    x: Tensor, weight: Tensor, bias: Tensor | None, matmul: Matmul, packed_weight: Packed | None = None
) -> Tensor:
    """x (..., K) times the transpose of weight (N, K), plus bias (N,): (..., N)."""
    if packed_weight is not None and packed_weight.serves(x, weight):
        return packed_weight.multiply(x, bias)
    if _with_onednn(x, weight.shape[0], matmul):
        return _OneDNN.apply(x, weight, bias)  # type: ignore[no-any-return]
    return F.linear(x, weight, bias)


def _with_onednn(x: Tensor, columns: int, matmul: Matmul) -> bool:
    """Whether x (..., K) times K x columns numbers goes through oneDNN: where that was chosen and can be."""
    if matmul == "blas" or x.dtype != torch.float32 or x.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        return False
    return x.numel() * columns >= _WORTH_IT and not torch.compiler.is_compiling()  # the compiler knows only its own


class Linear(nn.Linear):
    """torch's linear layer, with a choice of the library that multiplies."""

    matmul: Matmul = "blas"
    packed: Packed | None = None

    def forward(self, input: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features)."""
        return linear(input, self.weight, self.bias, self.matmul, self.packed)


def fastest_matmul(device: torch.device) -> Matmul:
    """The faster library for float32 products of this machine, by timing both for a few milliseconds."""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return "blas"
    x, weight = torch.ones(512, 512), torch.ones(512, 512)
    blas, onednn = _timed(lambda: F.linear(x, weight), lambda: _product(x, weight, None))
    return "onednn" if onednn * _CLEARLY < blas else "blas"


@cache
def packing_is_faster() -> bool:
    """Whether this machine multiplies a few rows faster with packed weights than with those they were made of.

    By timing both for some milliseconds, once for a process, with a weight too large for the caches of a core. It does
    not follow from ``fastest_matmul``: a library may be as good as the other with hundreds of rows, and half as fast
    with one.
    """
    if not torch.backends.mkldnn.is_available():
        return False
    with torch.no_grad():
        x, weight = torch.ones(1, 1024), torch.ones(4096, 1024)
        reordered = Packed(weight)
        plain, quick = _timed(lambda: F.linear(x, weight), lambda: reordered.multiply(x, None))
    return quick * _CLEARLY < plain


def _timed(first: Callable[[], object], second: Callable[[], object]) -> tuple[float, float]:
    """The least seconds that each takes, in turns, so that a busy moment touches both."""
    least = [float("inf"), float("inf")]
    for _ in range(8):
        for place, function in enumerate((first, second)):
            begun = time.perf_counter()
            function()
            least[place] = min(least[place], time.perf_counter() - begun)
    return least[0], least[1]
