"""Heads switched off: how the answer changes without one head, each in turn, or without any that are named.

A head is switched off where its output would enter the block: its part of what ``attn.c_proj`` reads is zero (Michel et
al. 2019, "Are Sixteen Heads Really Better than One?", section 3.1). Everything behind it then reads on without it.
Layers and heads are numbered from 0. Shapes: L blocks, H heads, D head_dim.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from penna.errors import RecipeError
from penna.explain.probe import Probe
from penna.model.gpt import Block

Head = tuple[int, int]  # layer and head


@dataclass(frozen=True)
class HeadChanges:
    """What the answer is less without each head than with all of them; below zero where the head spoke for it."""

    value: Tensor  # (L, H) of the question's value, in nats
    probability: Tensor  # (L, H) of the target's probability


@torch.inference_mode()
def head_changes(probe: Probe) -> HeadChanges:
    """Every head switched off alone. The heads of a layer are read side by side, from the state before it on."""
    states = probe.states(probe.embeddings())
    value, probability = _answers(probe, states[-1])
    values: list[Tensor] = []
    probabilities: list[Tensor] = []
    for layer in range(probe.n_layer):
        rows = _each_off(probe.model.config.n_head, probe.model.config.head_width, states[layer])  # (H, 1, H * D)
        step = probe.batch_rows(states[layer].shape[1])
        answers: list[tuple[Tensor, Tensor]] = []
        for some in rows.split(step):
            with _factor(_block(probe, layer), some):
                answers.append(_answers(probe, probe.run_blocks(states[layer].expand(len(some), -1, -1), layer)))
        values.append(torch.cat([answer for answer, _ in answers]))
        probabilities.append(torch.cat([answer for _, answer in answers]))
    return HeadChanges(torch.stack(values) - value, torch.stack(probabilities) - probability)


@contextmanager
def without_heads(probe: Probe, heads: Sequence[Head]) -> Generator[None]:
    """Let the probe's model read without these heads, as long as the context lasts.

    Raises RecipeError for a layer or a head that does not exist.
    """
    config = probe.model.config
    for layer, head in heads:
        if not (0 <= layer < config.n_layer and 0 <= head < config.n_head):
            raise RecipeError(
                f"There is no head {layer}.{head}: the model has {config.n_layer} layers of {config.n_head} heads.",
                f"A layer from 0 to {config.n_layer - 1}, and a head from 0 to {config.n_head - 1}.",
                f"Such as {config.n_layer - 1}.{config.n_head - 1}, the last head of the last layer.",
            )
    with ExitStack() as stack:
        for layer in sorted({layer for layer, _ in heads}):
            each = _each_off(config.n_head, config.head_width, probe.model.wte.weight)
            off = [head for where, head in heads if where == layer]
            stack.enter_context(_factor(_block(probe, layer), each[off].amin(0, keepdim=True)))
        yield


def _block(probe: Probe, layer: int) -> Block:
    block = probe.model.h[layer]
    assert isinstance(block, Block)
    return block


def _each_off(n_head: int, head_dim: int, like: Tensor) -> Tensor:
    """What the heads' outputs are multiplied with in rows in each of which another head is off: (H, 1, H * D)."""
    return (1 - torch.eye(n_head, device=like.device, dtype=like.dtype)).repeat_interleave(head_dim, dim=1)[:, None]


@contextmanager
def _factor(block: Block, factors: Tensor) -> Generator[None]:
    """Let the block's heads be multiplied with factors (B or 1, 1, H * D) before they are mixed."""

    def multiply(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (inputs[0] * factors,)

    hook = block.attn.c_proj.register_forward_pre_hook(multiply)
    try:
        yield
    finally:
        hook.remove()


def _answers(probe: Probe, state: Tensor) -> tuple[Tensor, Tensor]:
    """The question's value and the target's probability of states behind the last block (B, T, C): two of (B,)."""
    hidden, target = probe.final_norm(state), probe.question.target
    return target.value(probe.model, hidden), target.probability(probe.model, hidden)
