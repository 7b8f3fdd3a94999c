"""Loss, perplexity and accuracy of a model on running text.

Windows do not overlap (the stride is their length), so the first tokens of a window have little context; the metrics
report the stride. Nothing is random.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from penna.model.gpt import GPT
from penna.train.objective import Objective

_BATCH_TOKENS = 8192


class EvaluationRows(Protocol):
    """Rows that are each scored once."""

    @property
    def rows(self) -> int:
        """The number of rows."""
        ...

    def batch(self, rows: range) -> dict[str, Tensor]:
        """These rows as tensors."""
        ...


def score_rows(
    model: GPT, objective: Objective, windows: EvaluationRows, rank: int = 0, world: int = 1
) -> tuple[dict[str, float], dict[str, int]]:
    """Sums and counts of every ``world``-th batch of rows, starting at ``rank``; the model is in evaluation mode."""
    device = model.wte.weight.device
    batch_rows = max(1, _BATCH_TOKENS // model.config.block_size)
    sums: dict[str, float] = {}
    counts: dict[str, int] = {}
    with torch.no_grad():
        for number, start in enumerate(range(0, windows.rows, batch_rows)):
            is_own = number % world == rank
            # Every rank names the same terms even if it has no rows: then the first batch counts as nothing.
            if not is_own and sums:
                continue
            batch = windows.batch(range(start, min(start + batch_rows, windows.rows)))
            batch_sums = objective.sums(model, {name: tensor.to(device) for name, tensor in batch.items()})
            for term, value in batch_sums.items():
                sums[term] = sums.get(term, 0.0) + (float(value) if is_own else 0.0)
            for term, count in objective.counts(batch).items():
                counts[term] = counts.get(term, 0) + (count if is_own else 0)
    return sums, counts


@dataclass(frozen=True)
class LanguageModelMetrics:
    """What `penna evaluate` reports about running text."""

    loss: float  # nats per token
    bits_per_byte: float
    token_perplexity: float
    word_perplexity: float  # per white-space word and line end, from the same total
    accuracy: float  # share of tokens that were the most probable prediction
    tokens: int  # scored tokens
    words: int
    bytes: int
    stride: int  # tokens from one window to the next, which is also their length


def language_model_metrics(
    sums: dict[str, float], counts: dict[str, int], words: int, stride: int
) -> LanguageModelMetrics:
    """Metrics from the sums over a whole text of ``words`` white-space words and line ends."""
    nats, tokens = sums["loss"], max(counts["loss"], 1)
    return LanguageModelMetrics(
        loss=nats / tokens,
        bits_per_byte=nats / math.log(2) / max(counts["bytes"], 1),
        token_perplexity=perplexity(nats / tokens),
        word_perplexity=perplexity(nats / max(words, 1)),
        accuracy=sums["correct"] / tokens,
        tokens=counts["loss"],
        words=words,
        bytes=counts["bytes"],
        stride=stride,
    )


def perplexity(loss: float) -> float:
    """exp of a loss in nats; infinite if that is too large for a float."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf
