"""The number format of a model for inference: float32, bfloat16 or int8 weights."""

from __future__ import annotations

from typing import Literal

import torch

from penna.errors import DeviceError
from penna.model.gpt import GPT
from penna.model.linear import Int8Linear, Linear

Dtype = Literal["float32", "bfloat16", "int8"]


def convert_weights(model: GPT, dtype: Dtype) -> None:
    """Convert the weights of a loaded model in place. Raises DeviceError for int8 on other devices than a CPU."""
    device = model.wte.weight.device
    if dtype == "bfloat16":
        for parameter in model.parameters():
            parameter.data = parameter.data.to(torch.bfloat16)
        if model.config.positions == "sinusoidal":
            model.sinusoids = model.sinusoids.to(torch.bfloat16)
    elif dtype == "int8":
        if device.type != "cpu":
            raise DeviceError(
                f"int8 weights are not supported on {device}.", "int8 needs a CPU.", "Use --dtype bfloat16 instead."
            )
        head = Int8Linear(model.head_weight, None)
        for module in list(model.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, Linear):
                    setattr(module, name, Int8Linear(child.weight, child.bias))
        model.int8_head = head
