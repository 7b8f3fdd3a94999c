"""The chain P(token | all before it) of texts: a model and ids in, each token's log-probability and rank out.

A text longer than the block is read in overlapping windows, placed as writing past the block goes on: where a window
is full, the next one begins so that the first token it predicts has half a block before it. So a token's probability
rests on all that stands before it, or on half a block to a whole one. Windows of all texts are read side by side, and
logits are made for a few rows at a time and only where they are asked for, so that memory does not grow with the texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from penna.model.gpt import GPT

_TOKENS_AT_ONCE = 8192
_LOGITS_AT_ONCE = 1 << 22  # 16 MB


@dataclass(frozen=True, eq=False)
class SequenceScores:
    """How likely each token of one text is behind those before it."""

    logprobs: NDArray[np.float64]  # (n,) natural logarithms; nan before the first one asked for
    ranks: NDArray[np.int64]  # (n,) 1 for the likeliest token of the vocabulary; 0 where there is no log-probability
    windows: int  # how many the text was read in; 1 where it fits the block


@dataclass(frozen=True)
class _Window:
    text: int  # its place among the texts
    start: int  # the first token that is read
    first: int  # the first token that is scored
    last: int  # the last one that is scored; those before it are read

    @property
    def length(self) -> int:
        return self.last - self.start


def window_start(place: int, block_size: int) -> int:
    """Where the window begins from which the token at ``place`` of a text is predicted.

    From 0 while the block holds all before it; then at least half a block before it, and at most a whole one.
    """
    if place <= block_size:
        return 0
    stride = block_size + 1 - _least_context(block_size)
    return -(-(place - block_size) // stride) * stride


def score_sequences(
    model: GPT, texts: Sequence[Sequence[int]], firsts: Sequence[int] | None = None
) -> list[SequenceScores]:
    """The chain of each text; the model is in evaluation mode, and no seq2seq.

    ``firsts`` says for each text the first token that is scored, 1 or more; 1 unless said, for before the first token
    of a text there is nothing.
    """
    firsts = [1] * len(texts) if firsts is None else firsts
    logprobs = [np.full(len(ids), np.nan) for ids in texts]
    ranks = [np.zeros(len(ids), dtype=np.int64) for ids in texts]
    counts = [1] * len(texts)
    windows: list[_Window] = []
    for number, (ids, first) in enumerate(zip(texts, firsts, strict=True)):
        own = list(_windows(number, len(ids), first, model.config.block_size))
        counts[number] = max(len(own), 1)
        windows += own
    for rows in _groups(sorted(windows, key=lambda window: window.length)):
        scores, places = _score(model, texts, rows)
        begun = 0
        for row in rows:
            end = begun + row.last + 1 - row.first
            logprobs[row.text][row.first : row.last + 1] = scores[begun:end]
            ranks[row.text][row.first : row.last + 1] = places[begun:end]
            begun = end
    return [SequenceScores(*found) for found in zip(logprobs, ranks, counts, strict=True)]


@torch.no_grad()
def next_token_logprobs(model: GPT, ids: Sequence[int]) -> NDArray[np.float64]:
    """Natural logarithms of the probability of every token behind ``ids``, at least one: (vocab_size,).

    Read from the same window as in the chain of any text that goes on from ``ids``.
    """
    start = window_start(len(ids), model.config.block_size)
    read = torch.tensor([list(ids[start:])], device=model.wte.weight.device)
    return model.logits(model.hidden(read)[0, -1]).float().log_softmax(dim=-1).double().cpu().numpy()


def _least_context(block_size: int) -> int:
    return (block_size + 1) // 2


def _windows(text: int, count: int, first: int, block_size: int) -> Iterator[_Window]:
    """The windows from which the tokens ``first`` to ``count`` - 1 are predicted."""
    while first < count:
        start = window_start(first, block_size)
        last = min(start + block_size, count - 1)
        yield _Window(text, start, first, last)
        first = last + 1


def _groups(windows: Sequence[_Window]) -> Iterator[list[_Window]]:
    """Windows in the order of their lengths, as many together as make up a batch."""
    rows: list[_Window] = []
    for window in windows:
        if rows and (len(rows) + 1) * window.length > _TOKENS_AT_ONCE:
            yield rows
            rows = []
        rows.append(window)
    if rows:
        yield rows


@torch.no_grad()
def _score(
    model: GPT, texts: Sequence[Sequence[int]], rows: Sequence[_Window]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Log-probabilities and ranks of the scored tokens of these windows, one window behind the other."""
    device = model.wte.weight.device
    padded = torch.zeros(len(rows), max(row.length for row in rows), dtype=torch.int64)
    due = torch.zeros_like(padded, dtype=torch.bool)  # where something behind is scored
    for number, row in enumerate(rows):
        padded[number, : row.length] = torch.tensor(texts[row.text][row.start : row.last])
        due[number, row.first - 1 - row.start : row.length] = True
    targets = torch.tensor([index for row in rows for index in texts[row.text][row.first : row.last + 1]])
    hidden = model.hidden(padded.to(device))[due.to(device)]  # (scored tokens, C)
    at_once = max(1, _LOGITS_AT_ONCE // model.config.rows)
    parts = [
        _of_logits(model.logits(states).float(), wanted)
        for states, wanted in zip(hidden.split(at_once), targets.to(device).split(at_once), strict=True)
    ]
    scores, ranks = (torch.cat(part).cpu().numpy() for part in zip(*parts, strict=True))
    return scores, ranks


def _of_logits(logits: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities and ranks of tokens (N,) by their logits (N, vocab_size)."""
    chosen = logits.gather(1, wanted[:, None])  # (N, 1)
    likelier = (logits > chosen).sum(dim=1)
    return (chosen[:, 0] - logits.logsumexp(dim=1)).double(), likelier + 1
