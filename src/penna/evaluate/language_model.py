"""How well a model predicts running text: model and windows in, sums and figures out.

Windows stand side by side (the stride is their length), so early tokens of a window see little context; the figures
say the stride they were taken with. Nothing is drawn at random.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from penna.model.gpt import GPT
from penna.train.objective import Objective

_TOKENS_AT_ONCE = 8192


class EvaluationRows(Protocol):
    """Rows to be scored, each once."""

    @property
    def rows(self) -> int:
        """How many there are."""
        ...

    def batch(self, rows: range) -> dict[str, Tensor]:
        """These rows as tensors."""
        ...


def score_rows(
    model: GPT, objective: Objective, windows: EvaluationRows, rank: int = 0, world: int = 1
) -> tuple[dict[str, float], dict[str, int]]:
    """Sums and counts of every ``world``-th batch of rows from ``rank`` on; the model is in evaluation mode."""
    device = model.wte.weight.device
    at_once = max(1, _TOKENS_AT_ONCE // model.config.block_size)
    sums: dict[str, float] = {}
    counts: dict[str, int] = {}
    with torch.no_grad():
        for number, start in enumerate(range(0, windows.rows, at_once)):
            mine = number % world == rank
            # Every rank names the same terms, also where it has no rows: the first batch is then counted as nothing.
            if not mine and sums:
                continue
            batch = windows.batch(range(start, min(start + at_once, windows.rows)))
            batch_sums = objective.sums(model, {name: tensor.to(device) for name, tensor in batch.items()})
            for term, value in batch_sums.items():
                sums[term] = sums.get(term, 0.0) + (float(value) if mine else 0.0)
            for term, count in objective.counts(batch).items():
                counts[term] = counts.get(term, 0) + (count if mine else 0)
    return sums, counts


@dataclass(frozen=True)
class LanguageModelMetrics:
    """What `penna evaluate` tells about running text."""

    loss: float  # nats per token
    bits_per_byte: float
    token_perplexity: float
    word_perplexity: float  # per white-space word and line end, from the same total
    accuracy: float  # share of tokens whose likeliest prediction was right
    tokens: int  # scored tokens
    words: int
    bytes: int
    stride: int  # tokens from one window to the next; equal to their length

    def as_json(self) -> dict[str, Any]:
        """A dictionary for JSON; an overflowing perplexity is null."""
        return {name: None if value == math.inf else value for name, value in asdict(self).items()}


def language_model_metrics(
    sums: dict[str, float], counts: dict[str, int], words: int, stride: int
) -> LanguageModelMetrics:
    """Figures from the sums of a whole text of ``words`` white-space words and line ends."""
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
    """exp of a loss in nats; infinite where that is too large for a float."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf
