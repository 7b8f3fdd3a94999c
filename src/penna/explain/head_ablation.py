"""Head ablation: how the answer changes without each attention head, or without several of them.

A head is switched off by setting its part of the input of ``attn.c_proj`` to zero (Michel et al. 2019, "Are Sixteen
Heads Really Better than One?", section 3.1). Later layers run on the changed state. Layers and heads are numbered from
0. Shapes: L blocks, H heads, D head_dim.
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
    """The answer without each head minus the answer with all heads; negative if the head supports the answer."""

    value: Tensor  # (L, H) of the question's value, in nats
    probability: Tensor  # (L, H) of the target's probability


@torch.inference_mode()
def head_changes(probe: Probe) -> HeadChanges:
    """The effect of each head alone. The heads of a layer are batched, starting from the state before that layer."""
    states = probe.states(probe.embeddings())
    value, probability = _read_answer(probe, states[-1])
    values: list[Tensor] = []
    probabilities: list[Tensor] = []
    for layer in range(probe.n_layer):
        factors = _ablation_factors(probe.model.config.n_head, probe.model.config.head_width, states[layer])
        answers: list[tuple[Tensor, Tensor]] = []
        for some in factors.split(probe.batch_rows(states[layer].shape[1])):
            with _scaled_heads(_block(probe, layer), some):
                answers.append(_read_answer(probe, probe.run_blocks(states[layer].expand(len(some), -1, -1), layer)))
        values.append(torch.cat([answer for answer, _ in answers]))
        probabilities.append(torch.cat([answer for _, answer in answers]))
    return HeadChanges(torch.stack(values) - value, torch.stack(probabilities) - probability)


@contextmanager
def without_heads(probe: Probe, heads: Sequence[Head]) -> Generator[None]:
    """Switch these heads of the probe's model off within the context.

    Raises RecipeError for a layer or head that does not exist.
    """
    config = probe.model.config
    for layer, head in heads:
        if not (0 <= layer < config.n_layer and 0 <= head < config.n_head):
            raise RecipeError(
                f"There is no head {layer}.{head}: the model has {config.n_layer} layers of {config.n_head} heads.",
                f"Layers are numbered from 0 to {config.n_layer - 1}, heads from 0 to {config.n_head - 1}.",
                f"For example, {config.n_layer - 1}.{config.n_head - 1} is the last head of the last layer.",
            )
    with ExitStack() as stack:
        for layer in sorted({layer for layer, _ in heads}):
            factors = _ablation_factors(config.n_head, config.head_width, probe.model.wte.weight)
            off = [head for its_layer, head in heads if its_layer == layer]
            stack.enter_context(_scaled_heads(_block(probe, layer), factors[off].amin(0, keepdim=True)))
        yield


def _block(probe: Probe, layer: int) -> Block:
    block = probe.model.h[layer]
    assert isinstance(block, Block)
    return block


def _ablation_factors(n_head: int, head_dim: int, like: Tensor) -> Tensor:
    """Factors for the heads' outputs, one row per head in which that head is off: (H, 1, H * D)."""
    return (1 - torch.eye(n_head, device=like.device, dtype=like.dtype)).repeat_interleave(head_dim, dim=1)[:, None]


@contextmanager
def _scaled_heads(block: Block, factors: Tensor) -> Generator[None]:
    """Multiply the block's head outputs by factors (B or 1, 1, H * D) before they are mixed."""

    def multiply(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (inputs[0] * factors,)

    hook = block.attn.c_proj.register_forward_pre_hook(multiply)
    try:
        yield
    finally:
        hook.remove()


def _read_answer(probe: Probe, state: Tensor) -> tuple[Tensor, Tensor]:
    """The question's value and the target's probability for states after the last block (B, T, C): two of (B,)."""
    hidden, target = probe.final_norm(state), probe.question.target
    return target.value(probe.model, hidden), target.probability(probe.model, hidden)
