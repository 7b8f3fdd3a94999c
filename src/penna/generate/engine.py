"""The engine: prompt ids in, new ids out, many requests at once.

All requests step together on one preallocated key/value cache. Each row keeps its own length, settings and seed; a
finished row leaves the batch. A row that fills the block goes on from the last half of its context, read anew. A
seq2seq reads each request's source once, before its first token; what its encoder made of it stays with the row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from penna.errors import DataError
from penna.generate.sampling import Sampling, choose
from penna.model.cache import KVCache, Memory
from penna.model.gpt import GPT
from penna.model.seq2seq import Seq2Seq


@dataclass(frozen=True)
class Request:
    """One text to be continued."""

    ids: Sequence[int]  # the prompt, at least one token
    max_new_tokens: int
    sampling: Sampling = Sampling()  # noqa: RUF009 - frozen
    seed: int = 0
    stop_ids: frozenset[int] = frozenset()  # a drawn token among these ends the text and is not given out
    min_new_tokens: int = 0  # none of those is drawn before so many others
    source: Sequence[int] = ()  # what a seq2seq writes from, at least one token; a GPT has none


@dataclass(frozen=True)
class NewToken:
    """One token drawn for a request."""

    request: int  # its place in the list of requests
    id: int
    logprob: float  # natural logarithm of its probability under the model, before any setting cut it off


@dataclass(frozen=True)
class Finish:
    """A request is done."""

    request: int
    reason: str  # "length" or "stop"


@dataclass
class _Row:
    request: int
    asked: Request
    context: list[int]  # what the cache holds or will hold: the prompt's end and the new tokens
    drawn: int = 0


def cut_prompt(ids: Sequence[int], block_size: int) -> list[int]:
    """The end of a prompt that fits the block."""
    return list(ids[-block_size:])


@torch.no_grad()
def generate(model: GPT, requests: Sequence[Request]) -> Iterator[NewToken | Finish]:
    """Continue every request, token by token; the model is in evaluation mode.

    Prompts longer than the block are cut from the left (``cut_prompt``). Raises DataError, before anything is written,
    where a GPT is given a source, or a seq2seq none or one longer than ``source_size``.
    """
    _check_sources(model, requests)
    block = model.config.block_size
    weight = model.wte.weight
    rows = [_Row(number, asked, cut_prompt(asked.ids, block)) for number, asked in enumerate(requests)]
    for row in [row for row in rows if row.asked.max_new_tokens < 1]:
        yield Finish(row.request, "length")
    rows = [row for row in rows if row.asked.max_new_tokens >= 1]
    if not rows:
        return
    capacity = min(block, max(len(row.context) + row.asked.max_new_tokens for row in rows))
    cache = KVCache(model.config, len(rows), capacity, weight.device, weight.dtype)
    memory = _encode(model, [row.asked.source for row in rows]) if isinstance(model, Seq2Seq) else None
    logits = _read(model, cache, memory, range(len(rows)), [row.context for row in rows])
    while True:
        finished: list[int] = []
        likelihood = logits.float().log_softmax(dim=-1)  # (B, vocab_size)
        for number, row in enumerate(rows):
            drawn = choose(_allowed(logits[number], row), row.asked.sampling, row.asked.seed, row.drawn)
            if drawn in row.asked.stop_ids:
                yield Finish(row.request, "stop")
                finished.append(number)
                continue
            yield NewToken(row.request, drawn, float(likelihood[number, drawn]))
            row.context.append(drawn)
            row.drawn += 1
            if row.drawn == row.asked.max_new_tokens:
                yield Finish(row.request, "length")
                finished.append(number)
        if finished:
            kept = [number for number in range(len(rows)) if number not in finished]
            if not kept:
                return
            rows = [rows[number] for number in kept]
            cache.select(torch.tensor(kept))
            memory = None if memory is None else memory.select(torch.tensor(kept))
        logits = _advance(model, cache, memory, rows)


def _allowed(logits: Tensor, row: _Row) -> Tensor:
    """Logits (vocab_size,) without those of the tokens that would end a text before its least length."""
    if row.drawn >= row.asked.min_new_tokens or not row.asked.stop_ids:
        return logits
    return logits.index_fill(0, torch.tensor(sorted(row.asked.stop_ids), device=logits.device), -torch.inf)


def _check_sources(model: GPT, requests: Sequence[Request]) -> None:
    """Raise where a request's source is not what the model reads."""
    for number, asked in enumerate(requests):
        length, place = len(asked.source), f"request {number + 1} of {len(requests)}"
        if not isinstance(model, Seq2Seq):
            if length:
                raise DataError(
                    f"The source of {place} has {length:,} tokens, and this model has no encoder to read it.",
                    'A source goes to a model of arch = "seq2seq" alone.',
                    "Put it in front of the prompt instead.",
                )
        elif not length:
            raise DataError(
                f"There is no source in {place}.",
                'A model of arch = "seq2seq" writes from a source of one token or more.',
                "Give the text it is to answer or to sum up.",
            )
        elif length > model.config.source_span:
            raise DataError(
                f"The source of {place} has {length:,} tokens.",
                f"This model's encoder reads {model.config.source_span:,} (source_size).",
                "Shorten it.",
            )


def _encode(model: Seq2Seq, sources: Sequence[Sequence[int]]) -> Memory:
    """What the encoder makes of all sources, read in one batch."""
    padded, lengths = _padded(sources)
    return model.encode(padded.to(model.wte.weight.device), lengths)


def _advance(model: GPT, cache: KVCache, memory: Memory | None, rows: list[_Row]) -> Tensor:
    """Read each row's last token and give the logits behind it: (B, vocab_size). Full rows start over from half."""
    full = [number for number in range(len(rows)) if int(cache.lengths[number]) >= model.config.block_size]
    for number in full:
        row = rows[number]
        row.context = row.context[-max(1, model.config.block_size // 2) :]
        cache.lengths[number] = 0
    if full:
        restarted = _read(model, cache, memory, full, [rows[number].context for number in full])
        stepping = [number for number in range(len(rows)) if number not in full]
        logits = restarted.new_empty(len(rows), restarted.shape[-1])
        logits[full] = restarted
        if stepping:
            last = [rows[number].context[-1:] for number in stepping]
            logits[stepping] = _read(model, cache, memory, stepping, last)
        return logits
    return _read(model, cache, memory, range(len(rows)), [row.context[-1:] for row in rows])


def _read(
    model: GPT, cache: KVCache, memory: Memory | None, numbers: Sequence[int], texts: Sequence[Sequence[int]]
) -> Tensor:
    """Read ids into these rows of the cache; the logits behind each row's last one: (len(numbers), vocab_size)."""
    padded, lengths = _padded(texts)
    device = model.wte.weight.device
    whole = len(numbers) == len(cache.lengths)
    part = cache if whole else cache.rows(numbers)
    sources = memory if memory is None or whole else memory.select(torch.tensor(list(numbers)))
    hidden = model.hidden(padded.to(device), part, memory=sources)
    part.advance(lengths)
    if not whole:
        cache.put_rows(numbers, part)
    last = hidden[torch.arange(len(texts)), (lengths - 1).to(device)]  # (B, C)
    return model.logits(last)


def _padded(texts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Ids filled up on the right to the longest, (B, T), and how many of each row are real, (B,)."""
    lengths = torch.tensor([len(ids) for ids in texts])
    padded = torch.zeros(len(texts), int(lengths.max()), dtype=torch.int64)
    for number, ids in enumerate(texts):
        padded[number, : len(ids)] = torch.tensor(ids)
    return padded, lengths
