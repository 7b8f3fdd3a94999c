"""Token shards to batches, as packed windows or as rows of single documents, in a seeded order.

*Packed*: the training stream is a ring. Each epoch rotates it by a random amount, cuts it into windows of
``block_size`` tokens and reads them in random order. Every token is a target exactly once per epoch, and the cuts
differ between epochs. *Documents*: a document and the separator after it are cut into rows of at most ``block_size``
targets. Every row starts with a separator, so no row sees another document.

The targets of a row are its ids shifted by one, and ``-100`` for padding. Padding is always on the right, so a causal
model needs no mask. A batch is a function of (seed, epoch, position) alone, so resuming needs no replay. Rank r takes
every r-th row.
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
TARGET_KEYS = frozenset({"targets", "label"})  # the tensors that the loss compares with
INPUT_KEYS = frozenset({"ids", "source"})  # the tensors that a model reads
Batch = dict[str, Tensor]
_READ = 1 << 22  # tokens searched for separators at a time
_WIDTHS = 8  # batches of documents have a multiple of this width


def micro_batches(batch: Batch, tokens: int) -> Iterator[Batch]:
    """A batch in parts of whole rows, each of at most ``tokens`` tokens (with padding) but at least one row."""
    width = sum(batch[name].shape[1] for name in INPUT_KEYS & batch.keys())
    rows = len(batch["ids"])
    part_rows = max(1, tokens // max(width, 1))
    for start in range(0, rows, part_rows):
        yield {name: tensor[start : start + part_rows] for name, tensor in batch.items()}


class TrainingWindows:
    """The windows of a training stream, in a new order each epoch."""

    def __init__(self, stream: TokenStream, block_size: int, seed: int) -> None:
        if len(stream) < 2:
            raise DataError(
                f"The training text is {len(stream)} tokens long.",
                "At least two tokens are needed: one to read and one to predict.",
                "Give more text.",
            )
        self._stream, self._block, self._seed = stream, block_size, seed
        self._order: tuple[int, int, NDArray[np.int64]] | None = None  # epoch, rotation, permutation

    @property
    def rows(self) -> int:
        """Windows per epoch."""
        return -(-len(self._stream) // self._block)

    @property
    def tokens(self) -> int:
        """Targets per epoch: every token of the stream."""
        return len(self._stream)

    def batch(self, epoch: int, rows: range) -> Batch:
        """Rows (positions in the epoch's order) as ids and targets, each (len(rows), block_size) of int64."""
        rotation, order = self._epoch(epoch)
        starts = order[rows.start : rows.stop : rows.step] * self._block
        tokens = torch.from_numpy(self._stream.windows(rotation + starts, self._block + 1))
        targets = tokens[:, 1:].clone()
        for row in np.flatnonzero(starts + self._block > len(self._stream)):  # the last window overlaps the first
            targets[row, len(self._stream) - int(starts[row]) :] = IGNORE_INDEX
        return {"ids": tokens[:, :-1].contiguous(), "targets": targets}

    def _epoch(self, epoch: int) -> tuple[int, NDArray[np.int64]]:
        if self._order is None or self._order[0] != epoch:
            random = np.random.default_rng((self._seed, epoch))
            rotation = int(random.integers(len(self._stream)))
            self._order = (epoch, rotation, random.permutation(self.rows))
        return self._order[1], self._order[2]


class ValidationWindows:
    """The windows of a validation stream, from its start; all tokens but the first are targets."""

    def __init__(self, stream: TokenStream, block_size: int) -> None:
        if len(stream) < 2:
            raise DataError(
                f"The validation text is {len(stream)} tokens long.",
                "At least two tokens are needed: one to read and one to predict.",
                "Keep a larger share for validation (--data.valid-fraction 0.2), or give more text.",
            )
        self._stream, self._block = stream, block_size

    @property
    def rows(self) -> int:
        """Windows of the whole stream."""
        return -(-(len(self._stream) - 1) // self._block)

    def batch(self, rows: range) -> Batch:
        """Rows as ids and targets, each (len(rows), block_size) of int64; the last window is padded on the right."""
        ids = np.zeros((len(rows), self._block), dtype=np.int64)
        targets = np.full_like(ids, IGNORE_INDEX)
        for index, row in enumerate(rows):
            start = row * self._block
            count = min(self._block, len(self._stream) - 1 - start)
            tokens = self._stream.read(start, count + 1)
            ids[index, :count], targets[index, :count] = tokens[:-1], tokens[1:]
        return {"ids": torch.from_numpy(ids), "targets": torch.from_numpy(targets)}


class TrainingDocuments:
    """The rows of a training stream's documents, in a new order each epoch.

    The tokens of a document and the separator after it (the next document's, or the first of the stream) are cut into
    rows of ``block_size`` targets; the last row is shorter. Every row starts with the separator. Empty documents have
    no row. Within the ``rows_per_step`` rows of a step, longer rows come first: micro-batches then have similar lengths
    and little padding, and the step still trains on the same rows.
    """

    def __init__(self, stream: TokenStream, separator: int, block_size: int, seed: int, rows_per_step: int = 1) -> None:
        self._documents = _Documents(stream, separator, block_size, "training")
        self._seed, self._rows_per_step = seed, rows_per_step
        self._order: tuple[int, NDArray[np.int64]] | None = None  # epoch, row starts in its order

    @property
    def rows(self) -> int:
        """Rows per epoch."""
        return len(self._documents.starts)

    @property
    def tokens(self) -> int:
        """Targets per epoch: every token of the documents, and the end of each."""
        return self._documents.tokens

    def batch(self, epoch: int, rows: range) -> Batch:
        """Rows (positions in the epoch's order) as ids and targets of int64, as wide as the longest needs."""
        if self._order is None or self._order[0] != epoch:
            random = np.random.default_rng((self._seed, epoch))
            order = random.permutation(self.rows)
            shorter = np.lexsort((-self._documents.lengths[order], np.arange(self.rows) // self._rows_per_step))
            self._order = (epoch, self._documents.starts[order[shorter]])
        return self._documents.read(self._order[1][rows.start : rows.stop : rows.step])


class ValidationDocuments:
    """The rows of a validation stream's documents, in order; each token and the end of each document is a target."""

    def __init__(self, stream: TokenStream, separator: int, block_size: int) -> None:
        self._documents = _Documents(stream, separator, block_size, "validation")

    @property
    def rows(self) -> int:
        """Rows of the whole stream."""
        return len(self._documents.starts)

    def batch(self, rows: range) -> Batch:
        """Rows as ids and targets of int64, as wide as the longest needs."""
        return self._documents.read(self._documents.starts[rows.start : rows.stop : rows.step])


class _Documents:
    """Finds the rows of a stream's documents and reads them. Keeps twelve bytes per row."""

    def __init__(self, stream: TokenStream, separator: int, block: int, part: str) -> None:
        self._stream, self._separator, self._block = stream, separator, block
        documents = self.tokens = 0
        found: list[NDArray[np.int64]] = []
        targets: list[NDArray[np.int32]] = []
        for starts, ends in _document_borders(stream, separator):
            documents += len(starts)
            lengths = ends - starts  # in targets: the tokens of a document, and its end
            filled = lengths > 1
            found.append(_row_starts(starts[filled] + 1, lengths[filled], block))
            targets.append(_row_lengths(lengths[filled], block))
            self.tokens += int(lengths[filled].sum())
        self.starts = np.concatenate(found) if found else np.empty(0, dtype=np.int64)
        self.lengths = np.concatenate(targets) if targets else np.empty(0, dtype=np.int32)
        if not len(self.starts):
            raise DataError(
                f"The {part} text has {documents} documents, and none has a token.",
                "At least one document must have a token.",
                "Give more text."
                if part == "training"
                else "Keep a larger share for validation (--data.valid-fraction 0.2), or give more text.",
            )

    def read(self, starts: NDArray[np.int64]) -> Batch:
        """The rows whose first targets are at ``starts``: ids and targets, each (len(starts), width)."""
        window = self._stream.windows(starts, self._block)  # (B, block_size); the first document follows the last
        ends = window == self._separator
        lengths = np.where(ends.any(axis=1), ends.argmax(axis=1) + 1, self._block)
        width = min(self._block, -(-int(lengths.max(initial=1)) // _WIDTHS) * _WIDTHS)
        is_target = np.arange(width) < lengths[:, None]  # (B, width)
        targets = np.where(is_target, window[:, :width], IGNORE_INDEX)
        ids = np.full_like(targets, self._separator)
        ids[:, 1:] = np.where(is_target[:, 1:], window[:, : width - 1], self._separator)
        return {"ids": torch.from_numpy(ids), "targets": torch.from_numpy(targets)}


def _document_borders(stream: TokenStream, separator: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """The positions of the separators before and after documents, chunk by chunk; after the last one, the end."""
    before: NDArray[np.int64] = np.empty(0, dtype=np.int64)  # the separator of an unfinished document
    for start in range(0, len(stream), _READ):
        tokens = stream.read(start, min(_READ, len(stream) - start))
        borders = np.concatenate([before, np.flatnonzero(tokens == separator) + start])
        yield borders[:-1], borders[1:]
        before = borders[-1:]
    yield before, np.full_like(before, len(stream))


def _row_starts(firsts: NDArray[np.int64], lengths: NDArray[np.int64], block: int) -> NDArray[np.int64]:
    """The starts of the rows when ``lengths`` tokens from ``firsts`` are cut into rows of ``block``."""
    rows = -(-lengths // block)
    first_rows = np.cumsum(rows) - rows
    return np.repeat(firsts - first_rows * block, rows) + np.arange(int(rows.sum())) * block


def _row_lengths(lengths: NDArray[np.int64], block: int) -> NDArray[np.int32]:
    """The lengths of the rows that ``_row_starts`` finds; the last row of a document has the rest."""
    rows = -(-lengths // block)
    row_lengths = np.full(int(rows.sum()), block, dtype=np.int32)
    row_lengths[np.cumsum(rows) - 1] = lengths - (rows - 1) * block
    return row_lengths
