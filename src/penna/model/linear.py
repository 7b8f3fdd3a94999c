"""Linear layers: float32 with the faster of torch's two CPU libraries, and int8 weights for inference.

torch sends float32 products to its BLAS, which may leave half of the vector width unused on processors that are not
Intel's; oneDNN, in the same torch, uses all of it. `fastest_matmul` measures which is faster, and ``GPT.use_matmul``
sets it. Both differ only in the order of summation. Small batches during decoding have their own product
(`penna.model.fast.small_batch_matmul`).
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from penna.model.fast.onednn import is_clearly_faster, onednn_linear
from penna.model.fast.small_batch_matmul import SmallBatchMatmul

Matmul = Literal["blas", "onednn"]

_MIN_ONEDNN_SIZE = 1 << 20  # with fewer multiplications, oneDNN's setup costs more than it saves
_INT8_MAX = 127
_MIN_SCALE = 1e-30  # avoids division by zero for a row of zeros


class _OneDNN(torch.autograd.Function):
    """``F.linear`` by oneDNN: x (..., K), weight (N, K), bias (N,) -> (..., N), float32 on a CPU."""

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
    """The gradient of a linear layer's input: grad (rows, N), weight (N, K) -> (rows, K)."""
    return onednn_linear(grad, weight.t(), None) if _uses_onednn(grad, weight.shape[1], matmul) else grad @ weight


def grad_of_weight(grad: Tensor, x: Tensor, matmul: Matmul) -> Tensor:
    """The gradient of a linear layer's weight: grad (rows, N), x (rows, K) -> (N, K)."""
    return onednn_linear(grad.t(), x.t(), None) if _uses_onednn(grad, x.shape[1], matmul) else grad.t() @ x


def linear(
    x: Tensor, weight: Tensor, bias: Tensor | None, matmul: Matmul, small_batch: SmallBatchMatmul | None = None
) -> Tensor:
    """``F.linear`` by the fastest method: x (..., K), weight (N, K), bias (N,) -> (..., N)."""
    if small_batch is not None and small_batch.applies_to(x, weight):
        return small_batch.multiply(x, bias)
    if _uses_onednn(x, weight.shape[0], matmul):
        return _OneDNN.apply(x, weight, bias)  # type: ignore[no-any-return]
    return F.linear(x, weight, bias)


def _uses_onednn(x: Tensor, columns: int, matmul: Matmul) -> bool:
    """Whether oneDNN multiplies x (..., K) with a (K, columns) matrix."""
    if matmul == "blas" or x.dtype != torch.float32 or x.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        return False
    # torch.compile chooses its own kernels.
    return x.numel() * columns >= _MIN_ONEDNN_SIZE and not torch.compiler.is_compiling()


class Linear(nn.Linear):
    """torch's linear layer with a choice of the library that multiplies."""

    matmul: Matmul = "blas"
    small_batch: SmallBatchMatmul | None = None

    def forward(self, input: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features)."""
        return linear(input, self.weight, self.bias, self.matmul, self.small_batch)


def fastest_matmul(device: torch.device) -> Matmul:
    """The faster library for float32 products on this machine; timing both takes a few milliseconds."""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return "blas"
    x, weight = torch.ones(512, 512), torch.ones(512, 512)
    is_faster = is_clearly_faster(lambda: onednn_linear(x, weight, None), lambda: F.linear(x, weight))
    return "onednn" if is_faster else "blas"


class Int8Linear(nn.Module):
    """A linear layer with weights in eight bits, for inference on a CPU: a quarter of the memory traffic per token.

    Each row of the weight and of the input is scaled by its largest absolute value ("vector-wise" quantization:
    LLM.int8, Dettmers et al. 2022, section 3.1). Integer products are summed exactly, so the result of a row does not
    depend on its batch.
    """

    weight: Tensor  # (N, K) int8
    scale: Tensor  # (N,)
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        quantized, scale = _quantize(weight.detach().float())
        self.register_buffer("weight", quantized, persistent=False)
        self.register_buffer("scale", scale[:, 0], persistent=False)
        self.register_buffer("bias", None if bias is None else bias.detach().float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., K) -> (..., N)."""
        quantized, scale = _quantize(x.reshape(-1, x.shape[-1]))
        product = torch._int_mm(quantized, self.weight.t()) * scale  # (rows, N)
        y = product.mul_(self.scale) if self.bias is None else torch.addcmul(self.bias, product, self.scale)
        return y.view(*x.shape[:-1], -1)


def _quantize(x: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (R, K) as int8 integers, and the scale of each row, (R, 1)."""
    scale = x.abs().amax(dim=-1, keepdim=True).clamp_(min=_MIN_SCALE).div_(_INT8_MAX)
    return (x / scale).round_().to(torch.int8), scale
