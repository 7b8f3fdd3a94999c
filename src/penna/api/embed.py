"""Embedding: texts in, a vector for each out, the mean of the model's last hidden states over the text's tokens.

A model that learned to go on with texts did not learn that texts alike have vectors alike; their mean hidden state is a
plain measure of it (the baseline of Reimers and Gurevych 2019, section 3), and not of length one.
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

_TOKENS_AT_ONCE = 8192


@dataclass(frozen=True, eq=False)
class Embeddings:
    """The vectors of N texts."""

    vectors: NDArray[np.float32]  # (N, n_embd)
    tokens: tuple[int, ...]  # read of each, the document separator in front among them


def embed(loaded: LoadedModel, texts: Sequence[str]) -> Embeddings:
    """The mean of the last hidden states of each text's tokens. Raises as ``embed_ids``."""
    return embed_ids(loaded, loaded.require_tokenizer().encode_batch(texts))


@torch.inference_mode()
def embed_ids(loaded: LoadedModel, rows: Sequence[Sequence[int]]) -> Embeddings:
    """The same of token ids.

    Where the model learned behind a document separator, it is read in front and not counted. Raises RunError for a
    model that reads its texts in an encoder, DataError for a text without a token or of more tokens than the block.
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
        at_once = max(1, _TOKENS_AT_ONCE // len(whole[order[-1]]))
        group, order = order[-at_once:], order[:-at_once]
        ids = torch.zeros(len(group), len(whole[group[-1]]), dtype=torch.int64)  # padded on the right, where none looks
        counted = torch.zeros(ids.shape, dtype=torch.float32)
        for place, number in enumerate(group):
            ids[place, : len(whole[number])] = torch.tensor(whole[number])
            counted[place, len(front) : len(whole[number])] = 1 / len(rows[number])
        device = model.wte.weight.device
        states = model.hidden(ids.to(device)).float()  # (B, T, C)
        vectors[group] = (states * counted.to(device)[..., None]).sum(dim=1).cpu().numpy()
    return Embeddings(vectors, tuple(map(len, whole)))


def _check(rows: Sequence[Sequence[int]], room: int) -> None:
    for number, row in enumerate(rows, start=1):
        if 1 <= len(row) <= room:
            continue
        name = f"Text {number} of {len(rows)}" if len(rows) > 1 else "The text"
        raise DataError(
            f"{name} has {len(row):,} tokens." if row else f"{name} has no token.",
            f"From 1 to {room:,}, which the block holds.",
            "Cut it into parts." if row else "Leave it out, or write something there.",
        )
