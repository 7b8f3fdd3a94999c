"""Value zeroing: how much each token contributes to each other token after a block.

Mohebbi et al. 2023 ("Quantifying Context Mixing in Transformers", section 3): the value vector of one token is set to
zero in every head of a block, with attention weights unchanged; the change of direction of another token's output of
the whole block, MLP and residual included, measures how much the one contributed to the other. What a token keeps of
itself through the residual is not removed with its value, so over many layers little reaches the last tokens of a
causal model. Shapes: L blocks, T tokens, C n_embd.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from penna.explain.attention import mixing_scores, rollout_of_maps
from penna.explain.explanation import Scores
from penna.explain.probe import Probe
from penna.model.gpt import Block

_ROUNDING = 1e-12  # distance below which float32 cannot separate two states


def value_zeroing(probe: Probe) -> Scores:
    """The share of each token in what the answer is read from: the maps of all blocks multiplied.

    As in the paper no identity is added to a map, because the measured block includes the residual.
    """
    return mixing_scores("value-zeroing", probe.question, rollout_of_maps(value_zeroing_maps(probe), probe.question))


@torch.inference_mode()
def value_zeroing_maps(probe: Probe) -> Tensor:
    """The share of each token (last axis) in each (second to last) after each block: (L, T, T).

    A row contains the cosine distances by which the token's output changes, divided by their sum. If nothing changes
    it, the token consists of itself.
    """
    states = probe.states(probe.embeddings())
    tokens = torch.arange(len(probe.question.ids), device=probe.ids.device)
    maps: list[Tensor] = []
    for layer, block in enumerate(block for block in probe.model.h if isinstance(block, Block)):
        columns: list[Tensor] = []
        for some in tokens.split(probe.batch_rows(len(tokens))):
            with _zeroed_values(block, some):
                changed = probe.run_blocks(states[layer].expand(len(some), -1, -1), layer, layer + 1)
            columns.append(_cosine_distance(changed, states[layer + 1]))
        maps.append(_row_shares(torch.cat(columns).t().tril()))
    return torch.stack(maps)


@contextmanager
def _zeroed_values(block: Block, tokens: Tensor) -> Generator[None]:
    """Set the value vector of another token to zero in each row that the block reads."""
    width = block.attn.n_kv_head * block.attn.head_dim  # queries and keys come before the values

    def zero(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        output[torch.arange(len(tokens), device=tokens.device), tokens, -width:] = 0

    hook = block.attn.c_attn.register_forward_hook(zero)
    try:
        yield
    finally:
        hook.remove()


def _cosine_distance(x: Tensor, y: Tensor) -> Tensor:
    """One minus the cosine of states (..., C), as half the squared distance of unit vectors: exact for small angles."""
    first, second = (nn.functional.normalize(states.float(), dim=-1) for states in (x, y))
    return (first - second).square().sum(-1) / 2


def _row_shares(distances: Tensor) -> Tensor:
    """Rows (T, T) divided by their sum."""
    distances = distances.where(distances > _ROUNDING, 0.0)
    total = distances.sum(-1, keepdim=True)
    identity = torch.eye(len(distances), device=distances.device)
    return torch.where(total > 0, distances / total.clamp(min=_ROUNDING), identity)
