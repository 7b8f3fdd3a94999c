"""Named model shapes: what each preset fills in where a recipe says nothing.

The values are the published ones (Radford et al. 2018 for ``gpt1``, 2019 for ``gpt2``); ``modern`` is the layout of
Qwen3 (Yang et al. 2025), so that other tools run its weights.
"""

from typing import Any

_GPT2: dict[str, Any] = {
    "n_layer": 12,
    "n_head": 12,
    "n_embd": 768,
    "block_size": 1024,
    "positions": "learned",
    "norm_position": "pre",
    "norm": "layernorm",
    "norm_eps": 1e-5,
    "mlp": "gelu",
    "qk_norm": False,
    "bias": True,
    "tie": True,
    "residual_init": "scaled",
}

PRESETS: dict[str, dict[str, Any]] = {
    "gpt2": _GPT2,
    "gpt2-medium": {**_GPT2, "n_layer": 24, "n_head": 16, "n_embd": 1024},
    "gpt2-large": {**_GPT2, "n_layer": 36, "n_head": 20, "n_embd": 1280},
    "gpt2-xl": {**_GPT2, "n_layer": 48, "n_head": 25, "n_embd": 1600},
    "gpt1": {**_GPT2, "block_size": 512, "norm_position": "post"},
    "modern": {
        **_GPT2,
        "positions": "rotary",
        "norm": "rmsnorm",
        "norm_eps": 1e-6,
        "mlp": "swiglu",
        "qk_norm": True,
        "bias": False,
        "residual_init": "zero",
    },
}
