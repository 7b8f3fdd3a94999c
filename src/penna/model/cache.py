"""What a row keeps between calls: keys and values of the tokens it has read, and of the source it writes from.

``KVCache`` is handed to the model and written by it; whoever knows how many of the ids were real (and not padding on
the right) advances it. Rows may hold different numbers of tokens: each new token is written behind its own row's, and
attends to its own row's alone. ``Memory`` holds what an encoder made of the sources, once per request; it stands beside
the cache, row by row, and never changes.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

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
        self.ids = torch.full((batch, capacity), -1, device=device)  # written only for a model that looks back at them
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

    def remember_ids(self, ids: Tensor, positions: Tensor, before: int) -> Tensor:
        """Keep ids (B, T) at their positions (B, T); these and the ``before`` ones in front: (B, before + T).

        Where a text has not begun stands -1.
        """
        rows = torch.arange(len(ids), device=ids.device)[:, None]
        self.ids[rows, positions] = ids
        wanted = positions[:, :1] + torch.arange(-before, ids.shape[1], device=ids.device)
        return torch.where(wanted < 0, -1, self.ids[rows, wanted.clamp(min=0)])

    def select(self, rows: Tensor) -> None:
        """Keep only these rows, in this order: (new batch,) of int64 on the CPU."""
        on_device = rows.to(self.keys.device)
        self.keys = self.keys[:, on_device]
        self.values = self.values[:, on_device]
        self.ids = self.ids[on_device]
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
        self.ids[on_device] = part.ids
        self.lengths[list(numbers)] = part.lengths


@dataclass(frozen=True)
class Memory:
    """Sources as cross-attention looks at them; what stands behind a source's length is never looked at."""

    states: Tensor  # (B, S, C) the encoder's last hidden states
    keys: tuple[Tensor, ...]  # of each block of the decoder, (B, n_kv_head, S, head_dim)
    values: tuple[Tensor, ...]  # likewise
    mask: Tensor  # (B, 1, 1, S) True where there is source

    @property
    def batch(self) -> int:
        """How many sources there are."""
        return self.states.shape[0]

    def select(self, rows: Tensor) -> Memory:
        """These rows, in this order, also more than once: (new batch,) of int64."""
        rows = rows.to(self.states.device)
        return Memory(
            self.states[rows],
            tuple(keys[rows] for keys in self.keys),
            tuple(values[rows] for values in self.values),
            self.mask[rows],
        )
