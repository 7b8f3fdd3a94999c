"""Value zeroing: how much of each token is in each other behind a block, seen by leaving its value vector out.

Mohebbi et al. 2023 ("Quantifying Context Mixing in Transformers", section 3): the value vector of one token is set to
zero in every head of a block, its attention weights kept; how far that turns another token's output of the whole block,
MLP and residual included, says how much the one was in the other. What a token keeps of itself by the residual is not
left out with its value, so that over many layers little comes to the last tokens of a causal model. Shapes: L blocks, T
tokens, C n_embd.
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

_ROUNDING = 1e-12  # distance below which float32 cannot tell two states from each other


def value_zeroing(probe: Probe) -> Scores:
    """How much of each token is in what the answer is read from: the maps of all blocks multiplied.

    As in the paper no identity is added to a map, since the residual is a part of what it was measured on.
    """
    return mixing_scores("value-zeroing", probe.question, rollout_of_maps(value_zeroing_maps(probe), probe.question))


@torch.inference_mode()
def value_zeroing_maps(probe: Probe) -> Tensor:
    """How much of each token (last axis) is in each (second to last) behind each block: (L, T, T).

    A row is the cosine distances its output is turned by, divided by their sum; where nothing turns it, it is made of
    itself alone.
    """
    states = probe.states(probe.embeddings())
    tokens = torch.arange(len(probe.question.ids), device=probe.ids.device)
    maps: list[Tensor] = []
    for layer, block in enumerate(block for block in probe.model.h if isinstance(block, Block)):
        columns: list[Tensor] = []
        for some in tokens.split(probe.batch_rows(len(tokens))):
            with _values_left_out(block, some):
                changed = probe.run_blocks(states[layer].expand(len(some), -1, -1), layer, layer + 1)
            columns.append(_cosine_distance(changed, states[layer + 1]))
        maps.append(_in_shares(torch.cat(columns).t().tril()))
    return torch.stack(maps)


@contextmanager
def _values_left_out(block: Block, tokens: Tensor) -> Generator[None]:
    """Let the block read rows in each of which the value vector of another token is zero."""
    width = block.attn.n_kv_head * block.attn.head_dim  # queries and keys stand before the values

    def leave_out(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        output[torch.arange(len(tokens), device=tokens.device), tokens, -width:] = 0

    hook = block.attn.c_attn.register_forward_hook(leave_out)
    try:
        yield
    finally:
        hook.remove()


def _cosine_distance(x: Tensor, y: Tensor) -> Tensor:
    """One minus the cosine of states (..., C), as half the squared distance of their directions, exact where small."""
    first, second = (nn.functional.normalize(states.float(), dim=-1) for states in (x, y))
    return (first - second).square().sum(-1) / 2


def _in_shares(distances: Tensor) -> Tensor:
    """Rows (T, T) divided by their sum."""
    distances = distances.where(distances > _ROUNDING, 0.0)
    total = distances.sum(-1, keepdim=True)
    same = torch.eye(len(distances), device=distances.device)
    return torch.where(total > 0, distances / total.clamp(min=_ROUNDING), same)
