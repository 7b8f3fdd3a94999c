"""A batch of sequences that are decoded token by token, each in a row of one preallocated KV cache.

The active rows always come first, so that no step has to gather keys and values; when a row is removed, the last one
takes its place. The cache holds all of a sequence but its last token, which the next step reads. A seq2seq model
encodes each source once and keeps the result beside the row. Shapes: B active rows, T tokens read at once.
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

_MIN_MULTITHREADED = 2 << 20  # multiplications of a step; below, one thread is faster
_MAX_TOKENS = 8192  # of prompts read at once; bounds the memory besides the cache


@dataclass
class Row:
    """A sequence in the batch."""

    number: int  # the engine's number of the request
    request: Request
    context: list[int]  # tokens in the cache, and the one to be read next
    sequence: SequenceState
    lookup: PromptLookup | None
    is_done: bool = False


class DecodingBatch:
    """The sequences that grow token by token."""

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
        """Add rows and read their prompts; a prompt that several rows share is read once."""
        firsts: dict[tuple[tuple[int, ...], tuple[int, ...]], Row] = {}
        copies: list[tuple[Row, Row]] = []
        for row in rows:
            first = firsts.setdefault((tuple(row.context), tuple(row.request.source)), row)
            if first is not row:
                copies.append((first, row))
        by_length = sorted(firsts.values(), key=lambda row: len(row.context))
        for group in _group_by_length(by_length):
            start = len(self.rows)
            self.rows += group
            self._read_sources(start, group)
            self._refill(start, group)
        for first, row in copies:
            self.rows.append(row)
            self._copy(self.rows.index(first), len(self.rows) - 1)

    def trim_contexts(self) -> int:
        """Restart or slide contexts that have outgrown the block; return how many tokens every row can read."""
        block = self._model.config.block_size
        for index, row in enumerate(self.rows):
            if len(row.context) > block:
                kept = block if row.request.config.past_block == "slide" else max(1, block // 2)
                row.context = row.context[-kept:]
                self._refill(index, [row])
        return self._cache.capacity + 1 - max(len(row.context) for row in self.rows)

    def read(self, drafts: Sequence[Sequence[int]]) -> Tensor:
        """Read each row's last token and the draft tokens after it: logits (B, T, vocab_size).

        Logits after a row's own draft are meaningless. ``advance`` sets how many of the tokens stay.
        """
        B = len(self.rows)
        if self._recorded is not None and not any(drafts):
            logits = self._recorded.logits([row.context[-1] for row in self.rows])
            if logits is not None:
                return logits
        ids = padded([[row.context[-1], *draft] for row, draft in zip(self.rows, drafts, strict=True)])
        ids = ids.to(self._model.wte.weight.device)
        cache = self._cache.rows(0, B)
        if self._step is not None:
            with _threads_for(ids.numel() * self._weights):
                return self._model.logits(self._step.hidden(ids, cache))
        return self._model.logits(self._model.hidden(ids, cache, encoder_cache=self._sources(0, B)))

    def advance(self, counts: Sequence[int]) -> None:
        """Keep this many of the last read tokens in each row."""
        self._cache.lengths[: len(counts)] += 1 if set(counts) == {1} else torch.tensor(counts)

    def remove(self, indices: Sequence[int]) -> None:
        """Remove rows."""
        for index in sorted(indices, reverse=True):
            last = len(self.rows) - 1
            if index != last:
                self._copy(last, index)
                self.rows[index] = self.rows[last]
            self.rows.pop()

    def _refill(self, start: int, rows: Sequence[Row]) -> None:
        """Read all but the last token of neighboring rows, replacing what the cache held."""
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
    """Use one thread for a step so small that several would mostly wait for each other."""
    threads = torch.get_num_threads()
    if multiplications < _MIN_MULTITHREADED:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def read_prompts(
    model: GPT, cache: KVCache, memory: EncoderCache | None, prompts: Sequence[Sequence[int]]
) -> Tensor | None:
    """Read prompts into all rows of an empty cache: hidden states (B, T, C), or None if all prompts are empty."""
    longest = max(map(len, prompts))
    if not longest:
        return None
    hidden = model.hidden(padded(prompts).to(model.wte.weight.device), cache, encoder_cache=memory)
    cache.advance(torch.tensor([len(prompt) for prompt in prompts]))
    return hidden


def read_sources(model: Seq2Seq, sources: Sequence[Sequence[int]]) -> EncoderCache:
    """Encode sources in one batch."""
    lengths = torch.tensor([len(source) for source in sources])
    return model.encode(padded(sources).to(model.wte.weight.device), lengths)


def padded(texts: Sequence[Sequence[int]]) -> Tensor:
    """Ids (B, T), padded on the right with 0."""
    longest = max(map(len, texts))
    return torch.tensor([[*ids, *[0] * (longest - len(ids))] for ids in texts])


def _group_by_length(rows: Sequence[Row]) -> list[list[Row]]:
    """Group rows, ordered by length, so that little is padded and no group is too large to be read at once."""
    groups: list[list[Row]] = []
    for row in rows:
        length = len(row.context)
        if groups and length <= 2 * len(groups[-1][0].context) + 8 and length * len(groups[-1]) < _MAX_TOKENS:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups
