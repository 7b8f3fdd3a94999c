"""Log-probability and rank of each token of a text given all tokens before it.

A text longer than the block is read in overlapping windows, placed as in generation past the block: when a window is
full, the next one starts so that the first token it predicts has half a block before it. So a prediction sees the whole
text before it, or between half a block and a block. Windows of all texts are batched, and logits are computed a few
rows at a time and only for scored tokens, so that memory does not grow with the texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from penna.model.gpt import GPT

_BATCH_TOKENS = 8192
_LOGIT_VALUES = 1 << 22  # 16 MB


@dataclass(frozen=True, eq=False)
class SequenceScores:
    """How likely each token of one text is after those before it."""

    logprobs: NDArray[np.float64]  # (n,) natural logarithms; nan before the first scored token
    ranks: NDArray[np.int64]  # (n,) 1 for the most probable token of the vocabulary; 0 if there is no log-probability
    windows: int  # number of windows in which the text was read; 1 if it fits the block


@dataclass(frozen=True)
class _Window:
    text: int  # number of the text
    start: int  # the first token that is read
    first: int  # the first token that is scored
    last: int  # the last token that is scored; those before it are read

    @property
    def length(self) -> int:
        return self.last - self.start


def window_start(position: int, block_size: int) -> int:
    """The start of the window from which the token at ``position`` of a text is predicted.

    0 as long as the block holds all tokens before it; then with at least half a block and at most a block before it.
    """
    if position <= block_size:
        return 0
    stride = block_size + 1 - _min_context(block_size)
    return -(-(position - block_size) // stride) * stride


def score_sequences(
    model: GPT, texts: Sequence[Sequence[int]], firsts: Sequence[int] | None = None
) -> list[SequenceScores]:
    """The scores of each text; the model is in evaluation mode and has no encoder.

    ``firsts`` gives, for each text, the first token that is scored, at least 1 (the default): nothing precedes token 0.
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
    for batch in _batches(sorted(windows, key=lambda window: window.length)):
        batch_logprobs, batch_ranks = _score(model, texts, batch)
        begin = 0
        for window in batch:
            end = begin + window.last + 1 - window.first
            logprobs[window.text][window.first : window.last + 1] = batch_logprobs[begin:end]
            ranks[window.text][window.first : window.last + 1] = batch_ranks[begin:end]
            begin = end
    return [SequenceScores(*found) for found in zip(logprobs, ranks, counts, strict=True)]


@torch.no_grad()
def next_token_logprobs(model: GPT, ids: Sequence[int]) -> NDArray[np.float64]:
    """Natural logarithms of the probability of every token after ``ids``, at least one: (vocab_size,).

    The window is the same as for any longer text that starts with ``ids``.
    """
    start = window_start(len(ids), model.config.block_size)
    window = torch.tensor([list(ids[start:])], device=model.wte.weight.device)
    return model.logits(model.hidden(window)[0, -1]).float().log_softmax(dim=-1).double().cpu().numpy()


def _min_context(block_size: int) -> int:
    return (block_size + 1) // 2


def _windows(text: int, count: int, first: int, block_size: int) -> Iterator[_Window]:
    """The windows from which the tokens ``first`` to ``count`` - 1 are predicted."""
    while first < count:
        start = window_start(first, block_size)
        last = min(start + block_size, count - 1)
        yield _Window(text, start, first, last)
        first = last + 1


def _batches(windows: Sequence[_Window]) -> Iterator[list[_Window]]:
    """Windows in the order of their lengths, as many together as fit a batch."""
    batch: list[_Window] = []
    for window in windows:
        if batch and (len(batch) + 1) * window.length > _BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch


@torch.no_grad()
def _score(
    model: GPT, texts: Sequence[Sequence[int]], windows: Sequence[_Window]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Log-probabilities and ranks of the scored tokens of these windows, concatenated."""
    device = model.wte.weight.device
    padded = torch.zeros(len(windows), max(window.length for window in windows), dtype=torch.int64)
    is_scored = torch.zeros_like(padded, dtype=torch.bool)  # positions whose next token is scored
    for row, window in enumerate(windows):
        padded[row, : window.length] = torch.tensor(texts[window.text][window.start : window.last])
        is_scored[row, window.first - 1 - window.start : window.length] = True
    targets = torch.tensor(
        [index for window in windows for index in texts[window.text][window.first : window.last + 1]]
    )
    hidden = model.hidden(padded.to(device))[is_scored.to(device)]  # (scored tokens, C)
    rows = max(1, _LOGIT_VALUES // model.config.rows)
    parts = [
        _logprobs_and_ranks(model.logits(states).float(), ids)
        for states, ids in zip(hidden.split(rows), targets.to(device).split(rows), strict=True)
    ]
    logprobs, ranks = (torch.cat(part).cpu().numpy() for part in zip(*parts, strict=True))
    return logprobs, ranks


def _logprobs_and_ranks(logits: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities and ranks of tokens (N,) given their logits (N, vocab_size)."""
    chosen = logits.gather(1, ids[:, None])  # (N, 1)
    better = (logits > chosen).sum(dim=1)
    return (chosen[:, 0] - logits.logsumexp(dim=1)).double(), better + 1
