"""Texts side by side, each in a row of one preallocated cache: rows come and go, and are read together.

The rows at work are always the first ones, so that no step gathers keys and values from elsewhere; where one leaves,
the last takes its place. A row's cache holds all of its text but the last token, which the next step reads. A seq2seq
reads each source once; what its encoder made of it stands in a slot beside the row. Shapes: B rows at work, T tokens
read at once.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from penna.generate.prompt_lookup import PromptLookup
from penna.generate.request import Request
from penna.generate.sequence import SequenceState
from penna.model.cache import EncoderCache, KVCache
from penna.model.fast.cuda_graphs import CUDAGraphDecoder
from penna.model.fast.decode import FastDecoder
from penna.model.gpt import GPT
from penna.model.seq2seq import Seq2Seq

_WORTH_SHARING = 2 << 20  # multiplications of a step from which on several threads are faster than one
_TOKENS_AT_ONCE = 8192  # of prompts; bounds what their reading takes beside the cache


@dataclass
class Row:
    """A text at work."""

    number: int  # of its request
    request: Request
    context: list[int]  # what the cache holds, and the token to be read next
    sequence: SequenceState
    lookup: PromptLookup | None
    is_done: bool = False


class DecodingBatch:
    """The rows of texts that grow token by token."""

    def __init__(self, model: GPT, slots: int, capacity: int) -> None:
        weight = model.wte.weight
        self.rows: list[Row] = []
        self._model = model
        self._weights = sum(each.numel() for each in (*model.h.parameters(), *model.h.buffers()))  # buffers: in int8
        self._cache = KVCache(model.config, slots, capacity, weight.device, weight.dtype)
        self._recorded = CUDAGraphDecoder(model, self._cache) if CUDAGraphDecoder.supports(model) else None
        self._step = FastDecoder(model) if self._recorded is None and FastDecoder.supports(model) else None
        self._memory = EncoderCache.empty(model.config, slots, weight) if isinstance(model, Seq2Seq) else None

    def admit(self, rows: Sequence[Row]) -> None:
        """Take further rows in and read their prompts; one that several share is read once."""
        firsts: dict[tuple[tuple[int, ...], tuple[int, ...]], Row] = {}
        copies: list[tuple[Row, Row]] = []
        for row in rows:
            first = firsts.setdefault((tuple(row.context), tuple(row.request.source)), row)
            if first is not row:
                copies.append((first, row))
        by_length = sorted(firsts.values(), key=lambda row: len(row.context))
        for group in _of_like_length(by_length):
            start = len(self.rows)
            self.rows += group
            self._read_sources(start, group)
            self._refill(start, group)
        for first, row in copies:
            self.rows.append(row)
            self._copy(self.rows.index(first), len(self.rows) - 1)

    def trim_contexts(self) -> int:
        """Let texts that outgrew the block go on from a later part of it, read anew; then as many tokens can be read
        in every row at once."""
        block = self._model.config.block_size
        for place, row in enumerate(self.rows):
            if len(row.context) > block:
                kept = block if row.request.config.past_block == "slide" else max(1, block // 2)
                row.context = row.context[-kept:]
                self._refill(place, [row])
        return self._cache.capacity + 1 - max(len(row.context) for row in self.rows)

    def read(self, guesses: Sequence[Sequence[int]]) -> Tensor:
        """Read each row's last token, and what is guessed to come behind it: logits (B, T, vocab_size).

        Behind a row's own guesses the logits mean nothing. ``accept`` says how much of it stays. There must be room.
        """
        B = len(self.rows)
        if self._recorded is not None and not any(guesses):
            logits = self._recorded.logits([row.context[-1] for row in self.rows])
            if logits is not None:
                return logits
        ids = padded([[row.context[-1], *guess] for row, guess in zip(self.rows, guesses, strict=True)])
        ids = ids.to(self._model.wte.weight.device)
        cache = self._cache.rows(0, B)
        if self._step is not None:
            with _threads_for(ids.numel() * self._weights):
                return self._model.logits(self._step.hidden(ids, cache))
        return self._model.logits(self._model.hidden(ids, cache, encoder_cache=self._sources(0, B)))

    def advance(self, counts: Sequence[int]) -> None:
        """So many of the tokens last read stay in each row."""
        self._cache.lengths[: len(counts)] += 1 if set(counts) == {1} else torch.tensor(counts)

    def remove(self, places: Sequence[int]) -> None:
        """Let rows go."""
        for place in sorted(places, reverse=True):
            last = len(self.rows) - 1
            if place != last:
                self._copy(last, place)
                self.rows[place] = self.rows[last]
            self.rows.pop()

    def _refill(self, start: int, rows: Sequence[Row]) -> None:
        """Read all but the last token of neighbouring rows, whatever they held."""
        cache = self._cache.rows(start, start + len(rows))
        cache.lengths.zero_()
        prompts = [row.context[:-1] for row in rows]
        if self._step is None:
            read_prompts(self._model, cache, self._sources(start, len(rows)), prompts)
        elif any(prompts):
            lengths = torch.tensor([len(prompt) for prompt in prompts])
            self._step.prefill(padded(prompts).to(self._model.wte.weight.device), lengths, cache)
            cache.advance(lengths)

    def _sources(self, start: int, count: int) -> EncoderCache | None:
        if self._memory is None:
            return None
        longest = max(len(row.request.source) for row in self.rows[start : start + count])
        return self._memory.rows(start, start + count, longest)

    def _read_sources(self, start: int, rows: Sequence[Row]) -> None:
        if self._memory is not None:
            read = read_sources(cast(Seq2Seq, self._model), [row.request.source for row in rows])
            self._memory.write(start, read)

    def _copy(self, source: int, target: int) -> None:
        self._cache.copy_row(source, target)
        if self._memory is not None:
            self._memory.write(target, self._memory.rows(source, source + 1))


@contextmanager
def _threads_for(multiplications: int) -> Generator[None]:
    """One thread for a step so small that two would wait for each other longer than they work."""
    threads = torch.get_num_threads()
    if multiplications < _WORTH_SHARING:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def read_prompts(
    model: GPT, cache: KVCache, memory: EncoderCache | None, prompts: Sequence[Sequence[int]]
) -> Tensor | None:
    """Read prompts into all rows of an empty cache; their hidden states (B, T, C), None where all are empty."""
    longest = max(map(len, prompts))
    if not longest:
        return None
    hidden = model.hidden(padded(prompts).to(model.wte.weight.device), cache, encoder_cache=memory)
    cache.advance(torch.tensor([len(prompt) for prompt in prompts]))
    return hidden


def read_sources(model: Seq2Seq, sources: Sequence[Sequence[int]]) -> EncoderCache:
    """What the encoder makes of sources, read in one batch."""
    lengths = torch.tensor([len(source) for source in sources])
    return model.encode(padded(sources).to(model.wte.weight.device), lengths)


def padded(texts: Sequence[Sequence[int]]) -> Tensor:
    """Ids filled up on the right to the longest, (B, T)."""
    longest = max(map(len, texts))
    return torch.tensor([[*ids, *[0] * (longest - len(ids))] for ids in texts])


def _of_like_length(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows ordered by length, in groups that waste little on padding and are not too large to be read at once."""
    groups: list[list[Row]] = []
    for row in rows:
        length = len(row.context)
        if groups and length <= 2 * len(groups[-1][0].context) + 8 and length * len(groups[-1]) < _TOKENS_AT_ONCE:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups
