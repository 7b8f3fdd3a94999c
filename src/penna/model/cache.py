"""The key/value cache: keys and values of the tokens a row has read, kept between calls.

It is handed to the model and written by it; whoever knows how many of the ids were real (and not padding on the right)
advances it. Rows may hold different numbers of tokens: each new token is written behind its own row's, and attends to
its own row's alone.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from penna.config.sections import ModelConfig


class KVCache:
    """Preallocated keys and values, each (n_layer, batch, n_kv_head, capacity, head_dim)."""

    def __init__(
        self,
        config: ModelConfig,
        batch: int,
        capacity: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        shape = (config.n_layer, batch, config.kv_heads, capacity, config.head_width)
        self.keys = torch.zeros(shape, device=device, dtype=dtype)
        self.values = torch.zeros(shape, device=device, dtype=dtype)
        self.lengths = torch.zeros(batch, dtype=torch.int64)  # tokens held by each row; kept on the CPU

    @property
    def capacity(self) -> int:
        """How many tokens a row can hold."""
        return self.keys.shape[3]

    def positions(self, count: int) -> Tensor:
        """The positions that ``count`` further tokens of each row take: (batch, count), on the CPU."""
        return self.lengths[:, None] + torch.arange(count)

    def advance(self, counts: Tensor | int) -> None:
        """Count the tokens just written as held: a number for all rows, or (batch,)."""
        self.lengths = self.lengths + counts

    def select(self, rows: Tensor) -> None:
        """Keep only these rows, in this order: (new batch,) of int64 on the CPU."""
        on_device = rows.to(self.keys.device)
        self.keys = self.keys[:, on_device]
        self.values = self.values[:, on_device]
        self.lengths = self.lengths[rows]

    def rows(self, numbers: Sequence[int]) -> KVCache:
        """A copy of some rows, to be worked on apart from the others."""
        part = copy.copy(self)
        part.select(torch.tensor(list(numbers)))
        return part

    def put_rows(self, numbers: Sequence[int], part: KVCache) -> None:
        """Take rows back that ``rows`` gave."""
        on_device = torch.tensor(list(numbers), device=self.keys.device)
        self.keys[:, on_device] = part.keys
        self.values[:, on_device] = part.values
        self.lengths[list(numbers)] = part.lengths
