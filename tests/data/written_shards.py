"""Writes shards from lists of token ids, as preparation writes them."""

from collections.abc import Generator, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from penna.data.encode import EncodedChunks
from penna.data.shards import Manifest, write_shards

Documents = list[list[int]]


def encoded(
    parts: Mapping[str, Documents], skip: Mapping[str, int], *, batch_size: int = 3
) -> Generator[EncodedChunks]:
    """Documents in batches of ``batch_size``, part by part; each token is two bytes and each document one word."""
    for part, documents in parts.items():
        for begin in range(skip.get(part, 0), len(documents), batch_size):
            batch = documents[begin : begin + batch_size]
            lengths = np.array([len(ids) for ids in batch], dtype=np.int64)
            ids = np.array([number for ids in batch for number in ids], dtype=np.uint32)
            ones = np.ones_like(lengths)
            yield EncodedChunks(part, ids, np.cumsum(lengths), ones, 2 * lengths, ones)


def write_documents(folder: Path, parts: dict[str, Documents], vocab_size: int = 300) -> Manifest:
    """Write shards of these documents."""
    return write_shards(
        folder,
        partial(encoded, parts),
        list(parts),
        vocab_size=vocab_size,
        tokenizer_hash="t",
        content_hash="c",
    )
