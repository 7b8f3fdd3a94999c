"""Nearest neighbors of a word in the embedding space: the tokens whose vectors have the highest cosine similarity.

They are computed in the input embedding and, if the logits have a matrix of their own, in that as well. A word of
several tokens is represented by their mean, which says less the more there are. Shapes: V vocab_size, C n_embd.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from penna.model.gpt import GPT
from penna.tokenizer.tokenizer import Tokenizer

Matrix = Literal["wte", "lm_head"]


@dataclass(frozen=True)
class Neighbor:
    """A token near a word."""

    token: str  # in the form of `Tokenizer.token_text`
    id: int
    cosine: float


@dataclass(frozen=True)
class Neighbors:
    """A word, its tokens, and the tokens near it."""

    word: str
    tokens: tuple[str, ...]
    ids: tuple[int, ...]
    near: dict[Matrix, tuple[Neighbor, ...]]  # nearest first


def neighbors(model: GPT, tokenizer: Tokenizer, word: str, top: int = 10) -> Neighbors:
    """The ``top`` nearest tokens of a word with at least one token; its own tokens are left out."""
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
    """The ids of a word inside a text: with a space before it, unless it has fewer tokens without."""
    alone = tokenizer.encode(word)
    if word[:1].isspace() or tokenizer.kind == "characters":
        return alone
    spaced = tokenizer.encode(f" {word}")
    return spaced if len(spaced) <= len(alone) else alone


@torch.inference_mode()
def _nearest(matrix: Tensor, ids: Sequence[int], top: int) -> list[tuple[int, float]]:
    """The rows of a matrix (V, C) nearest to the mean of some of them, which are left out."""
    own = torch.tensor(ids, device=matrix.device)
    cosines = F.cosine_similarity(matrix.float(), matrix[own].float().mean(0, keepdim=True))  # (V,)
    cosines[own] = -2.0  # below all others
    found = cosines.topk(min(top, len(matrix) - len(own.unique())))
    return list(zip(found.indices.tolist(), found.values.tolist(), strict=True))
