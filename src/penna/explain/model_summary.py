"""The size of a model: its parts, its memory, and its multiplications per token.

Everything is counted from the model's modules; nothing is measured. Multiplications and additions count one each, so a
token that passes an m x n matrix takes 2 m n of them; norms, softmax and activations are left out, as usual (Kaplan et
al. 2020, "Scaling Laws for Neural Language Models", section 2.1). Attention is counted as if every token attended to
all T tokens of its context (Chowdhery et al. 2022, "PaLM", appendix B); in a causal model it is half of that on
average. The backward pass takes twice the forward pass.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from torch import nn

from penna.model.gpt import GPT, count_parameters

FLOAT32, BFLOAT16 = 4, 2  # bytes per number
_BLOCK = re.compile(r"\bh\.(\d+)\.")


@dataclass(frozen=True)
class Part:
    """A layer of a model, and the same layer of all other blocks."""

    name: str  # of its module, with * for the number of a block
    shapes: tuple[tuple[int, ...], ...]  # of its weight (outputs, inputs) and its bias, if any
    times: int  # number of copies
    parameters: int  # of all copies; 0 if it shares another part's matrix


@dataclass(frozen=True)
class Memory:
    """Bytes of a model, without activations."""

    weights: dict[str, int]  # by number format: float32, bfloat16, int8
    cache_per_token: dict[str, int]  # keys and values of a token, float32 and bfloat16
    memory_per_source_token: dict[str, int] | None  # seq2seq only: what the decoder keeps of a source token
    training: dict[str, int]  # weights, gradients and optimizer states, in float32


@dataclass(frozen=True)
class Flops:
    """Multiplications and additions per token that is generated, or read by a model without an encoder."""

    context: int  # T, the tokens that each attends to
    matrices: int  # forward: 2 x the number of weights of every matrix it passes
    attention: int  # forward: 4 x n_layer x n_head x head_dim x T; seq2seq includes attention to the source
    source_context: int | None  # seq2seq only: the tokens of the source
    source: int | None  # seq2seq only: forward, per source token
    json_properties = ("forward", "training")

    @property
    def forward(self) -> int:
        """Forward pass."""
        return self.matrices + self.attention

    @property
    def training(self) -> int:
        """Forward and backward pass."""
        return 3 * self.forward


@dataclass(frozen=True)
class ModelSummary:
    """Parts in the order in which they are built, and what they take."""

    parts: tuple[Part, ...]
    parameters: int  # a tied matrix counts once
    memory: Memory
    flops: Flops


def model_summary(
    model: GPT, context: int | None = None, *, optimizer: Literal["adamw", "muon"] = "adamw"
) -> ModelSummary:
    """The summary of a model in float32 that is trained with this optimizer.

    A token attends to ``context`` tokens, by default and at most to a block; likewise for the source.
    """
    return ModelSummary(
        tuple(_parts(model)), count_parameters(model), _memory(model, optimizer), _flops(model, context)
    )


def _parts(model: GPT) -> Iterator[Part]:
    copies: dict[str, list[nn.Module]] = {}
    for name, module in model.named_modules():
        if next(module.parameters(recurse=False), None) is not None:
            copies.setdefault(_BLOCK.sub("h.*.", name), []).append(module)
    for name, modules in copies.items():
        shapes = tuple(tuple(parameter.shape) for parameter in modules[0].parameters(recurse=False))
        yield Part(name, shapes, len(modules), len(modules) * sum(map(math.prod, shapes)))
    if model.lm_head is None:
        yield Part("lm_head", (tuple(model.wte.weight.shape),), 1, 0)


def _memory(model: GPT, optimizer: Literal["adamw", "muon"]) -> Memory:
    config, parameters = model.config, count_parameters(model)
    matrices = [module for module in model.modules() if isinstance(module, nn.Linear)]
    int8 = parameters * FLOAT32
    for matrix in matrices:  # in eight bits, with a scale for each row
        int8 += matrix.weight.numel() * (1 - FLOAT32) + matrix.out_features * FLOAT32
    if model.lm_head is None:  # an int8 copy for the logits; the embeddings stay in float32
        int8 += model.head_weight.numel() + len(model.head_weight) * FLOAT32
    cache = 2 * config.n_layer * config.kv_heads * config.head_width
    source = cache + config.n_embd if config.arch == "seq2seq" else None
    training = {"weights": parameters * FLOAT32, "gradients": parameters * FLOAT32}
    muon = sum(
        parameter.numel()
        for name, parameter in model.named_parameters()
        if optimizer == "muon" and parameter.dim() == 2 and name.startswith(("h.", "encoder.h."))
    )
    if muon:
        training["muon"] = muon * FLOAT32
    training["adamw"] = 2 * (parameters - muon) * FLOAT32
    return Memory(
        weights={"float32": parameters * FLOAT32, "bfloat16": parameters * BFLOAT16, "int8": int8},
        cache_per_token={"float32": cache * FLOAT32, "bfloat16": cache * BFLOAT16},
        memory_per_source_token=None
        if source is None
        else {"float32": source * FLOAT32, "bfloat16": source * BFLOAT16},
        training=training,
    )


def _flops(model: GPT, context: int | None) -> Flops:
    config = model.config
    decoder = model.head_weight.numel() if model.lm_head is None else 0
    encoder = 0
    for name, module in model.named_modules():
        if not isinstance(module, nn.Linear) or module is model.score:  # the classification head runs once per text
            continue
        if name.startswith("encoder.") or name.endswith("crossattention.c_attn"):
            encoder += module.weight.numel()
        else:
            decoder += module.weight.numel()
    length = min(context or config.block_size, config.block_size)
    per_pair = 4 * config.n_head * config.head_width  # a query with a key, and a weight with a value, in every head
    attention = per_pair * config.n_layer * length
    if config.arch == "gpt":
        return Flops(length, 2 * decoder, attention, None, None)
    source_length = min(context or config.source_span, config.source_span)
    return Flops(
        context=length,
        matrices=2 * decoder,
        attention=attention + per_pair * config.n_layer * source_length,
        source_context=source_length,
        source=2 * encoder + per_pair * config.encoder_layers * source_length,
    )
