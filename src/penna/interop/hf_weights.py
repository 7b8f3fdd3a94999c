"""Weight names and shapes: Penna's state dict and Hugging Face's, in both directions.

GPT-2 and GPT-1 keep matrices as (in, out) in ``Conv1D``, Penna as (out, in) in ``Linear``; Qwen3 keeps apart what Penna
stacks by rows: queries, keys and values in ``attn.c_attn``, gate and value in ``mlp.c_fc``. A ``Slot`` says where one
foreign tensor stands in one of Penna's; everything else follows from the list of them.
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
    """One foreign tensor and its place in Penna's."""

    foreign: str
    penna: str
    shape: tuple[int, ...]  # of the foreign tensor
    start: int  # its first row in Penna's tensor
    transposed: bool


# Penna's module -> the foreign modules it is made of, in the order of its rows. GPT-2's names are Penna's own.
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
_HEADS = ("lm_head.weight", "score.weight")  # which stand beside what the prefix names
# Buffers that older versions of transformers saved beside the weights.
_BUFFERS = re.compile(r"(.*\.)?(attn\.bias|attn\.masked_bias|position_ids|rotary_emb\.inv_freq)")


def penna_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Every name in Penna's state dict and its shape; nothing is allocated."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in GPT(config).state_dict().items()}


def tensor_mappings(config: ModelConfig, foreign: HFClass) -> list[TensorMapping]:
    """Where each tensor of this class stands in Penna's state dict, in Penna's order."""
    modules = {GPT1.name: _GPT1_MODULES, QWEN3.name: _QWEN3_MODULES}.get(foreign.name, {})
    heads, shared, inner = config.n_head * config.head_width, config.kv_heads * config.head_width, config.inner_width
    parts = {"attn.c_attn": (heads, shared, shared), "mlp.c_fc": (inner, inner)}
    found: list[TensorMapping] = []
    for name, shape in penna_shapes(config).items():
        module, _, leaf = name.rpartition(".")
        block = re.match(r"h\.(\d+)\.", module)
        inside = module[block.end() :] if block else module
        targets = modules.get(inside, (inside,))
        rows = parts[inside] if len(targets) > 1 else (shape[0],)
        before = "" if name in _HEADS else foreign.prefix
        if block:
            before += f"{'layers' if foreign is QWEN3 else 'h'}.{block[1]}."
        transposed = foreign is not QWEN3 and name.endswith(_CONV1D)
        start = 0
        for target, count in zip(targets, rows, strict=True):
            own = (count, *shape[1:])
            found.append(
                TensorMapping(f"{before}{target}.{leaf}", name, own[::-1] if transposed else own, start, transposed)
            )
            start += count
    return found


def weights_from_hf(
    tensors: dict[str, Tensor], config: ModelConfig, foreign: HFClass, source: str
) -> dict[str, Tensor]:
    """Penna's state dict in float32 from foreign tensors, which are used up.

    ``ExchangeError`` names the tensors that do not fit.
    """
    layout = tensor_mappings(config, foreign)
    _give_whole_names(tensors, config, foreign, source)
    _check(
        {name: tuple(tensor.shape) for name, tensor in tensors.items()},
        {slot.foreign: slot.shape for slot in layout},
        f"The weights in {source} are not those of the {foreign.architecture_name(config)} of its config.json",
        "Check that config.json and the weights were saved together, and that the download is whole.",
    )
    odd = [
        f"{name} ({str(tensor.dtype).removeprefix('torch.')})"
        for name, tensor in tensors.items()
        if tensor.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    ]
    if odd:
        raise InteropError(
            f"The weights in {source} are of a type Penna does not read: {_few(odd)}.",
            "Expected float32, float16 or bfloat16.",
            "Choose weights that are not quantised.",
        )
    pieces: dict[str, list[Tensor]] = {}
    for slot in layout:
        tensor = tensors.pop(slot.foreign).to(torch.float32)
        pieces.setdefault(slot.penna, []).append(tensor.t().contiguous() if slot.transposed else tensor)
    weights: dict[str, Tensor] = {}
    for name in list(pieces):
        stack = pieces.pop(name)
        weights[name] = stack[0] if len(stack) == 1 else torch.cat(stack)
    return weights


def weights_to_hf(weights: Mapping[str, Tensor], config: ModelConfig, foreign: HFClass) -> dict[str, Tensor]:
    """The class's tensors in float32 on the CPU from Penna's state dict; each owns its memory."""
    _check(
        {name: tuple(tensor.shape) for name, tensor in weights.items()},
        penna_shapes(config),
        "The weights are not those of the model that the configuration describes",
        "Give the state dict of a GPT built from this configuration.",
    )
    result: dict[str, Tensor] = {}
    for slot in tensor_mappings(config, foreign):
        tensor = weights[slot.penna].detach().to("cpu", torch.float32)
        rows = slot.shape[-1] if slot.transposed else slot.shape[0]
        tensor = tensor[slot.start : slot.start + rows]
        result[slot.foreign] = (tensor.t() if slot.transposed else tensor).clone(memory_format=torch.contiguous_format)
    return result


def _give_whole_names(tensors: dict[str, Tensor], config: ModelConfig, foreign: HFClass, source: str) -> None:
    """Drop old buffers, put the prefix a headless class leaves out, and let a tied head stand once."""
    head = "lm_head.weight"
    for name in [name for name in tensors if _BUFFERS.fullmatch(name)]:
        del tensors[name]
    if not any(name.startswith(foreign.prefix) for name in tensors):
        for name in [name for name in tensors if name not in _HEADS]:
            tensors[foreign.prefix + name] = tensors.pop(name)
    if not config.tie or head not in tensors:
        return
    embedding = next(slot.foreign for slot in tensor_mappings(config, foreign) if slot.penna == "wte.weight")
    if embedding not in tensors:
        tensors[embedding] = tensors[head]
    elif not torch.equal(tensors[head], tensors[embedding]):
        raise InteropError(
            f"config.json in {source} says tie_word_embeddings = true, but {head} differs from {embedding}.",
            "Expected a tied head to be the embedding.",
            "Set tie_word_embeddings to false in config.json if the two are meant to differ.",
        )
    del tensors[head]


def _check(
    found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]], happened: str, todo: str
) -> None:
    """Raise unless names and shapes agree, naming those that do not."""
    misshapen = [
        f"{name} {list(shape)}, expected {list(expected[name])}"
        for name, shape in found.items()
        if name in expected and shape != expected[name]
    ]
    complaints = [
        f"{word}: {_few(names)}"
        for word, names in (
            ("missing", [name for name in expected if name not in found]),
            ("not expected", [name for name in found if name not in expected]),
            ("of another shape", misshapen),
        )
        if names
    ]
    if complaints:
        raise InteropError(
            f"{happened}:\n  " + "\n  ".join(complaints), f"Expected these {len(expected)} tensors exactly.", todo
        )


def _few(names: list[str], limit: int = 8) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")
