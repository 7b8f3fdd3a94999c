"""Shards to batches: windows of a fixed length, or documents in rows of their own, in a seeded order.

*Packed*, the training stream is a ring. Each epoch turns it by a random amount, cuts it into windows of ``block_size``
and reads them in a random order: every token is a target exactly once an epoch, and no two epochs cut at the same
places. By *documents*, a document and the separator behind it are cut into rows of at most ``block_size`` targets, and
each row is read from a separator on, so no row sees another document.

A row's targets are its ids shifted by one; where nothing is due stands ``-100``, always on the right, which needs no
mask under a causal model. Everything is a function of (seed, epoch, position) alone, so going on from any step needs
no replay, and rank r of many takes every r-th row.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from penna.data.shards import TokenStream
from penna.errors import DataError

IGNORE_INDEX = -100
TARGET_KEYS = frozenset({"targets", "label"})  # the tensors of a batch that say what is asked for
INPUT_KEYS = frozenset({"ids", "source"})  # those that a model reads
Batch = dict[str, Tensor]
_READ = 1 << 22  # tokens looked through at a time for separators
_WIDTHS = 8  # batches of documents are as wide as a multiple of this


def micro_batches(batch: Batch, tokens: int) -> Iterator[Batch]:
    """A batch in parts of whole rows, each of at most so many tokens with their padding and of one row at least."""
    width = sum(batch[name].shape[1] for name in INPUT_KEYS & batch.keys())
    rows = len(batch["ids"])
    at_once = max(1, tokens // max(width, 1))
    for start in range(0, rows, at_once):
        yield {name: tensor[start : start + at_once] for name, tensor in batch.items()}


class TrainingWindows:
    """The windows of a training stream, in another order each epoch."""

    def __init__(self, stream: TokenStream, block_size: int, seed: int) -> None:
        if len(stream) < 2:
            raise DataError(
                f"The training text is {len(stream)} tokens long.",
                "At least two tokens: one to read and one to predict.",
                "Give more text.",
            )
        self._stream, self._block, self._seed = stream, block_size, seed
        self._order: tuple[int, int, NDArray[np.int64]] | None = None  # epoch, turn, permutation

    @property
    def rows(self) -> int:
        """Windows in an epoch."""
        return -(-len(self._stream) // self._block)

    @property
    def tokens(self) -> int:
        """Targets in an epoch: every token of the stream."""
        return len(self._stream)

    def batch(self, epoch: int, rows: range) -> Batch:
        """Rows (positions in the epoch's order) as ids and targets, each (len(rows), block_size) of int64."""
        turn, order = self._epoch(epoch)
        starts = order[rows.start : rows.stop : rows.step] * self._block
        tokens = torch.from_numpy(self._stream.windows(turn + starts, self._block + 1))
        targets = tokens[:, 1:].clone()
        for row in np.flatnonzero(starts + self._block > len(self._stream)):  # the last window goes on behind the ring
            targets[row, len(self._stream) - int(starts[row]) :] = IGNORE_INDEX
        return {"ids": tokens[:, :-1].contiguous(), "targets": targets}

    def _epoch(self, epoch: int) -> tuple[int, NDArray[np.int64]]:
        if self._order is None or self._order[0] != epoch:
            random = np.random.default_rng((self._seed, epoch))
            turn = int(random.integers(len(self._stream)))
            self._order = (epoch, turn, random.permutation(self.rows))
        return self._order[1], self._order[2]


class ValidationWindows:
    """The windows of a validation stream, side by side from its beginning; all tokens but the first are targets."""

    def __init__(self, stream: TokenStream, block_size: int) -> None:
        if len(stream) < 2:
            raise DataError(
                f"The validation text is {len(stream)} tokens long, which makes zero windows.",
                "At least two tokens: one to read and one to predict.",
                "Keep a larger share for validation (--data.valid-fraction 0.2), or give more text.",
            )
        self._stream, self._block = stream, block_size

    @property
    def rows(self) -> int:
        """Windows in the whole stream."""
        return -(-(len(self._stream) - 1) // self._block)

    def batch(self, rows: range) -> Batch:
        """Rows as ids and targets, each (len(rows), block_size) of int64; the last window is filled up on the right."""
        ids = np.zeros((len(rows), self._block), dtype=np.int64)
        targets = np.full_like(ids, IGNORE_INDEX)
        for index, row in enumerate(rows):
            start = row * self._block
            count = min(self._block, len(self._stream) - 1 - start)
            tokens = self._stream.read(start, count + 1)
            ids[index, :count], targets[index, :count] = tokens[:-1], tokens[1:]
        return {"ids": torch.from_numpy(ids), "targets": torch.from_numpy(targets)}


class TrainingDocuments:
    """The rows of a training stream's documents, in another order each epoch.

    A document's tokens and the separator behind it (the next document's, or the first one of the stream) are cut into
    rows of ``block_size`` targets; its last row is shorter. Every row is read from the separator on. Documents without
    a token have no row. Of every ``rows_per_step`` rows, which are learned from together, the longer come first: a
    batch then holds rows of like length, and little padding, and each step learns from the same rows.
    """

    def __init__(self, stream: TokenStream, separator: int, block_size: int, seed: int, rows_per_step: int = 1) -> None:
        self._documents = _Documents(stream, separator, block_size, "training")
        self._seed, self._rows_per_step = seed, rows_per_step
        self._order: tuple[int, NDArray[np.int64]] | None = None  # epoch, starts of rows in its order

    @property
    def rows(self) -> int:
        """Rows in an epoch."""
        return len(self._documents.starts)

    @property
    def tokens(self) -> int:
        """Targets in an epoch: every token of the documents, and each one's end."""
        return self._documents.tokens

    def batch(self, epoch: int, rows: range) -> Batch:
        """Rows (positions in the epoch's order) as ids and targets of int64, as wide as the longest of them needs."""
        if self._order is None or self._order[0] != epoch:
            random = np.random.default_rng((self._seed, epoch))
            order = random.permutation(self.rows)
            shorter = np.lexsort((-self._documents.lengths[order], np.arange(self.rows) // self._rows_per_step))
            self._order = (epoch, self._documents.starts[order[shorter]])
        return self._documents.read(self._order[1][rows.start : rows.stop : rows.step])


class ValidationDocuments:
    """The rows of a validation stream's documents, in their order, each token and each document's end a target."""

    def __init__(self, stream: TokenStream, separator: int, block_size: int) -> None:
        self._documents = _Documents(stream, separator, block_size, "validation")

    @property
    def rows(self) -> int:
        """Rows in the whole stream."""
        return len(self._documents.starts)

    def batch(self, rows: range) -> Batch:
        """Rows as ids and targets of int64, as wide as the longest of them needs."""
        return self._documents.read(self._documents.starts[rows.start : rows.stop : rows.step])


class _Documents:
    """Where the rows of a stream's documents start, and how they are read. Keeps twelve bytes for a row."""

    def __init__(self, stream: TokenStream, separator: int, block: int, part: str) -> None:
        self._stream, self._separator, self._block = stream, separator, block
        documents = self.tokens = 0
        found: list[NDArray[np.int64]] = []
        targets: list[NDArray[np.int32]] = []
        for starts, ends in _document_borders(stream, separator):
            documents += len(starts)
            lengths = ends - starts  # of targets: the document's tokens, and its end
            some = lengths > 1
            found.append(_row_starts(starts[some] + 1, lengths[some], block))
            targets.append(_row_lengths(lengths[some], block))
            self.tokens += int(lengths[some].sum())
        self.starts = np.concatenate(found) if found else np.empty(0, dtype=np.int64)
        self.lengths = np.concatenate(targets) if targets else np.empty(0, dtype=np.int32)
        if not len(self.starts):
            raise DataError(
                f"The {part} text has no document with a token in it ({documents} documents in all).",
                "At least one: each document makes rows of its own.",
                "Give more text."
                if part == "training"
                else "Keep a larger share for validation (--data.valid-fraction 0.2), or give more text.",
            )

    def read(self, starts: NDArray[np.int64]) -> Batch:
        """The rows whose first targets stand at ``starts``: ids and targets, each (len(starts), width)."""
        window = self._stream.windows(starts, self._block)  # (B, block_size); behind the last document, the first one
        ends = window == self._separator
        lengths = np.where(ends.any(axis=1), ends.argmax(axis=1) + 1, self._block)
        width = min(self._block, -(-int(lengths.max(initial=1)) // _WIDTHS) * _WIDTHS)
        due = np.arange(width) < lengths[:, None]  # (B, width)
        targets = np.where(due, window[:, :width], IGNORE_INDEX)
        ids = np.full_like(targets, self._separator)
        ids[:, 1:] = np.where(due[:, 1:], window[:, : width - 1], self._separator)
        return {"ids": torch.from_numpy(ids), "targets": torch.from_numpy(targets)}


def _document_borders(stream: TokenStream, separator: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """The separators before documents and those behind them, chunk by chunk; the stream's end is the last one's."""
    before: NDArray[np.int64] = np.empty(0, dtype=np.int64)  # the separator of the document not yet ended
    for start in range(0, len(stream), _READ):
        tokens = stream.read(start, min(_READ, len(stream) - start))
        borders = np.concatenate([before, np.flatnonzero(tokens == separator) + start])
        yield borders[:-1], borders[1:]
        before = borders[-1:]
    yield before, np.full_like(before, len(stream))


def _row_starts(firsts: NDArray[np.int64], lengths: NDArray[np.int64], block: int) -> NDArray[np.int64]:
    """Where rows start that cut runs of ``lengths`` tokens from ``firsts`` on into pieces of ``block``."""
    rows = -(-lengths // block)
    first_rows = np.cumsum(rows) - rows
    return np.repeat(firsts - first_rows * block, rows) + np.arange(int(rows.sum())) * block


def _row_lengths(lengths: NDArray[np.int64], block: int) -> NDArray[np.int32]:
    """The lengths of the rows that ``_row_starts`` cuts: full ones, and at each run's end what is left."""
    rows = -(-lengths // block)
    cut = np.full(int(rows.sum()), block, dtype=np.int32)
    cut[np.cumsum(rows) - 1] = lengths - (rows - 1) * block
    return cut
