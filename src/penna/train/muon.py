"""Muon: gradient steps whose matrices are made orthogonal first (Jordan et al. 2024, "Muon").

The mean of gradients of each matrix is replaced by the nearest matrix with equal singular values, found with five
Newton-Schulz iterations on all matrices of one shape together. It is for the two-dimensional weights inside blocks;
embeddings, norms and biases belong to AdamW.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

# Coefficients of the quintic iteration, chosen by its authors for the steepest slope at zero.
_A, _B, _C = 3.4445, -4.7750, 2.0315


def orthogonalise(matrices: Tensor, iterations: int = 5) -> Tensor:
    """Drive all singular values of each matrix towards 1: (N, rows, columns) -> the same shape, float32.

    The products run in bfloat16 where the hardware multiplies it natively; the iteration tolerates its rounding.
    """
    x = matrices.to(_product_dtype(matrices.device))
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT.contiguous()
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(iterations):
        square = x @ x.mT
        x = _A * x + (_B * square + _C * square @ square) @ x
    return (x.mT if tall else x).float()


def _product_dtype(device: torch.device) -> torch.dtype:
    native = device.type == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if native else torch.float32


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, with an update of root-mean-square size sqrt(max(1, rows / columns))."""

    def __init__(self, params: Iterable[torch.nn.Parameter], lr: float, momentum: float, weight_decay: float) -> None:
        super().__init__(list(params), {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Change every matrix once by its gradient."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[torch.nn.Parameter]] = {}
            for matrix in group["params"]:
                if matrix.grad is not None:
                    by_shape.setdefault(matrix.shape, []).append(matrix)
            for shape, matrices in by_shape.items():
                self._step_shape(shape, matrices, group["lr"], group["momentum"], group["weight_decay"])

    def _step_shape(
        self, shape: torch.Size, matrices: list[torch.nn.Parameter], lr: float, momentum: float, decay: float
    ) -> None:
        for matrix in matrices:
            if "momentum" not in self.state[matrix]:
                self.state[matrix]["momentum"] = torch.zeros_like(matrix)
        gradients: list[Tensor] = [matrix.grad for matrix in matrices if matrix.grad is not None]
        means: list[Tensor] = [self.state[matrix]["momentum"] for matrix in matrices]
        torch._foreach_lerp_(means, gradients, 1 - momentum)
        looking_ahead = torch.stack(torch._foreach_lerp(gradients, means, momentum))
        update = orthogonalise(looking_ahead) * max(1.0, shape[0] / shape[1]) ** 0.5
        weights: list[Tensor] = list(matrices)
        torch._foreach_mul_(weights, 1 - lr * decay)
        torch._foreach_add_(weights, list(update.unbind()), alpha=-lr)
