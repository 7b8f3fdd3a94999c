"""Shards of token ids given as lists, written as preparation writes them."""

from collections.abc import Generator
from functools import partial
from pathlib import Path

import numpy as np

from penna.data.encode import EncodedChunks
from penna.data.shards import Manifest, write_shards

Documents = list[list[int]]


def encoded(documents: Documents, skip: int = 0, *, at_once: int = 3) -> Generator[EncodedChunks]:
    """Documents as batches of ``at_once``; each token stands for two bytes, each document for one word."""
    for begin in range(skip, len(documents), at_once):
        batch = documents[begin : begin + at_once]
        lengths = np.array([len(ids) for ids in batch], dtype=np.int64)
        ids = np.array([number for ids in batch for number in ids], dtype=np.uint32)
        ones = np.ones_like(lengths)
        yield EncodedChunks(ids, np.cumsum(lengths), ones, 2 * lengths, ones)


def write_documents(folder: Path, parts: dict[str, Documents], vocab_size: int = 300) -> Manifest:
    """Write shards of these documents, ids as they are given."""
    return write_shards(
        folder,
        {name: partial(encoded, documents) for name, documents in parts.items()},
        vocab_size=vocab_size,
        tokenizer_hash="t",
        content_hash="c",
    )
