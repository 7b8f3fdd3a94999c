"""Text embeddings: the mean of the model's last hidden states over a text's tokens.

A language model is not trained to give similar texts similar vectors; the mean hidden state is a simple baseline
(Reimers and Gurevych 2019, section 3). Vectors are not normalized.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from penna.api.capabilities import check_can_continue
from penna.errors import DataError
from penna.loading import LoadedModel

_MAX_TOKENS = 8192


@dataclass(frozen=True, eq=False)
class Embeddings:
    """The vectors of N texts."""

    vectors: NDArray[np.float32]  # (N, n_embd)
    tokens: tuple[int, ...]  # tokens read of each, with the document separator


def embed(loaded: LoadedModel, texts: Sequence[str]) -> Embeddings:
    """The embeddings of texts. Raises as ``embed_ids``."""
    return embed_ids(loaded, loaded.require_tokenizer().encode_batch(texts))


@torch.inference_mode()
def embed_ids(loaded: LoadedModel, rows: Sequence[Sequence[int]]) -> Embeddings:
    """The embeddings of token id lists.

    If the model was trained with a document separator in front, it is read but not averaged. Raises RunError for an
    encoder-decoder model, and DataError for a text with no tokens or more than fit the context.
    """
    check_can_continue(loaded)
    model, tokenizer = loaded.model, loaded.require_tokenizer()
    separator = tokenizer.separator_id if loaded.starts_documents else None
    front = [] if separator is None else [separator]
    _check(rows, model.config.block_size - len(front))
    whole = [[*front, *row] for row in rows]
    vectors = np.zeros((len(rows), model.config.n_embd), dtype=np.float32)
    order = sorted(range(len(rows)), key=lambda number: len(whole[number]))
    while order:
        at_once = max(1, _MAX_TOKENS // len(whole[order[-1]]))
        group, order = order[-at_once:], order[:-at_once]
        ids = torch.zeros(
            len(group), len(whole[group[-1]]), dtype=torch.int64
        )  # padded on the right, which no token attends to
        weights = torch.zeros(ids.shape, dtype=torch.float32)
        for place, number in enumerate(group):
            ids[place, : len(whole[number])] = torch.tensor(whole[number])
            weights[place, len(front) : len(whole[number])] = 1 / len(rows[number])
        device = model.wte.weight.device
        states = model.hidden(ids.to(device)).float()  # (B, T, C)
        vectors[group] = (states * weights.to(device)[..., None]).sum(dim=1).cpu().numpy()
    return Embeddings(vectors, tuple(map(len, whole)))


def _check(rows: Sequence[Sequence[int]], maximum: int) -> None:
    for number, row in enumerate(rows, start=1):
        if 1 <= len(row) <= maximum:
            continue
        name = f"Text {number} of {len(rows)}" if len(rows) > 1 else "The text"
        raise DataError(
            f"{name} has {len(row):,} tokens." if row else f"{name} has no tokens.",
            f"A text must have 1 to {maximum:,} tokens to fit the context.",
            "Split it." if row else "Drop it or fill it.",
        )
