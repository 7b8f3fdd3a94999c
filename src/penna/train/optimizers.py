"""AdamW and Muon behind one object: one step, one learning-rate multiplier, one flat state.

Matrices and embeddings get weight decay, vectors (biases, norms) do not. The state is a flat dictionary of tensors by
parameter name, so a checkpoint can hold it as safetensors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from penna.config.training import MuonConfig, OptimConfig
from penna.errors import RecipeError
from penna.model.ngrams import NGRAM_TABLE

# Muon's coefficients of the quintic Newton-Schulz iteration, chosen by its authors for the steepest slope at zero.
_A, _B, _C = 3.4445, -4.7750, 2.0315


class Optimizers:
    """All optimizers of one model."""

    def __init__(self, model: nn.Module, config: OptimConfig) -> None:
        named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        self._parameters = list(named.values())  # kept: walking the modules costs 2 % of a small model's step
        self._names: dict[Tensor, str] = {parameter: name for name, parameter in named.items()}
        groups = _parameter_groups(named, config)
        if config.ngram_learning_rate is not None and not groups.ngram_tables:
            raise RecipeError(
                f"optim.ngram_learning_rate = {config.ngram_learning_rate:g}, but the model has no n-gram table.",
                "A model has one if model.ngram_size is set.",
                "Remove optim.ngram_learning_rate, or set model.ngram_size.",
            )
        ngram_rate = config.ngram_learning_rate or config.learning_rate
        adamw_groups: list[dict[str, Any]] = [
            {"params": groups.decayed, "weight_decay": config.weight_decay},
            {"params": groups.vectors, "weight_decay": 0.0},
            {"params": groups.ngram_tables, "weight_decay": config.weight_decay, "lr": ngram_rate},
        ]
        adamw = torch.optim.AdamW(
            [group for group in adamw_groups if group["params"]],
            lr=config.learning_rate,
            betas=(config.beta1, config.beta2),
            eps=config.eps,
            fused=True,
        )
        self._all: list[torch.optim.Optimizer] = [adamw]
        if isinstance(config, MuonConfig) and groups.matrices:
            self._all.append(
                Muon(groups.matrices, config.matrix_learning_rate, config.momentum, config.matrix_weight_decay)
            )
        self._peak_rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in self._all]
        self._grad_clip = config.grad_clip

    @property
    def learning_rate(self) -> float:
        """AdamW's current learning rate."""
        return float(self._all[0].param_groups[0]["lr"])

    def set_multiplier(self, multiplier: float) -> None:
        """Set every learning rate to this share of its peak."""
        for optimizer, rates in zip(self._all, self._peak_rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * multiplier

    def step(self) -> None:
        """Clip the gradients, update the weights, drop the gradients."""
        if self._grad_clip is not None:
            nn.utils.clip_grad_norm_(self._parameters, self._grad_clip)
        for optimizer in self._all:
            optimizer.step()
        self.zero_grad()

    def zero_grad(self) -> None:
        """Drop the gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    def state(self) -> dict[str, Tensor]:
        """Every state tensor as ``parameter name/key``."""
        return {
            f"{self._names[parameter]}/{key}": value
            for optimizer in self._all
            for parameter, entries in optimizer.state.items()
            for key, value in entries.items()
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """The inverse of ``state``."""
        for optimizer in self._all:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    prefix = f"{self._names[parameter]}/"
                    entries = {
                        key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)
                    }
                    if entries:
                        optimizer.state[parameter] = entries


class _ParameterGroups(NamedTuple):
    matrices: list[nn.Parameter]  # Muon's
    ngram_tables: list[nn.Parameter]
    decayed: list[nn.Parameter]
    vectors: list[nn.Parameter]


def _parameter_groups(named: Mapping[str, nn.Parameter], config: OptimConfig) -> _ParameterGroups:
    groups = _ParameterGroups([], [], [], [])
    for name, parameter in named.items():
        if isinstance(config, MuonConfig) and parameter.dim() == 2 and name.startswith(("h.", "encoder.h.")):
            groups.matrices.append(parameter)
        elif name == NGRAM_TABLE:
            groups.ngram_tables.append(parameter)
        else:
            (groups.decayed if parameter.dim() >= 2 else groups.vectors).append(parameter)
    return groups


class Muon(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024) for the two-dimensional weights inside blocks; the rest belongs to AdamW.

    The Nesterov momentum of each matrix is orthogonalized and scaled to a root mean square of sqrt(max(1, rows /
    columns)). Matrices of one shape are processed together.
    """

    def __init__(self, params: Iterable[torch.nn.Parameter], lr: float, momentum: float, weight_decay: float) -> None:
        super().__init__(list(params), {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient."""
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
        nesterov = torch.stack(torch._foreach_lerp(gradients, means, momentum))
        update = orthogonalize(nesterov) * max(1.0, shape[0] / shape[1]) ** 0.5
        weights: list[Tensor] = list(matrices)
        torch._foreach_mul_(weights, 1 - lr * decay)
        torch._foreach_add_(weights, list(update.unbind()), alpha=-lr)


def orthogonalize(matrices: Tensor, iterations: int = 5) -> Tensor:
    """Move all singular values of each matrix toward 1: (N, rows, columns) -> the same shape, float32.

    The products run in bfloat16 if the hardware multiplies it natively; the iteration tolerates its rounding.
    """
    x = matrices.to(_product_dtype(matrices.device))
    is_tall = x.shape[-2] > x.shape[-1]
    if is_tall:
        x = x.mT.contiguous()
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(iterations):
        square = x @ x.mT
        x = _A * x + (_B * square + _C * square @ square) @ x
    return (x.mT if is_tall else x).float()


def _product_dtype(device: torch.device) -> torch.dtype:
    native = device.type == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if native else torch.float32
