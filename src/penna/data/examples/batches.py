"""Examples to batches of similar length, padded on the right, in a seeded order.

Each epoch is a seeded permutation, sorted by length within pools of many batches. The pools are cut into batches, whose
order is permuted as well: there is little padding, and the rows of a batch still change from epoch to epoch. A batch is
a function of (seed, epoch, rows) alone, so resuming needs no replay. Rank r takes every r-th row of a batch, so all
ranks have similar lengths.
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
_WIDTHS = 8  # wide batches have a multiple of this width, so that there are few shapes
_WIDE = 64  # narrower ones are as wide as their longest row, because rounding up would add much padding


class TrainingExamples:
    """Training examples, in a new order each epoch; the ``batch_size`` rows of a batch have similar lengths.

    ``redraw`` returns the same records encoded anew for an epoch (subword sampling); without it, each epoch reads
    ``examples``. A range of rows that begins at a multiple of ``batch_size`` and is at most that long lies within one
    batch. Raises DataError if there is no target.
    """

    def __init__(
        self, examples: Examples, batch_size: int, seed: int, redraw: Callable[[int], Examples] | None = None
    ) -> None:
        if not examples.targets and examples.labels is None:
            raise DataError(
                f"The training part has no target tokens in its {len(examples):,} examples.",
                "At least one example must have a token to predict.",
                "Give more text, or a longer block (--model.block-size).",
            )
        self._examples, self._redraw = examples, redraw
        self._batch_size, self._seed = batch_size, seed
        self._epoch: tuple[int, Examples, NDArray[np.int64]] | None = None  # its number, examples and their order

    @property
    def rows(self) -> int:
        """Examples in an epoch."""
        return len(self._examples)

    @property
    def tokens(self) -> int:
        """Tokens counted in an epoch, without redrawing: all tokens if the examples have labels, else the targets."""
        return self._examples.targets if self._examples.labels is None else self._examples.tokens

    def batch(self, epoch: int, rows: range) -> Batch:
        """These rows (positions in the epoch's order); see ``batch_of``."""
        if self._epoch is None or self._epoch[0] != epoch:
            examples = self._examples if self._redraw is None else self._redraw(epoch)
            self._epoch = (epoch, examples, self._order_of(epoch, examples.lengths))
        _, examples, order = self._epoch
        return batch_of(examples, order[rows.start : rows.stop : rows.step])

    def _order_of(self, epoch: int, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        random = np.random.default_rng((self._seed, epoch))
        order = random.permutation(self.rows)
        full = self.rows // self._batch_size  # the rest is a short batch at the end, of any lengths
        filled, rest = np.split(order, [full * self._batch_size])
        pools = np.arange(len(filled)) // (_POOL * self._batch_size)
        filled = filled[np.lexsort((lengths[filled], pools))]
        batches = filled.reshape(full, self._batch_size)[random.permutation(full)]
        return np.concatenate([batches.reshape(-1), rest])


class ValidationExamples:
    """All rows once, shorter ones first; row r is the example ``order[r]``."""

    def __init__(self, examples: Examples) -> None:
        self._examples = examples
        self.order: NDArray[np.int64] = np.argsort(examples.lengths, kind="stable")

    @property
    def rows(self) -> int:
        """The number of examples."""
        return len(self._examples)

    def batch(self, rows: range) -> Batch:
        """These rows; see ``batch_of``."""
        return batch_of(self._examples, self.order[rows.start : rows.stop : rows.step])


def batch_of(examples: Examples, rows: NDArray[np.int64] | Sequence[int]) -> Batch:
    """These examples as one batch, all of int64 and padded with 0 on the right.

    ``ids`` (B, T); ``targets`` (B, T), the next id if it is a target, else -100; ``lengths`` (B,), the number of ids
    without padding. If examples have labels, ``label`` (B,), -100 for none, and all ids are read; else the last id is
    not, because nothing is predicted after it. If they have sources, ``source`` (B, S) and ``source_lengths`` (B,).
    """
    rows = np.asarray(rows, dtype=np.int64)
    lengths = examples.lengths[rows]
    read = examples.read_lengths[rows]
    width = _width(read, examples)
    inside = np.arange(width + 1) < lengths[:, None]  # (B, T + 1)
    positions = np.where(inside, examples.starts[rows][:, None] + np.arange(width + 1), 0)
    ids = np.where(inside, examples.ids[positions], 0).astype(np.int64)
    is_target = inside & (examples.target_mask[positions] != 0)
    arrays = {
        "ids": np.where(np.arange(width) < read[:, None], ids[:, :-1], 0),
        "targets": np.where(is_target[:, 1:], ids[:, 1:], IGNORE_INDEX),
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
    """A batch's width: at most that of the longest example, which is known to fit the model's block."""
    longest = int(read.max(initial=1))
    if longest < _WIDE:
        return longest
    return min(-(-longest // _WIDTHS) * _WIDTHS, examples.longest)


def _padded(flat: NDArray[Any], starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Slices of a flat array as rows, padded with 0 on the right."""
    columns = np.arange(max(int(lengths.max(initial=1)), 1))
    inside = columns < lengths[:, None]
    return np.where(inside, flat[np.where(inside, starts[:, None] + columns, 0)], 0).astype(np.int64)
