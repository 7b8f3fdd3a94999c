"""Partial texts that begin alike, in one row of a cache: each token is read once, however many texts go on from it.

A new token is written at the next free place and looks only at the places of its own text, so that a text goes on in
several ways, or is given up, without a key or value being copied. Given-up places are cleared away when they are more
than half of all. Shapes: N partial texts at work, S places, C n_embd.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from penna.generate.batch import read_prompts, read_sources
from penna.generate.memory import max_rows
from penna.generate.request import Request, cut_prompt
from penna.model.cache import KVCache
from penna.model.fast.decode import FastDecoder
from penna.model.gpt import GPT
from penna.model.seq2seq import Seq2Seq

_LITTER = 64  # places that may always lie about


def tree_capacity(block_size: int, request: Request, width: int) -> int:
    """Places that a request's partial texts take at most, where ``width`` tokens are added at once."""
    prompt = min(len(request.ids), block_size)
    longest = prompt + request.config.max_new_tokens
    capacity = prompt + width * (min(longest, block_size) - prompt + 1)
    return capacity if longest <= block_size else max(capacity, width * (block_size + 1))


class TokenTree:
    """The partial texts of one request; all have the same length."""

    def __init__(self, model: GPT, request: Request, width: int) -> None:
        """Read all but the last token of the prompt. ``width`` tokens are added at once, at most. Raises DeviceError
        where memory does not suffice."""
        weight = model.wte.weight
        prompt = cut_prompt(request.ids, model.config.block_size)
        capacity = tree_capacity(model.config.block_size, request, width)
        max_rows(model, 1, capacity)
        self.pending = prompt[-1]  # the prompt's last token, to be read first
        self._model = model
        self._step = FastDecoder(model) if FastDecoder.supports(model) else None
        self._cache = KVCache(model.config, 1, capacity, weight.device, weight.dtype)
        self._memory = read_sources(cast(Seq2Seq, model), [request.source]) if request.source else None
        self._texts = [prompt[:-1]]  # (N) what each has read, as far as the cache holds it
        self._visible = torch.zeros(1, capacity, dtype=torch.bool)  # (N, capacity) the places of each text
        self._visible[:, : len(prompt) - 1] = True
        self._states = weight.new_zeros(capacity, model.config.n_embd)  # of each place
        hidden = read_prompts(model, self._cache, self._memory, self._texts)
        if hidden is not None:
            self._states[: len(prompt) - 1] = hidden[0]

    @property
    def capacity(self) -> int:
        """How many places there are."""
        return self._cache.capacity

    def read(self, ids: Sequence[int], parents: Sequence[int]) -> Tensor:
        """Let texts go on: each of the ids behind the partial text ``parents`` names; their hidden states (N, C).

        From here on these are the partial texts, in this order.
        """
        block = self._model.config.block_size
        if len(self._texts[0]) == block:
            self._restart(max(1, block // 2) - 1)
        self._texts = [[*self._texts[parent], index] for parent, index in zip(parents, ids, strict=True)]
        start, count = int(self._cache.lengths[0]), len(ids)
        self._visible = self._visible[torch.tensor(parents)]
        self._visible[torch.arange(count), start + torch.arange(count)] = True
        positions = torch.full((1, count), len(self._texts[0]) - 1)
        hidden = self._write(torch.tensor([ids]), positions, self._visible, self._texts)
        self._clear_away()
        return hidden

    def keep(self, kept: Sequence[int]) -> None:
        """Give up all partial texts but these."""
        self._texts = [self._texts[at] for at in kept]
        self._visible = self._visible[torch.tensor(kept)]

    def states_of(self, text: int) -> Tensor:
        """The hidden states of all tokens of a partial text, (its length, C)."""
        return self._states[self._visible[text].nonzero()[:, 0].to(self._states.device)]

    def _write(self, ids: Tensor, positions: Tensor, visible: Tensor, texts: Sequence[Sequence[int]]) -> Tensor:
        """Read ids (1, T) at the next free places; each looks where ``visible`` (T, capacity) says: (T, C)."""
        device = self._states.device
        start, count = int(self._cache.lengths[0]), ids.shape[1]
        before = None
        if self._cache.ngram_context:
            size = self._cache.ngram_context + 1
            before = torch.tensor([[-1] * (size - len(text[-size:])) + list(text[-size:]) for text in texts]).to(device)
        placement = self._cache.place_tree(positions.to(device), visible[:, : start + count], before)
        if self._step is not None:
            hidden = self._step.hidden(ids.to(device), self._cache, placement)[0]
        else:
            hidden = self._model.hidden(ids.to(device), self._cache, encoder_cache=self._memory, placement=placement)[0]
        self._states[start : start + count] = hidden
        self._cache.advance(count)
        return hidden

    def _restart(self, kept: int) -> None:
        """Where the block is full, let every text go on from its last tokens, read anew."""
        self._cache.lengths.zero_()
        texts, self._texts = self._texts, [text[len(text) - kept :] for text in self._texts]
        self._visible = torch.zeros(len(texts), self._cache.capacity, dtype=torch.bool)
        if not kept:
            return
        for at, text in enumerate(self._texts):
            start = at * kept
            looking = torch.zeros(kept, self._cache.capacity, dtype=torch.bool)
            looking[:, start : start + kept] = torch.ones(kept, kept, dtype=torch.bool).tril()
            read = [text[: end + 1] for end in range(kept)]
            self._write(torch.tensor([text]), torch.arange(kept)[None], looking, read)
            self._visible[at, start : start + kept] = True

    def _clear_away(self) -> None:
        used = int(self._cache.lengths[0])
        places = self._visible.any(dim=0).nonzero()[:, 0]
        if used <= 2 * len(places) + _LITTER:
            return
        self._cache.keep_entries(0, places)
        self._states[: len(places)] = self._states[places.to(self._states.device)]
        visible = torch.zeros_like(self._visible)
        visible[:, : len(places)] = self._visible[:, places]
        self._visible = visible
