"""What each head does: where it looks in given texts, and whether it finds again what stood behind the same token.

Token ids of texts in; figures per layer and head out, the mean over tokens. The first two tokens of a text are not
counted: from the third on the first one, the one before and the token itself are three different ones. Shapes: L
blocks, H heads, B texts, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from penna.model.gpt import GPT

_LEAST = 3  # tokens that a text must have
_REPEATED = 25  # random tokens that are read twice
_SEQUENCES = 8


@dataclass(frozen=True)
class HeadStatistics:
    """Figures per layer and head, (L, H) each."""

    tokens: int  # that were counted
    entropy: Tensor  # of a token's attention, in nats
    distance: Tensor  # tokens looked back, weighted by attention
    first: Tensor  # share of attention on the first token
    previous: Tensor  # on the token before
    itself: Tensor


@torch.inference_mode()
def head_statistics(model: GPT, texts: Sequence[Sequence[int]]) -> HeadStatistics:
    """The mean over all tokens of texts, each text read by itself from its beginning.

    Texts of fewer than three tokens count nothing; all others must fit the block. Raises ValueError where none is left.
    """
    shape = (model.config.n_layer, model.config.n_head)
    sums = torch.zeros(5, *shape, dtype=torch.float64)
    counted = 0
    for ids in texts:
        if len(ids) < _LEAST:
            continue
        counted += len(ids) - _LEAST + 1
        for layer, maps in enumerate(_maps(model, [ids])):
            sums[:, layer] += _figures(maps[0]).cpu()
    if not counted:
        raise ValueError(f"no text has {_LEAST} tokens")
    return HeadStatistics(counted, *(sums / counted).unbind())


@torch.inference_mode()
def induction_scores(model: GPT, candidates: Sequence[int], start: Sequence[int] = (), seed: int = 0) -> Tensor:
    """How much each head looks, in a random sequence read twice, at what stood behind the same token before: (L, H).

    Olsson et al. 2022 ("In-context Learning and Induction Heads"), prefix matching: the mean attention from a token of
    the second reading to the place behind its first. The tokens are drawn from ``candidates`` without replacement, so
    that there is one such place; ``start`` stands in front. Raises ValueError where not even two could be drawn.
    """
    count = min(_REPEATED, len(candidates), (model.config.block_size - len(start)) // 2)
    if count < 2:
        raise ValueError(f"{count} tokens cannot be read twice")
    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.randperm(len(candidates), generator=generator)[:count].tolist() for _ in range(_SEQUENCES)]
    rows = [[*start, *2 * [candidates[place] for place in places]] for places in drawn]
    looks_from = len(start) + count + torch.arange(count)
    found = [maps[:, :, looks_from, looks_from - count + 1].mean((0, 2)) for maps in _maps(model, rows)]
    return torch.stack(found).cpu()


def _maps(model: GPT, rows: Sequence[Sequence[int]]) -> list[Tensor]:
    """The attention of each block on rows of one length: L of (B, H, T, T)."""
    attention: list[Tensor] = []
    model.hidden(torch.tensor(rows, device=model.wte.weight.device), attention=attention)
    return attention


def _figures(maps: Tensor) -> Tensor:
    """The sums over a text's tokens, from the third on, of what one block's heads do: (H, T, T) -> (5, H)."""
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
    return torch.stack(each)[:, :, _LEAST - 1 :].sum(-1)
