"""Weight names and shapes: Penna's state dict to Hugging Face's and back.

GPT-2 and GPT-1 store matrices as (in, out) in ``Conv1D``, Penna as (out, in) in ``Linear``. Qwen3 stores separately
what Penna stacks by rows: queries, keys and values in ``attn.c_attn``, gate and value in ``mlp.c_fc``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from penna.config.sections import ModelConfig
from penna.errors import InteropError
from penna.interop.hf_config import GPT1, QWEN3, HFClass
from penna.model.gpt import GPT


@dataclass(frozen=True)
class TensorMapping:
    """A Hugging Face tensor and its rows in a tensor of Penna's."""

    hf_name: str
    name: str
    shape: tuple[int, ...]  # of the Hugging Face tensor
    start: int  # first row in Penna's tensor
    transposed: bool


# Penna's module -> the modules whose rows it stacks, in order. GPT-2's names are Penna's own.
_GPT1_MODULES = {"wte": ("tokens_embed",), "wpe": ("positions_embed",)}
_QWEN3_MODULES = {
    "wte": ("embed_tokens",),
    "ln_1": ("input_layernorm",),
    "attn.c_attn": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attn.q_norm": ("self_attn.q_norm",),
    "attn.k_norm": ("self_attn.k_norm",),
    "attn.c_proj": ("self_attn.o_proj",),
    "ln_2": ("post_attention_layernorm",),
    "mlp.c_fc": ("mlp.gate_proj", "mlp.up_proj"),
    "mlp.c_proj": ("mlp.down_proj",),
    "ln_f": ("norm",),
}
_CONV1D = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
_HEADS = ("lm_head.weight", "score.weight")  # have no prefix
# Buffers that older versions of transformers saved with the weights.
_BUFFERS = re.compile(r"(.*\.)?(attn\.bias|attn\.masked_bias|position_ids|rotary_emb\.inv_freq)")


def penna_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of Penna's state dict, without allocating memory."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in GPT(config).state_dict().items()}


def tensor_mappings(config: ModelConfig, hf_class: HFClass) -> list[TensorMapping]:
    """The mapping of every tensor of this class, in the order of Penna's state dict."""
    modules = {GPT1.name: _GPT1_MODULES, QWEN3.name: _QWEN3_MODULES}.get(hf_class.name, {})
    heads, shared, inner = config.n_head * config.head_width, config.kv_heads * config.head_width, config.inner_width
    stacked_rows = {"attn.c_attn": (heads, shared, shared), "mlp.c_fc": (inner, inner)}
    mappings: list[TensorMapping] = []
    for name, shape in penna_shapes(config).items():
        module, _, leaf = name.rpartition(".")
        block = re.match(r"h\.(\d+)\.", module)
        inside = module[block.end() :] if block else module
        targets = modules.get(inside, (inside,))
        rows = stacked_rows[inside] if len(targets) > 1 else (shape[0],)
        prefix = "" if name in _HEADS else hf_class.prefix
        if block:
            prefix += f"{'layers' if hf_class is QWEN3 else 'h'}.{block[1]}."
        transposed = hf_class is not QWEN3 and name.endswith(_CONV1D)
        start = 0
        for target, count in zip(targets, rows, strict=True):
            part = (count, *shape[1:])
            mappings.append(
                TensorMapping(f"{prefix}{target}.{leaf}", name, part[::-1] if transposed else part, start, transposed)
            )
            start += count
    return mappings


def weights_from_hf(
    tensors: dict[str, Tensor], config: ModelConfig, hf_class: HFClass, source: str
) -> dict[str, Tensor]:
    """Penna's state dict in float32 from Hugging Face tensors, which are removed from ``tensors`` to save memory.

    Raises InteropError naming the tensors that do not fit.
    """
    layout = tensor_mappings(config, hf_class)
    _normalize_names(tensors, config, hf_class, source)
    _check_shapes(
        {name: tuple(tensor.shape) for name, tensor in tensors.items()},
        {mapping.hf_name: mapping.shape for mapping in layout},
        f"The weights in {source} are not those of the {hf_class.architecture_name(config)} of its config.json",
        "Check that config.json and the weights were saved together, and that the download is complete.",
    )
    unsupported = [
        f"{name} ({str(tensor.dtype).removeprefix('torch.')})"
        for name, tensor in tensors.items()
        if tensor.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    ]
    if unsupported:
        raise InteropError(
            f"The weights in {source} have an unsupported type: {_format_names(unsupported)}.",
            "float32, float16 or bfloat16 is needed.",
            "Choose weights that are not quantized.",
        )
    parts: dict[str, list[Tensor]] = {}
    for mapping in layout:
        tensor = tensors.pop(mapping.hf_name).to(torch.float32)
        parts.setdefault(mapping.name, []).append(tensor.t().contiguous() if mapping.transposed else tensor)
    weights: dict[str, Tensor] = {}
    for name in list(parts):
        stacked = parts.pop(name)
        weights[name] = stacked[0] if len(stacked) == 1 else torch.cat(stacked)
    return weights


def weights_to_hf(weights: Mapping[str, Tensor], config: ModelConfig, hf_class: HFClass) -> dict[str, Tensor]:
    """The class's tensors from Penna's state dict, in float32 on the CPU; each has its own memory."""
    _check_shapes(
        {name: tuple(tensor.shape) for name, tensor in weights.items()},
        penna_shapes(config),
        "The weights do not match the configuration",
        "Pass the state dict of a GPT with this configuration.",
    )
    result: dict[str, Tensor] = {}
    for mapping in tensor_mappings(config, hf_class):
        tensor = weights[mapping.name].detach().to("cpu", torch.float32)
        rows = mapping.shape[-1] if mapping.transposed else mapping.shape[0]
        tensor = tensor[mapping.start : mapping.start + rows]
        result[mapping.hf_name] = (tensor.t() if mapping.transposed else tensor).clone(
            memory_format=torch.contiguous_format
        )
    return result


def _normalize_names(tensors: dict[str, Tensor], config: ModelConfig, hf_class: HFClass, source: str) -> None:
    """Remove old buffers, add the prefix that a class without a head omits, and remove the copy of a tied head."""
    head = "lm_head.weight"
    for name in [name for name in tensors if _BUFFERS.fullmatch(name)]:
        del tensors[name]
    if not any(name.startswith(hf_class.prefix) for name in tensors):
        for name in [name for name in tensors if name not in _HEADS]:
            tensors[hf_class.prefix + name] = tensors.pop(name)
    if not config.tie or head not in tensors:
        return
    embedding = next(mapping.hf_name for mapping in tensor_mappings(config, hf_class) if mapping.name == "wte.weight")
    if embedding not in tensors:
        tensors[embedding] = tensors[head]
    elif not torch.equal(tensors[head], tensors[embedding]):
        raise InteropError(
            f"config.json in {source} says tie_word_embeddings = true, but {head} differs from {embedding}.",
            "A tied head must equal the embedding.",
            "If the two should differ, set tie_word_embeddings to false in config.json.",
        )
    del tensors[head]


def _check_shapes(
    found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]], happened: str, advice: str
) -> None:
    """Raise InteropError naming the tensors whose names or shapes differ."""
    wrong_shapes = [
        f"{name} {list(shape)}, expected {list(expected[name])}"
        for name, shape in found.items()
        if name in expected and shape != expected[name]
    ]
    problems = [
        f"{word}: {_format_names(names)}"
        for word, names in (
            ("missing", [name for name in expected if name not in found]),
            ("unexpected", [name for name in found if name not in expected]),
            ("wrong shape", wrong_shapes),
        )
        if names
    ]
    if problems:
        raise InteropError(
            f"{happened}:\n  " + "\n  ".join(problems), f"Exactly these {len(expected)} tensors are needed.", advice
        )


def _format_names(names: list[str], limit: int = 8) -> str:
    """The first names and the number of the others."""
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")
