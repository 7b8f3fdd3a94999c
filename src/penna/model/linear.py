"""Linear layers whose float32 products go through the faster of torch's two CPU libraries.

torch sends float32 products to its BLAS, which on processors that are not Intel's may leave half of the vector width
unused; oneDNN, in the same torch, uses all of it. Which is faster is measured (``fastest_matmul``) and set on a model
(``use_matmul``). Both are float32 throughout and differ in the order of sums alone. What a few rows are multiplied with
while a model writes is another question (`penna.model.fast.small_batch_matmul`).
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from penna.model.fast.onednn import is_clearly_faster, onednn_linear
from penna.model.fast.small_batch_matmul import SmallBatchMatmul

Matmul = Literal["blas", "onednn"]

_WORTH_IT = 1 << 20  # multiplications below which oneDNN's set-up costs more than it saves


class _OneDNN(torch.autograd.Function):
    """x (..., K) times the transpose of weight (N, K), plus bias (N,): (..., N), all float32 on a CPU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return onednn_linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        grad = grads[0].reshape(-1, weight.shape[0])  # (rows, N)
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        grad_x = grad_of_input(grad, weight, "onednn").view_as(x) if needs_x else None
        grad_weight = grad_of_weight(grad, x.reshape(-1, x.shape[-1]), "onednn") if needs_weight else None
        return grad_x, grad_weight, grad.sum(0) if needs_bias else None


def grad_of_input(grad: Tensor, weight: Tensor, matmul: Matmul) -> Tensor:
    """What a gradient (rows, N) of a product with weight (N, K) means for its input: (rows, K)."""
    return onednn_linear(grad, weight.t(), None) if _with_onednn(grad, weight.shape[1], matmul) else grad @ weight


def grad_of_weight(grad: Tensor, x: Tensor, matmul: Matmul) -> Tensor:
    """What a gradient (rows, N) of a product with input x (rows, K) means for its weight: (N, K)."""
    return onednn_linear(grad.t(), x.t(), None) if _with_onednn(grad, x.shape[1], matmul) else grad.t() @ x


def linear(
    x: Tensor, weight: Tensor, bias: Tensor | None, matmul: Matmul, small_batch: SmallBatchMatmul | None = None
) -> Tensor:
    """x (..., K) times the transpose of weight (N, K), plus bias (N,): (..., N)."""
    if small_batch is not None and small_batch.applies_to(x, weight):
        return small_batch.multiply(x, bias)
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
    small_batch: SmallBatchMatmul | None = None

    def forward(self, input: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features)."""
        return linear(input, self.weight, self.bias, self.matmul, self.small_batch)


def fastest_matmul(device: torch.device) -> Matmul:
    """The faster library for float32 products of this machine, by timing both for a few milliseconds."""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return "blas"
    x, weight = torch.ones(512, 512), torch.ones(512, 512)
    is_faster = is_clearly_faster(lambda: onednn_linear(x, weight, None), lambda: F.linear(x, weight))
    return "onednn" if is_faster else "blas"


# MERGED model.int8: Weights in eight bits: a quarter of the memory to be read for each token, at a small loss of
# precision.
#
# Each row of a weight is scaled by its largest number, and so is each row of what it is multiplied with (LLM.int8's
# "vector-wise" scaling: Dettmers et al. 2022, section 3.1); products of whole numbers are summed exactly, so that a
# row's
# result does not depend on its batch. Embeddings, norms and biases stay as they are.


_LARGEST = 127  # whole numbers from -127 to 127
_LEAST = 1e-30  # largest number of a row of zeros, so that it can be divided by


class Int8Linear(nn.Module):
    """A linear layer made of a weight (N, K) and a bias (N,); for inference on a CPU."""

    weight: Tensor  # (N, K) int8
    scale: Tensor  # (N,)
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        whole, scale = _quantized(weight.detach().float())
        self.register_buffer("weight", whole, persistent=False)
        self.register_buffer("scale", scale[:, 0], persistent=False)
        self.register_buffer("bias", None if bias is None else bias.detach().float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., K) -> (..., N)."""
        whole, scale = _quantized(x.reshape(-1, x.shape[-1]))
        product = torch._int_mm(whole, self.weight.t()) * scale  # (rows, N)
        y = product.mul_(self.scale) if self.bias is None else torch.addcmul(self.bias, product, self.scale)
        return y.view(*x.shape[:-1], -1)


def _quantized(x: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (R, K) as whole numbers, and what each row is to be multiplied with, (R, 1)."""
    scale = x.abs().amax(dim=-1, keepdim=True).clamp_(min=_LEAST).div_(_LARGEST)
    return (x / scale).round_().to(torch.int8), scale
