"""Partial texts with common beginnings in one row of a cache: each token is read once, however many texts continue it.

A new token is stored at the next free position and attends only to the positions of its own text, so that a text can
branch or be dropped without copying keys and values. Unused positions are compacted when they are more than half of
all. Shapes: N partial texts, S positions, C n_embd.
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

_MIN_UNUSED = 64  # unused positions below which nothing is compacted


def tree_capacity(block_size: int, request: Request, width: int) -> int:
    """The maximum number of positions of a request's tree, if ``width`` tokens are added at once."""
    prompt = min(len(request.ids), block_size)
    longest = prompt + request.config.max_new_tokens
    capacity = prompt + width * (min(longest, block_size) - prompt + 1)
    return capacity if longest <= block_size else max(capacity, width * (block_size + 1))


class TokenTree:
    """The partial texts of one request; all have the same length."""

    def __init__(self, model: GPT, request: Request, width: int) -> None:
        """Read all but the last token of the prompt. At most ``width`` tokens are added at once. Raises DeviceError if
        there is not enough memory."""
        weight = model.wte.weight
        prompt = cut_prompt(request.ids, model.config.block_size)
        capacity = tree_capacity(model.config.block_size, request, width)
        max_rows(model, 1, capacity)
        self.pending = prompt[-1]  # the prompt's last token, to be read first
        self._model = model
        self._step = FastDecoder(model) if FastDecoder.supports(model) else None
        self._cache = KVCache(model.config, 1, capacity, weight.device, weight.dtype)
        self._memory = read_sources(cast(Seq2Seq, model), [request.source]) if request.source else None
        self._texts = [prompt[:-1]]  # (N) the tokens of each, as far as the cache holds them
        self._visible = torch.zeros(1, capacity, dtype=torch.bool)  # (N, capacity) the positions of each text
        self._visible[:, : len(prompt) - 1] = True
        self._states = weight.new_zeros(capacity, model.config.n_embd)  # hidden states of each position
        hidden = read_prompts(model, self._cache, self._memory, self._texts)
        if hidden is not None:
            self._states[: len(prompt) - 1] = hidden[0]

    @property
    def capacity(self) -> int:
        """The number of positions."""
        return self._cache.capacity

    def read(self, ids: Sequence[int], parents: Sequence[int]) -> Tensor:
        """Extend partial texts: each id after the text that ``parents`` names; their hidden states (N, C).

        The extended texts replace all partial texts, in this order.
        """
        block = self._model.config.block_size
        if len(self._texts[0]) == block:
            self._restart(max(1, block // 2) - 1)
        self._texts = [[*self._texts[parent], index] for parent, index in zip(parents, ids, strict=True)]
        start, count = int(self._cache.lengths[0]), len(ids)
        self._visible = self._visible[torch.tensor(parents)]
        self._visible[torch.arange(count), start + torch.arange(count)] = True
        positions = torch.full((1, count), len(self._texts[0]) - 1)
        hidden = self._append(torch.tensor([ids]), positions, self._visible, self._texts)
        self._compact()
        return hidden

    def keep(self, kept: Sequence[int]) -> None:
        """Drop all partial texts but these."""
        self._texts = [self._texts[at] for at in kept]
        self._visible = self._visible[torch.tensor(kept)]

    def states_of(self, text: int) -> Tensor:
        """The hidden states of all tokens of a partial text, (its length, C)."""
        return self._states[self._visible[text].nonzero()[:, 0].to(self._states.device)]

    def _append(self, ids: Tensor, positions: Tensor, visible: Tensor, texts: Sequence[Sequence[int]]) -> Tensor:
        """Read ids (1, T) into the next free positions; each attends to ``visible`` (T, capacity): (T, C)."""
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
        """The block is full: let every text continue from its last tokens, read again."""
        self._cache.lengths.zero_()
        texts, self._texts = self._texts, [text[len(text) - kept :] for text in self._texts]
        self._visible = torch.zeros(len(texts), self._cache.capacity, dtype=torch.bool)
        if not kept:
            return
        for at, text in enumerate(self._texts):
            start = at * kept
            attended = torch.zeros(kept, self._cache.capacity, dtype=torch.bool)
            attended[:, start : start + kept] = torch.ones(kept, kept, dtype=torch.bool).tril()
            read = [text[: end + 1] for end in range(kept)]
            self._append(torch.tensor([text]), torch.arange(kept)[None], attended, read)
            self._visible[at, start : start + kept] = True

    def _compact(self) -> None:
        used = int(self._cache.lengths[0])
        used_positions = self._visible.any(dim=0).nonzero()[:, 0]
        if used <= 2 * len(used_positions) + _MIN_UNUSED:
            return
        self._cache.keep_entries(0, used_positions)
        self._states[: len(used_positions)] = self._states[used_positions.to(self._states.device)]
        visible = torch.zeros_like(self._visible)
        visible[:, : len(used_positions)] = self._visible[:, used_positions]
        self._visible = visible
