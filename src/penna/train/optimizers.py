"""Optimizers as one object: parameters dealt out, one step, one multiplier, one flat state.

Matrices and embeddings decay, vectors (biases, norms) do not. The state is a flat dictionary of tensors by parameter
name, so a checkpoint can hold it as safetensors.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from penna.config.training import MuonConfig, OptimConfig
from penna.train.muon import Muon


class Optimizers:
    """All optimizers of one model."""

    def __init__(self, model: nn.Module, config: OptimConfig) -> None:
        named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        self._parameters = list(named.values())  # walking the modules costs 2 % of a small model's step
        self._names: dict[Tensor, str] = {parameter: name for name, parameter in named.items()}
        matrices = [p for name, p in named.items() if isinstance(config, MuonConfig) and _is_block_matrix(name, p)]
        rest = [parameter for parameter in named.values() if not any(parameter is matrix for matrix in matrices)]
        groups = [
            {"params": [p for p in rest if p.dim() >= 2], "weight_decay": config.weight_decay},
            {"params": [p for p in rest if p.dim() < 2], "weight_decay": 0.0},
        ]
        adamw = torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=config.learning_rate,
            betas=(config.beta1, config.beta2),
            eps=config.eps,
            fused=True,
        )
        self._all: list[torch.optim.Optimizer] = [adamw]
        if isinstance(config, MuonConfig) and matrices:
            self._all.append(Muon(matrices, config.matrix_learning_rate, config.momentum, config.matrix_weight_decay))
        self._highest = [[group["lr"] for group in optimizer.param_groups] for optimizer in self._all]
        self._grad_clip = config.grad_clip

    @property
    def learning_rate(self) -> float:
        """AdamW's learning rate as last set."""
        return float(self._all[0].param_groups[0]["lr"])

    def set_multiplier(self, multiplier: float) -> None:
        """Set every learning rate to this share of its highest."""
        for optimizer, rates in zip(self._all, self._highest, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * multiplier

    def step(self) -> None:
        """Clip the gradients, change the weights, forget the gradients."""
        if self._grad_clip is not None:
            nn.utils.clip_grad_norm_(self._parameters, self._grad_clip)
        for optimizer in self._all:
            optimizer.step()
        self.zero_grad()

    def zero_grad(self) -> None:
        """Forget the gradients."""
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
        """Take back what ``state`` gave."""
        for optimizer in self._all:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    prefix = f"{self._names[parameter]}/"
                    entries = {
                        key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)
                    }
                    if entries:
                        optimizer.state[parameter] = entries


def _is_block_matrix(name: str, parameter: nn.Parameter) -> bool:
    return parameter.dim() == 2 and name.startswith(("h.", "encoder.h."))
