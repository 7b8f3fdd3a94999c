"""Weights in eight bits: a quarter of the memory to be read for each token, at a small loss of precision.

Each row of a weight is scaled by its largest number, and so is each row of what it is multiplied with (LLM.int8's
"vector-wise" scaling: Dettmers et al. 2022, section 3.1); products of whole numbers are summed exactly, so that a row's
result does not depend on its batch. Embeddings, norms and biases stay as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

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
