"""In which numbers a model that only writes or reads computes: float32, bfloat16, or weights in eight bits."""

from __future__ import annotations

from typing import Literal

import torch

from penna.errors import DeviceError
from penna.model.gpt import GPT
from penna.model.linear import Int8Linear, Linear

Dtype = Literal["float32", "bfloat16", "int8"]


def convert_weights(model: GPT, dtype: Dtype) -> None:
    """Turn a loaded model's weights into these numbers. Raises DeviceError for int8 on anything but a CPU."""
    device = model.wte.weight.device
    if dtype == "bfloat16":
        for parameter in model.parameters():
            parameter.data = parameter.data.to(torch.bfloat16)
        if model.config.positions == "sinusoidal":
            model.sinusoids = model.sinusoids.to(torch.bfloat16)
    elif dtype == "int8":
        if device.type != "cpu":
            raise DeviceError(
                f"Weights in int8 are not multiplied on {device}.", "int8 is for a CPU.", "Take --dtype bfloat16 there."
            )
        head = Int8Linear(model.head_weight, None)
        for module in list(model.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, Linear):
                    setattr(module, name, Int8Linear(child.weight, child.bias))
        model.int8_head = head
