"""The loss and a feature vector of each continuation after its prefix.

No decoding setting is applied: this is how the model rates a text, however it was generated. A text longer than the
block is read in windows that overlap by half, and each token is rated in the first window that reaches it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from penna.evaluate.texts.statistics import Likelihood
from penna.model.gpt import GPT

_BATCH_TOKENS = 4096
_LOGIT_ROWS = 256

Ids = Sequence[int]


@dataclass(frozen=True)
class ContinuationFeatures:
    """Likelihoods and features of N continuations."""

    likelihood: Likelihood
    features: NDArray[np.float32]  # (N, C): the last token's hidden state, after the final norm


@dataclass(frozen=True)
class _Window:
    text: int
    start: int  # in prefix + continuation
    end: int
    new: int  # the first position that no earlier window reached


@torch.no_grad()
def continuation_features(model: GPT, prefixes: Sequence[Ids], texts: Sequence[Ids]) -> ContinuationFeatures:
    """Rate each text after its prefix of at least one token; the model is in evaluation mode."""
    device, block = model.wte.weight.device, model.config.block_size
    sequences = [[*prefix, *text] for prefix, text in zip(prefixes, texts, strict=True)]
    nats = np.zeros(len(texts))
    features = np.zeros((len(texts), model.config.n_embd), dtype=np.float32)
    windows = [window for number, ids in enumerate(sequences) for window in _windows(number, len(ids), block)]
    for batch in _batches(windows):
        width = max(window.end - window.start for window in batch)
        ids = torch.zeros(len(batch), width, dtype=torch.int64)
        for row, window in enumerate(batch):
            ids[row, : window.end - window.start] = torch.tensor(sequences[window.text][window.start : window.end])
        hidden = model.hidden(ids.to(device))  # (B, T, C)
        for row, window in enumerate(batch):
            own = sequences[window.text]
            if window.end == len(own):
                features[window.text] = hidden[row, window.end - window.start - 1].float().cpu().numpy()
            first = max(window.new, len(prefixes[window.text]) - 1)  # the first position whose next token is rated here
            last = min(window.end, len(own) - 1)
            for begin in range(first, last, _LOGIT_ROWS):
                end = min(begin + _LOGIT_ROWS, last)
                logits = model.logits(hidden[row, begin - window.start : end - window.start]).float()
                targets = torch.tensor(own[begin + 1 : end + 1], device=device)
                nats[window.text] += float(torch.nn.functional.cross_entropy(logits, targets, reduction="sum"))
    return ContinuationFeatures(Likelihood(nats, np.array([len(text) for text in texts], dtype=np.int64)), features)


def _windows(text: int, length: int, block: int) -> Iterator[_Window]:
    """Windows of at most a block over ``length`` tokens, each starting half a block after the previous one."""
    start, reached = 0, 0
    while True:
        end = min(start + block, length)
        yield _Window(text, start, end, reached)
        if end == length:
            return
        start, reached = start + max(1, block // 2), end


def _batches(windows: Sequence[_Window]) -> Iterator[list[_Window]]:
    """Windows of similar length together, the longest first."""
    ordered = sorted(windows, key=lambda window: window.start - window.end)
    at = 0
    while at < len(ordered):
        width = ordered[at].end - ordered[at].start
        count = max(1, _BATCH_TOKENS // width)
        yield ordered[at : at + count]
        at += count
