"""What a model is made of, and what it takes: a GPT or a seq2seq in; its parts, memory and multiplications out.

Everything is counted on the model's own modules, and none of it is measured. Multiplications and additions count one
each, so a token that goes through an m x n matrix takes 2 m n of them; norms, softmax and activations are left out, as
usual (Kaplan et al. 2020, "Scaling Laws for Neural Language Models", section 2.1). Attention is counted as if every
token looked at all T of its context (Chowdhery et al. 2022, "PaLM", appendix B); in a causal model they look at half of
it on average. The backward pass takes twice the forward pass.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from torch import nn

from penna.model.gpt import GPT, count_parameters

FLOAT32, BFLOAT16 = 4, 2  # bytes of a number
_BLOCK = re.compile(r"\bh\.(\d+)\.")


@dataclass(frozen=True)
class Part:
    """A layer of a model, and those like it in other blocks."""

    name: str  # of its module, with * in place of a block's number
    shapes: tuple[tuple[int, ...], ...]  # of its weight (outputs, inputs) and, where there is one, its bias
    times: int  # how many there are
    parameters: int  # of all of them; 0 where it is another part's matrix


@dataclass(frozen=True)
class Memory:
    """Bytes of a model at rest and at work; what passes through it is not counted."""

    weights: dict[str, int]  # by the numbers they are kept in: float32, bfloat16, int8
    cache_per_token: dict[str, int]  # keys and values that a token leaves behind, float32 and bfloat16
    memory_per_source_token: dict[str, int] | None  # of a seq2seq: what a token of the source leaves for the decoder
    training: dict[str, int]  # weights, gradients, and the states of each optimizer, in float32


@dataclass(frozen=True)
class Flops:
    """Multiplications and additions for each token that is written, or read by a model without an encoder."""

    context: int  # T, the tokens that each looks at
    matrices: int  # forward: 2 x the numbers of every matrix it goes through
    attention: int  # forward: 4 x n_layer x n_head x head_dim x T; a seq2seq looks at its source as well
    source_context: int | None  # of a seq2seq: the tokens of its source
    source: int | None  # forward, of each of these

    @property
    def forward(self) -> int:
        """Of a token."""
        return self.matrices + self.attention

    @property
    def training(self) -> int:
        """Of a token, forward and backward."""
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
    """All there is to say of a model in float32, trained with this optimizer.

    A token looks at ``context`` tokens, or at as many as the block holds; a source has as many too, or as it may have.
    """
    return ModelSummary(
        tuple(_parts(model)), count_parameters(model), _memory(model, optimizer), _flops(model, context)
    )


def _parts(model: GPT) -> Iterator[Part]:
    alike: dict[str, list[nn.Module]] = {}
    for name, module in model.named_modules():
        if next(module.parameters(recurse=False), None) is not None:
            alike.setdefault(_BLOCK.sub("h.*.", name), []).append(module)
    for name, modules in alike.items():
        shapes = tuple(tuple(parameter.shape) for parameter in modules[0].parameters(recurse=False))
        yield Part(name, shapes, len(modules), len(modules) * sum(map(math.prod, shapes)))
    if model.lm_head is None:
        yield Part("lm_head", (tuple(model.wte.weight.shape),), 1, 0)


def _memory(model: GPT, optimizer: Literal["adamw", "muon"]) -> Memory:
    config, parameters = model.config, count_parameters(model)
    matrices = [module for module in model.modules() if isinstance(module, nn.Linear)]
    whole = parameters * FLOAT32
    for matrix in matrices:  # in eight bits, with a factor for each row
        whole += matrix.weight.numel() * (1 - FLOAT32) + matrix.out_features * FLOAT32
    if model.lm_head is None:  # the embeddings stay as they are beside it
        whole += model.head_weight.numel() + len(model.head_weight) * FLOAT32
    kept = 2 * config.n_layer * config.kv_heads * config.head_width
    of_source = kept + config.n_embd if config.arch == "seq2seq" else None
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
        weights={"float32": parameters * FLOAT32, "bfloat16": parameters * BFLOAT16, "int8": whole},
        cache_per_token={"float32": kept * FLOAT32, "bfloat16": kept * BFLOAT16},
        memory_per_source_token=None
        if of_source is None
        else {"float32": of_source * FLOAT32, "bfloat16": of_source * BFLOAT16},
        training=training,
    )


def _flops(model: GPT, context: int | None) -> Flops:
    config = model.config
    written = model.head_weight.numel() if model.lm_head is None else 0
    of_source = 0
    for name, module in model.named_modules():
        if not isinstance(module, nn.Linear) or module is model.score:  # a class is told once a text
            continue
        if name.startswith("encoder.") or name.endswith("crossattention.c_attn"):
            of_source += module.weight.numel()
        else:
            written += module.weight.numel()
    length = min(context or config.block_size, config.block_size)
    per_place = 4 * config.n_head * config.head_width  # a query with a key, and a weight with a value, in every head
    attention = per_place * config.n_layer * length
    if config.arch == "gpt":
        return Flops(length, 2 * written, attention, None, None)
    source_length = min(context or config.source_span, config.source_span)
    return Flops(
        context=length,
        matrices=2 * written,
        attention=attention + per_place * config.n_layer * source_length,
        source_context=source_length,
        source=2 * of_source + per_place * config.encoder_layers * source_length,
    )
