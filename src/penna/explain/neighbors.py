"""Neighbours of a word: the tokens whose embeddings point the same way.

A word in; the tokens nearest to it by the cosine of their rows, in the matrix that is read and, where another one gives
the logits, in that as well. A word of several tokens stands where their mean does, which says less the more there are.
Shapes: V vocab_size, C n_embd.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from penna.model.gpt import GPT
from penna.tokenizer.tokenizer import Tokenizer

Matrix = Literal["wte", "lm_head"]


class Neighbor(NamedTuple):
    """A token beside a word."""

    token: str  # as `Tokenizer.token_text` shows it
    id: int
    cosine: float


@dataclass(frozen=True)
class Neighbors:
    """A word, its tokens, and what is near it."""

    word: str
    tokens: tuple[str, ...]
    ids: tuple[int, ...]
    near: dict[Matrix, tuple[Neighbor, ...]]  # the nearest first


def neighbors(model: GPT, tokenizer: Tokenizer, word: str, top: int = 10) -> Neighbors:
    """The ``top`` nearest tokens of a word, its own left out. The word has a token at least."""
    ids = word_ids(tokenizer, word)
    matrices: dict[Matrix, Tensor] = {"wte": model.wte.weight}
    if model.lm_head is not None:
        matrices["lm_head"] = model.lm_head.weight
    near: dict[Matrix, tuple[Neighbor, ...]] = {}
    for name, matrix in matrices.items():
        found = _nearest(matrix[: tokenizer.vocab_size], ids, top)
        near[name] = tuple(Neighbor(tokenizer.token_text(index), index, cosine) for index, cosine in found)
    return Neighbors(word, tuple(map(tokenizer.token_text, ids)), tuple(ids), near)


def word_ids(tokenizer: Tokenizer, word: str) -> list[int]:
    """A word's tokens as it stands within a text: with the space before it, unless it has fewer tokens without."""
    alone = tokenizer.encode(word)
    if word[:1].isspace() or tokenizer.kind == "characters":
        return alone
    spaced = tokenizer.encode(f" {word}")
    return spaced if len(spaced) <= len(alone) else alone


@torch.inference_mode()
def _nearest(matrix: Tensor, ids: Sequence[int], top: int) -> list[tuple[int, float]]:
    """Rows of a matrix (V, C) nearest to the mean of some of them, which are left out."""
    own = torch.tensor(ids, device=matrix.device)
    cosines = F.cosine_similarity(matrix.float(), matrix[own].float().mean(0, keepdim=True))  # (V,)
    cosines[own] = -2.0  # behind all others
    found = cosines.topk(min(top, len(matrix) - len(own.unique())))
    return list(zip(found.indices.tolist(), found.values.tolist(), strict=True))
