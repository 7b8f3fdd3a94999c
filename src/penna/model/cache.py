"""What a row keeps between calls: keys and values of the tokens it has read, and of the source it writes from.

``KVCache`` is handed to the model and written by it; whoever knows how many of the ids were real (and not padding on
the right) advances it. Rows may hold different numbers of tokens: each new token is written behind its own row's, and
attends to its own row's alone. Usually a row holds one text, token after token (``chain``). It may also hold a tree of
texts that begin alike, such as the beams of a search: then the caller says where each token stands and what it sees
(``branches``), and no text has to be copied to go on in two ways. ``Memory`` holds what an encoder made of the sources,
once per request; it stands beside the cache, row by row, and never changes.
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
    """Of what a cache holds of one layer: where a call writes, and all it looks at."""

    written: Tensor  # (B, 2, n_kv_head, T, head_dim); where there are cells, the layer as flat rows of head_dim
    keys: Tensor  # (B, n_kv_head, S, head_dim)
    values: Tensor  # likewise


@dataclass(frozen=True)
class Placement:
    """Where the tokens of one call stand in the rows of a cache; B rows, T tokens each, S places looked at."""

    positions: Tensor  # (B, T) each token's place in its own text
    start: int | None  # the place of the first token, where it is the same in all rows and the others follow
    flat_indices: Tensor | None  # else the flat places of all tokens, (B * 2 * n_kv_head * T,)
    layers: Sequence[LayerViews]
    mask: Tensor | None  # (B, 1, T or 1, S) 0 where a token looks, minus infinity where not; None: at all, or causal
    ngram_ids: Tensor | None  # where the model looks back at ids: texts of ids, (B, n - 1 + T) or (B * T, n)


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
        self.ngram_context = 0 if config.ngram_size is None else config.ngram_size - 1  # ids before each, for the model
        self.ids = torch.full((batch, capacity if self.ngram_context else 0), -1, device=device)
        self.lengths = torch.zeros(batch, dtype=torch.int64)  # places taken in each row; kept on the CPU

    @property
    def batch(self) -> int:
        """How many rows there are."""
        return self.store.shape[1]

    @property
    def keys(self) -> Tensor:
        """All keys, (n_layer, rows, n_kv_head, capacity, head_dim)."""
        return self.store[:, :, 0]

    @property
    def values(self) -> Tensor:
        """All values, likewise."""
        return self.store[:, :, 1]

    @property
    def capacity(self) -> int:
        """How many tokens a row can hold."""
        return self.store.shape[4]

    def rows(self, start: int, stop: int) -> KVCache:
        """Neighbouring rows, to be worked on apart from the others; what is written there is written here."""
        if stop - start == self.batch:
            return self
        part = copy.copy(self)
        part.store = self.store[:, start:stop]
        part.ids, part.lengths = self.ids[start:stop], self.lengths[start:stop]
        return part

    def advance(self, counts: Tensor | int) -> None:
        """Count the tokens just written as held: a number for all rows, or (batch,)."""
        self.lengths += counts

    def copy_row(self, source: int, target: int) -> None:
        """Let one row hold what another one does."""
        held = int(self.lengths[source])
        self.store[:, target, ..., :held, :] = self.store[:, source, ..., :held, :]
        self.ids[target] = self.ids[source]
        self.lengths[target] = held

    def keep_entries(self, row: int, places: Tensor) -> None:
        """Let a row hold only what stands at these places (in ascending order), one behind the other."""
        count = len(places)
        self.store[:, row, ..., :count, :] = self.store[:, row][..., places.to(self.store.device), :]
        self.lengths[row] = count

    def place_next(self, ids: Tensor) -> Placement:
        """Ids (B, T) behind what each row holds. Raises ValueError where they do not fit."""
        T, starts = ids.shape[1], self.lengths.tolist()
        first, last = min(starts), max(starts)
        span = last + T
        for most, name in ((self.capacity, "a cache"), (self.block_size, "a block")):
            if span > most:
                raise ValueError(f"{span} tokens do not fit {name} of {most}")
        places = self.lengths[:, None] + torch.arange(T)  # (B, T)
        mask = None
        if first != last or (T > 1 and first > 0):
            mask = _additive(torch.arange(span) <= places[:, :, None], self.store)  # (B, 1, T, S)
        positions = places.to(ids.device)
        start = first if first == last else None
        return Placement(
            positions,
            start,
            flat_indices=self._cells(positions) if start is None else None,
            layers=self._views(start, T, span),
            mask=mask,
            ngram_ids=self._remember_ids(ids, positions) if self.ngram_context else None,
        )

    def place_at(self, ids: Tensor, positions: Tensor, span: int) -> Placement:
        """Ids (B, 1), one for each row at these positions (B, 1), where ``span`` places are looked at in every row.

        As ``chain`` with one id, but nothing is asked of the lengths, and every tensor is made on the device: so it can
        be recorded there.
        """
        visible = torch.arange(span, device=positions.device) <= positions[:, :, None]  # (B, 1, S)
        return Placement(
            positions,
            start=None,
            flat_indices=self._cells(positions),
            layers=self._views(None, 1, span),
            mask=_additive(visible, self.store),
            ngram_ids=self._remember_ids(ids, positions) if self.ngram_context else None,
        )

    def place_tree(self, positions: Tensor, visible: Tensor, before: Tensor | None) -> Placement:
        """Tokens (1, T) of several texts of the only row, each at the next free place.

        ``visible`` (T, S) is True where a token looks, at itself too; S is the places held and T more. ``before``
        (T, n) is for a model that looks back at ids: each token behind the n - 1 before it in its text.
        """
        start, (T, span) = int(self.lengths[0]), visible.shape
        if span > self.capacity:
            raise ValueError(f"{span} tokens do not fit a cache of {self.capacity}")
        layers = self._views(start, T, span)
        return Placement(positions, start, None, layers, _additive(visible[None], self.store), before)

    def write(self, layer: int, both: Tensor, at: Placement) -> tuple[Tensor, Tensor]:
        """Write a layer's keys and values (B, 2, K, T, D); all that is looked at, (B, K, S, D) each."""
        written, keys, values = at.layers[layer]
        if at.flat_indices is None:
            written.copy_(both)
        else:
            written.index_copy_(0, at.flat_indices, both.reshape(-1, written.shape[1]).to(written.dtype))
        return keys, values

    def _views(self, start: int | None, count: int, span: int) -> Sequence[LayerViews]:
        """What a call writes and looks at, layer by layer; made for all at once, since a view costs time, too."""
        seen = self.store.narrow(4, 0, span)
        if start is None:
            written = self.store.view(len(self.store), -1, self.store.shape[-1])
        else:
            written = self.store.narrow(4, start, count)
        keys, values = seen.unbind(2)
        return [LayerViews(*layer) for layer in zip(written.unbind(), keys.unbind(), values.unbind(), strict=True)]

    def _cells(self, places: Tensor) -> Tensor:
        """Places (B, T) as rows of a layer's flat keys and values: (B * 2 * K * T,)."""
        both = 2 * self.store.shape[3]
        of_heads = torch.arange(self.batch * both, device=places.device).view(self.batch, both, 1)
        return (of_heads * self.capacity + places[:, None]).view(-1)

    def _remember_ids(self, ids: Tensor, positions: Tensor) -> Tensor:
        """Keep ids (B, T) at their positions (B, T); these and as many in front as the model looks back at.

        Where a text has not begun stands -1.
        """
        rows = torch.arange(len(ids), device=ids.device)[:, None]
        self.ids[rows, positions] = ids
        wanted = positions[:, :1] + torch.arange(-self.ngram_context, ids.shape[1], device=ids.device)
        return torch.where(wanted < 0, -1, self.ids[rows, wanted.clamp(min=0)])


def _additive(visible: Tensor, like: Tensor) -> Tensor:
    """What is added to the scores of (B, T, S) tokens and places: (B, 1, T, S), of the type and on the device of
    another tensor."""
    mask = torch.zeros(visible.shape, dtype=like.dtype, device=visible.device).masked_fill_(~visible, -torch.inf)
    return mask[:, None].to(like.device)


@dataclass(frozen=True)
class EncoderCache:
    """Sources as cross-attention looks at them; what stands behind a source's length is never looked at."""

    states: Tensor  # (B, S, C) the encoder's last hidden states
    keys: tuple[Tensor, ...]  # of each block of the decoder, (B, n_kv_head, S, head_dim)
    values: tuple[Tensor, ...]  # likewise
    mask: Tensor  # (B, 1, 1, S) True where there is source

    @property
    def batch(self) -> int:
        """How many sources there are."""
        return self.states.shape[0]

    @classmethod
    def empty(cls, config: ModelConfig, batch: int, like: Tensor) -> EncoderCache:
        """Room for sources of any length, of the type and on the device of another tensor."""
        S = config.source_span
        shape = (config.n_layer, batch, config.kv_heads, S, config.head_width)
        keys, values = like.new_zeros(shape), like.new_zeros(shape)
        mask = torch.zeros(batch, 1, 1, S, dtype=torch.bool, device=like.device)
        return cls(like.new_zeros(batch, S, config.n_embd), tuple(keys), tuple(values), mask)

    def rows(self, start: int, stop: int, span: int | None = None) -> EncoderCache:
        """Neighbouring sources, as a view; of each the first ``span`` tokens, where the others are padding."""
        keys, values = (tuple(each[start:stop, :, :span] for each in all_of) for all_of in (self.keys, self.values))
        return EncoderCache(self.states[start:stop, :span], keys, values, self.mask[start:stop, ..., :span])

    def write(self, start: int, other: EncoderCache) -> None:
        """Write other sources, none longer than these may be, over those from ``start`` on."""
        stop, S = start + other.batch, other.states.shape[1]
        self.states[start:stop, :S] = other.states
        for mine, theirs in zip((*self.keys, *self.values), (*other.keys, *other.values), strict=True):
            mine[start:stop, :, :S] = theirs
        self.mask[start:stop] = False
        self.mask[start:stop, ..., :S] = other.mask
