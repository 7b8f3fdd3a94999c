"""Shards to batches: windows of a fixed length in a seeded order.

The training stream is a ring. Each epoch turns it by a random amount, cuts it into windows of ``block_size`` and reads
them in a random order: every token is a target exactly once an epoch, and no two epochs cut at the same places. A
window's targets are its ids shifted by one; behind the last token stands ``-100``. Everything is a function of (seed,
epoch, position) alone, so going on from any step needs no replay, and rank r of many takes every r-th row.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from penna.data.shards import TokenStream
from penna.errors import DataError

IGNORED = -100
Batch = dict[str, Tensor]


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
            targets[row, len(self._stream) - int(starts[row]) :] = IGNORED
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
        targets = np.full_like(ids, IGNORED)
        for index, row in enumerate(rows):
            start = row * self._block
            count = min(self._block, len(self._stream) - 1 - start)
            tokens = self._stream.read(start, count + 1)
            ids[index, :count], targets[index, :count] = tokens[:-1], tokens[1:]
        return {"ids": torch.from_numpy(ids), "targets": torch.from_numpy(targets)}
