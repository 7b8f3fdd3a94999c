"""The KV cache of decoder tokens, and the cross-attention cache of encoded sources.

The model writes the KV cache; the caller advances it, because only the caller knows how many ids were real and how many
were padding on the right. Rows may hold different numbers of tokens: each new token is written after those of its own
row and attends to that row only. Usually a row holds one text (``place_next``). It may instead hold a tree of texts
with common beginnings, such as the beams of a search (``place_tree``); then no keys or values are copied when a text
branches. The encoder cache is computed once per request and never changes.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from penna.config.sections import ModelConfig


class LayerViews(NamedTuple):
    """Views of one layer of a cache: the part that a call writes, and the part that it attends to."""

    written: Tensor  # (B, 2, n_kv_head, T, head_dim); with flat indices, the whole layer as rows of head_dim
    keys: Tensor  # (B, n_kv_head, S, head_dim)
    values: Tensor  # (B, n_kv_head, S, head_dim)


@dataclass(frozen=True)
class Placement:
    """Where the tokens of one call are in a cache: B rows, T tokens per row, S entries attended to."""

    positions: Tensor  # (B, T) position of each token in its text
    start: int | None  # entry of the first token, if it is the same in all rows and the others follow
    flat_indices: Tensor | None  # else the flat entries of all tokens, (B * 2 * n_kv_head * T,)
    layers: Sequence[LayerViews]
    mask: Tensor | None  # (B, 1, T or 1, S) 0 or minus infinity, added to the scores; None: causal or all entries
    ngram_ids: Tensor | None  # ids for the n-gram embedding, (B, n - 1 + T) or (B * T, n), if the model has one


class KVCache:
    """Preallocated keys and values, (n_layer, rows, 2, n_kv_head, capacity, head_dim)."""

    def __init__(
        self,
        config: ModelConfig,
        batch: int,
        capacity: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        shape = (config.n_layer, batch, 2, config.kv_heads, capacity, config.head_width)
        self.store = torch.zeros(shape, device=device, dtype=dtype)
        self.block_size = config.block_size
        # Number of ids before a token that the model's n-gram embedding needs.
        self.ngram_context = 0 if config.ngram_size is None else config.ngram_size - 1
        self.ids = torch.full((batch, capacity if self.ngram_context else 0), -1, device=device)
        self.lengths = torch.zeros(batch, dtype=torch.int64)  # entries in use, per row; kept on the CPU

    @property
    def batch(self) -> int:
        """Number of rows."""
        return self.store.shape[1]

    @property
    def keys(self) -> Tensor:
        """All keys, (n_layer, rows, n_kv_head, capacity, head_dim)."""
        return self.store[:, :, 0]

    @property
    def values(self) -> Tensor:
        """All values, (n_layer, rows, n_kv_head, capacity, head_dim)."""
        return self.store[:, :, 1]

    @property
    def capacity(self) -> int:
        """Number of tokens that a row can hold."""
        return self.store.shape[4]

    def rows(self, start: int, stop: int) -> KVCache:
        """Adjacent rows as a cache that shares memory with this one."""
        if stop - start == self.batch:
            return self
        part = copy.copy(self)
        part.store = self.store[:, start:stop]
        part.ids, part.lengths = self.ids[start:stop], self.lengths[start:stop]
        return part

    def advance(self, counts: Tensor | int) -> None:
        """Count tokens that were just written: one number for all rows, or (batch,)."""
        self.lengths += counts

    def copy_row(self, source: int, target: int) -> None:
        """Copy the content of one row to another."""
        length = int(self.lengths[source])
        self.store[:, target, ..., :length, :] = self.store[:, source, ..., :length, :]
        self.ids[target] = self.ids[source]
        self.lengths[target] = length

    def keep_entries(self, row: int, entries: Tensor) -> None:
        """Keep only these entries of a row (in ascending order) and close the gaps."""
        count = len(entries)
        self.store[:, row, ..., :count, :] = self.store[:, row][..., entries.to(self.store.device), :]
        self.lengths[row] = count

    def place_next(self, ids: Tensor) -> Placement:
        """Place ids (B, T) after the tokens of each row. Raises ValueError if they do not fit."""
        T, starts = ids.shape[1], self.lengths.tolist()
        first, last = min(starts), max(starts)
        span = last + T
        self.check_span(span)
        entries = self.lengths[:, None] + torch.arange(T)  # (B, T)
        mask = None
        if first != last or (T > 1 and first > 0):
            mask = _additive_mask(torch.arange(span) <= entries[:, :, None], self.store)  # (B, 1, T, S)
        positions = entries.to(ids.device)
        start = first if first == last else None
        return Placement(
            positions,
            start,
            flat_indices=self._flat_indices(positions) if start is None else None,
            layers=self._layer_views(start, T, span),
            mask=mask,
            ngram_ids=self._store_ids(ids, positions) if self.ngram_context else None,
        )

    def place_at(self, ids: Tensor, positions: Tensor, span: int) -> Placement:
        """Place one id per row, (B, 1), at these positions (B, 1), with ``span`` entries visible in every row.

        Like ``place_next`` with one id, but it does not read ``lengths`` and creates every tensor on the device, as
        CUDA graphs require.
        """
        visible = torch.arange(span, device=positions.device) <= positions[:, :, None]  # (B, 1, S)
        return Placement(
            positions,
            start=None,
            flat_indices=self._flat_indices(positions),
            layers=self._layer_views(None, 1, span),
            mask=_additive_mask(visible, self.store),
            ngram_ids=self._store_ids(ids, positions) if self.ngram_context else None,
        )

    def place_tree(self, positions: Tensor, visible: Tensor, ngram_ids: Tensor | None) -> Placement:
        """Place tokens (1, T) of several texts in the next entries of the only row.

        ``visible`` (T, S) is True for the entries that a token attends to, including its own; S is the number of
        entries in use plus T. ``ngram_ids`` (T, n) holds each token and the n - 1 before it in its text, for a model
        with an n-gram embedding.
        """
        start, (T, span) = int(self.lengths[0]), visible.shape
        if span > self.capacity:
            raise ValueError(f"{span} tokens do not fit a cache of {self.capacity}")
        layers = self._layer_views(start, T, span)
        return Placement(positions, start, None, layers, _additive_mask(visible[None], self.store), ngram_ids)

    def write(self, layer: int, keys_values: Tensor, placement: Placement) -> tuple[Tensor, Tensor]:
        """Write keys and values (B, 2, K, T, D) of a layer; returns all that are attended to, (B, K, S, D) each."""
        written, keys, values = placement.layers[layer]
        if placement.flat_indices is None:
            written.copy_(keys_values)
        else:
            flat = keys_values.reshape(-1, written.shape[1]).to(written.dtype)
            written.index_copy_(0, placement.flat_indices, flat)
        return keys, values

    def check_span(self, span: int) -> None:
        """Raise ValueError if a row of ``span`` tokens exceeds the cache or the model's block size."""
        for limit, name in ((self.capacity, "a cache"), (self.block_size, "a block")):
            if span > limit:
                raise ValueError(f"{span} tokens do not fit {name} of {limit}")

    def _layer_views(self, start: int | None, count: int, span: int) -> Sequence[LayerViews]:
        """The views of all layers, created at once because creating a view takes time, too."""
        visible = self.store.narrow(4, 0, span)
        if start is None:
            written = self.store.view(len(self.store), -1, self.store.shape[-1])
        else:
            written = self.store.narrow(4, start, count)
        keys, values = visible.unbind(2)
        return [LayerViews(*layer) for layer in zip(written.unbind(), keys.unbind(), values.unbind(), strict=True)]

    def _flat_indices(self, entries: Tensor) -> Tensor:
        """Entries (B, T) as row indices of a layer viewed as (-1, head_dim): (B * 2 * K * T,)."""
        heads = 2 * self.store.shape[3]  # of keys and values
        head_indices = torch.arange(self.batch * heads, device=entries.device).view(self.batch, heads, 1)
        return (head_indices * self.capacity + entries[:, None]).view(-1)

    def _store_ids(self, ids: Tensor, positions: Tensor) -> Tensor:
        """Store ids (B, T) at their positions (B, T); returns them with the ``ngram_context`` ids before.

        Positions before the start of a text hold -1.
        """
        rows = torch.arange(len(ids), device=ids.device)[:, None]
        self.ids[rows, positions] = ids
        needed = positions[:, :1] + torch.arange(-self.ngram_context, ids.shape[1], device=ids.device)
        return torch.where(needed < 0, -1, self.ids[rows, needed.clamp(min=0)])


def _additive_mask(visible: Tensor, like: Tensor) -> Tensor:
    """A boolean mask (B, T, S) as (B, 1, T, S) of 0 and minus infinity, with the type and device of ``like``."""
    mask = torch.zeros(visible.shape, dtype=like.dtype, device=visible.device).masked_fill_(~visible, -torch.inf)
    return mask[:, None].to(like.device)


@dataclass(frozen=True)
class EncoderCache:
    """Encoded sources with their keys and values for cross-attention; padding is masked."""

    states: Tensor  # (B, S, C) the encoder's hidden states
    keys: tuple[Tensor, ...]  # per decoder block, (B, n_kv_head, S, head_dim)
    values: tuple[Tensor, ...]  # per decoder block, (B, n_kv_head, S, head_dim)
    mask: Tensor  # (B, 1, 1, S) False for padding

    @property
    def batch(self) -> int:
        """Number of sources."""
        return self.states.shape[0]

    @classmethod
    def empty(cls, config: ModelConfig, batch: int, like: Tensor) -> EncoderCache:
        """Preallocate a cache for sources of any length, with the type and device of ``like``."""
        S = config.source_span
        shape = (config.n_layer, batch, config.kv_heads, S, config.head_width)
        keys, values = like.new_zeros(shape), like.new_zeros(shape)
        mask = torch.zeros(batch, 1, 1, S, dtype=torch.bool, device=like.device)
        return cls(like.new_zeros(batch, S, config.n_embd), tuple(keys), tuple(values), mask)

    def rows(self, start: int, stop: int, span: int | None = None) -> EncoderCache:
        """Adjacent sources as a view, cut to ``span`` tokens if the rest is padding."""
        keys, values = (tuple(layer[start:stop, :, :span] for layer in layers) for layers in (self.keys, self.values))
        return EncoderCache(self.states[start:stop, :span], keys, values, self.mask[start:stop, ..., :span])

    def write(self, start: int, other: EncoderCache) -> None:
        """Overwrite the sources from row ``start`` on with those of another cache."""
        stop, S = start + other.batch, other.states.shape[1]
        self.states[start:stop, :S] = other.states
        for target, source in zip((*self.keys, *self.values), (*other.keys, *other.values), strict=True):
            target[start:stop, :, :S] = source
        self.mask[start:stop] = False
        self.mask[start:stop, ..., :S] = other.mask
