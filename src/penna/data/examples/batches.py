"""Examples to batches: rows of like length side by side, filled up on the right, in a seeded order.

Each epoch is a seeded permutation, sorted by length inside pools of many batches and cut into batches, whose order is
permuted in turn: batches hold little padding, and which rows stand together still changes from epoch to epoch. A batch
is a function of (seed, epoch, rows) alone, so going on from any step needs no replay, and rank r of many takes every
r-th row of a batch, which keeps the lengths of all ranks alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from penna.data.batches import IGNORE_INDEX, Batch
from penna.data.examples.store import Examples
from penna.errors import DataError

_POOL = 256  # batches whose rows are sorted together
_WIDTHS = 8  # wide batches are as wide as a multiple of this, which keeps shapes few
_WIDE = 64  # narrower ones are as wide as their longest row: there a multiple of 8 would be much padding


class TrainingExamples:
    """The rows of an epoch, in another order each time, batches of ``batch_size`` rows being of like length.

    ``redrawn`` gives the same records encoded otherwise for an epoch (subword sampling); without it, each epoch reads
    ``examples``. A range of rows that begins at a multiple of ``batch_size`` and is at most that long lies within one
    batch. Raises DataError where there is nothing to learn from.
    """

    def __init__(
        self, examples: Examples, batch_size: int, seed: int, redrawn: Callable[[int], Examples] | None = None
    ) -> None:
        if not examples.due and examples.labels is None:
            raise DataError(
                f"The training part has nothing to learn from ({len(examples)} examples, and no token of them is due).",
                "At least one example with a token to predict.",
                "Give more text, or a longer block (--model.block-size).",
            )
        self._examples, self._redrawn = examples, redrawn
        self._batch_size, self._seed = batch_size, seed
        self._epoch: tuple[int, Examples, NDArray[np.int64]] | None = None  # its number, examples and their order

    @property
    def rows(self) -> int:
        """Examples in an epoch."""
        return len(self._examples)

    @property
    def tokens(self) -> int:
        """Tokens counted in an epoch, before any are drawn anew: all that are read with labels, else the targets."""
        return self._examples.due if self._examples.labels is None else self._examples.tokens

    def batch(self, epoch: int, rows: range) -> Batch:
        """These rows (positions in the epoch's order) as ``batch_of`` gives them."""
        if self._epoch is None or self._epoch[0] != epoch:
            examples = self._examples if self._redrawn is None else self._redrawn(epoch)
            self._epoch = (epoch, examples, self._order_of(epoch, examples.lengths))
        _, examples, order = self._epoch
        return batch_of(examples, order[rows.start : rows.stop : rows.step])

    def _order_of(self, epoch: int, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        random = np.random.default_rng((self._seed, epoch))
        order = random.permutation(self.rows)
        full = self.rows // self._batch_size  # what does not fill a batch is a short one at the end, of any lengths
        filled, rest = np.split(order, [full * self._batch_size])
        pools = np.arange(len(filled)) // (_POOL * self._batch_size)
        filled = filled[np.lexsort((lengths[filled], pools))]
        batches = filled.reshape(full, self._batch_size)[random.permutation(full)]
        return np.concatenate([batches.reshape(-1), rest])


class ValidationExamples:
    """All rows once, the shorter first; row r is the example of number ``order[r]``."""

    def __init__(self, examples: Examples) -> None:
        self._examples = examples
        self.order: NDArray[np.int64] = np.argsort(examples.lengths, kind="stable")

    @property
    def rows(self) -> int:
        """Examples in all."""
        return len(self._examples)

    def batch(self, rows: range) -> Batch:
        """These rows as ``batch_of`` gives them."""
        return batch_of(self._examples, self.order[rows.start : rows.stop : rows.step])


def batch_of(examples: Examples, rows: NDArray[np.int64] | Sequence[int]) -> Batch:
    """Examples by number as one batch, (B, T) with T as the longest of them needs.

    ``ids`` (B, T) and ``targets`` (B, T), the next id where that is due and -100 elsewhere, of int64; ``lengths`` (B,),
    how many ids of each row are real. Where examples have labels, ``label`` (B,), -100 for one without, and all ids are
    read; else the last one is not, since nothing is predicted behind it. Where they have sources, ``source`` (B, S) and
    ``source_lengths`` (B,). What is filled up on the right is 0.
    """
    rows = np.asarray(rows, dtype=np.int64)
    lengths = examples.lengths[rows]
    read = examples.read_lengths[rows]
    width = _width(read, examples)
    inside = np.arange(width + 1) < lengths[:, None]  # (B, T + 1)
    places = np.where(inside, examples.starts[rows][:, None] + np.arange(width + 1), 0)
    ids = np.where(inside, examples.ids[places], 0).astype(np.int64)
    due = inside & (examples.target_mask[places] != 0)
    arrays = {
        "ids": np.where(np.arange(width) < read[:, None], ids[:, :-1], 0),
        "targets": np.where(due[:, 1:], ids[:, 1:], IGNORE_INDEX),
        "lengths": read,
    }
    if examples.labels is not None:
        labels = examples.labels[rows].astype(np.int64)
        arrays["label"] = np.where(labels < 0, IGNORE_INDEX, labels)
    if examples.source_lengths is not None:
        arrays["source_lengths"] = source_lengths = examples.source_lengths[rows]
        arrays["source"] = _padded(examples.source_ids, examples.source_starts[rows], source_lengths)
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _width(read: NDArray[np.int64], examples: Examples) -> int:
    """A batch's width: never more than the longest example of all needs, which a model's block is known to hold."""
    longest = int(read.max(initial=1))
    if longest < _WIDE:
        return longest
    return min(-(-longest // _WIDTHS) * _WIDTHS, examples.longest)


def _padded(flat: NDArray[Any], starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Stretches of a flat array as rows, filled up with 0 on the right."""
    columns = np.arange(max(int(lengths.max(initial=1)), 1))
    inside = columns < lengths[:, None]
    return np.where(inside, flat[np.where(inside, starts[:, None] + columns, 0)], 0).astype(np.int64)
