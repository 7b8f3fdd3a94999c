"""Statistics of attention heads on given texts: entropy, distance, special positions, and induction.

Statistics are means over tokens. The first two tokens of a text are not counted: from the third on, the first token,
the previous token and the token itself are three different ones. Shapes: L blocks, H heads, B texts, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from penna.model.gpt import GPT

_MIN_TOKENS = 3  # of a text
_REPEATED = 25  # random tokens that are read twice
_SEQUENCES = 8


@dataclass(frozen=True)
class HeadStatistics:
    """Statistics per layer and head, (L, H) each."""

    tokens: int  # counted tokens
    entropy: Tensor  # of a token's attention, in nats
    distance: Tensor  # tokens looked back, weighted by attention
    first: Tensor  # share of attention on the first token
    previous: Tensor  # share on the previous token
    itself: Tensor  # share on the token itself


@torch.inference_mode()
def head_statistics(model: GPT, texts: Sequence[Sequence[int]]) -> HeadStatistics:
    """The mean over all tokens of the texts, each read on its own.

    Texts with fewer than three tokens are skipped; the others must fit the block. Raises ValueError if none is left.
    """
    shape = (model.config.n_layer, model.config.n_head)
    sums = torch.zeros(5, *shape, dtype=torch.float64)
    counted = 0
    for ids in texts:
        if len(ids) < _MIN_TOKENS:
            continue
        counted += len(ids) - _MIN_TOKENS + 1
        for layer, maps in enumerate(_maps(model, [ids])):
            sums[:, layer] += _sums(maps[0]).cpu()
    if not counted:
        raise ValueError(f"no text has {_MIN_TOKENS} tokens")
    return HeadStatistics(counted, *(sums / counted).unbind())


@torch.inference_mode()
def induction_scores(model: GPT, candidates: Sequence[int], start: Sequence[int] = (), seed: int = 0) -> Tensor:
    """The attention of each head to the token after the previous occurrence of the current token: (L, H).

    The prefix-matching score of Olsson et al. 2022 ("In-context Learning and Induction Heads"): a random sequence is
    read twice, and the mean attention from a token of the second reading to the position after its first occurrence is
    measured. Tokens are drawn from ``candidates`` without replacement, so that there is one such position; ``start``
    comes first. Raises ValueError if fewer than two tokens can be drawn.
    """
    count = min(_REPEATED, len(candidates), (model.config.block_size - len(start)) // 2)
    if count < 2:
        raise ValueError(f"at least two tokens must fit the block twice (got {count})")
    generator = torch.Generator().manual_seed(seed)
    draws = [torch.randperm(len(candidates), generator=generator)[:count].tolist() for _ in range(_SEQUENCES)]
    rows = [[*start, *2 * [candidates[number] for number in draw]] for draw in draws]
    queries = len(start) + count + torch.arange(count)
    found = [maps[:, :, queries, queries - count + 1].mean((0, 2)) for maps in _maps(model, rows)]
    return torch.stack(found).cpu()


def _maps(model: GPT, rows: Sequence[Sequence[int]]) -> list[Tensor]:
    """The attention of each block on rows of equal length: L of (B, H, T, T)."""
    attention: list[Tensor] = []
    model.hidden(torch.tensor(rows, device=model.wte.weight.device), attention=attention)
    return attention


def _sums(maps: Tensor) -> Tensor:
    """The sums of one block's statistics over a text's tokens, from the third on: (H, T, T) -> (5, H)."""
    maps = maps.double()
    T = maps.shape[-1]
    at = torch.arange(T, device=maps.device)
    back = (at[:, None] - at).clamp(min=0)
    each = (
        torch.special.entr(maps).sum(-1),
        (maps * back).sum(-1),
        maps[:, :, 0],
        torch.nn.functional.pad(maps.diagonal(-1, 1, 2), (1, 0)),
        maps.diagonal(0, 1, 2),
    )  # (H, T) each
    return torch.stack(each)[:, :, _MIN_TOKENS - 1 :].sum(-1)
