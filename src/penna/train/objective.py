"""Objectives: what a batch is scored by, as sums and counts.

The loop knows no task. An objective gives ``counts`` of a batch without a model, and ``sums`` with one; the loop adds
up the counts over an accumulation window and all ranks first, then runs forward and backward on
sum(weight * sum / count). So accumulation equals a big batch, many ranks equal one, and a batch whose targets are all
masked adds zero.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from penna.data.batches import IGNORED
from penna.model.cache import Memory
from penna.model.gpt import GPT
from penna.model.seq2seq import Seq2Seq
from penna.text.tokenizer import Tokenizer
from penna.train.cross_entropy import cross_entropy

Batch = dict[str, Tensor]


class Objective(Protocol):
    """What the loop asks of a task."""

    weights: dict[str, float]  # the terms that make up the loss; other terms are only measured

    def counts(self, batch: Batch) -> dict[str, int]:
        """What each term's sum is divided by, ``tokens`` for the log, and further counts that ``report`` needs."""
        ...

    def sums(self, model: GPT, batch: Batch) -> dict[str, Tensor]:
        """Each term summed over the batch, as a scalar tensor; those with a weight carry gradients."""
        ...

    def report(self, sums: dict[str, float], counts: dict[str, int]) -> dict[str, float]:
        """The figures to log for sums and counts of any number of batches; ``loss`` among them."""
        ...


def memory_of(model: GPT, batch: Batch) -> Memory | None:
    """What an encoder makes of the batch's sources (B, S) and their lengths (B,); None for a model without one."""
    return model.encode(batch["source"], batch["source_lengths"]) if isinstance(model, Seq2Seq) else None


def bytes_of_tokens(tokenizer: Tokenizer) -> Tensor:
    """How many bytes of text each token stands for: (vocab_size,).

    Zeros where tokens lose text: how much text is behind some of a record's tokens is then not known, and bits per
    byte are not told.
    """
    if tokenizer.lossless:
        return torch.tensor([len(piece) for piece in tokenizer.token_bytes()])
    return torch.zeros(tokenizer.vocab_size, dtype=torch.int64)


class NextToken:
    """Cross-entropy of every next token in nats, with token accuracy and bits per byte.

    ``token_bytes`` (vocab_size,) holds how many bytes of text each token stands for; a separator stands for none, and
    its cost counts all the same.
    """

    weights = {"loss": 1.0}  # noqa: RUF012 - the protocol's plain attribute

    def __init__(self, token_bytes: Tensor) -> None:
        self._token_bytes = token_bytes

    def counts(self, batch: Batch) -> dict[str, int]:
        """Targets, and the bytes of text they stand for."""
        targets = batch["targets"]
        due = targets[targets != IGNORED].cpu()
        bytes = round(self._token_bytes[due].sum().item())
        return {"loss": due.numel(), "correct": due.numel(), "tokens": due.numel(), "bytes": bytes}

    def sums(self, model: GPT, batch: Batch) -> dict[str, Tensor]:
        """Nats of all targets, and how many were the likeliest prediction."""
        hidden = model.hidden(batch["ids"], memory=memory_of(model, batch))  # (B, T, C)
        loss, correct = cross_entropy(hidden, model.head_weight, batch["targets"], model.matmul)
        return {"loss": loss, "correct": correct}

    def report(self, sums: dict[str, float], counts: dict[str, int]) -> dict[str, float]:
        """Mean loss, token accuracy, and bits per byte where the targets stand for any text."""
        nats, tokens = sums["loss"], max(counts["loss"], 1)
        figures = {"loss": nats / tokens, "accuracy": sums["correct"] / tokens}
        if counts["bytes"]:
            figures["bits_per_byte"] = nats / 0.6931471805599453 / counts["bytes"]
        return figures


class ScoredModel(nn.Module):
    """A model and its objective as one module, so that DDP and the compiler see the whole computation."""

    def __init__(self, model: GPT, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self._objective = objective

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The objective's sums of a batch."""
        return self._objective.sums(self.model, batch)


def weighted_loss(objective: Objective, sums: dict[str, Tensor], counts: dict[str, int]) -> Tensor:
    """The loss of a batch: each weighted sum over its count, where that is not zero."""
    terms = [weight * sums[term] / max(counts[term], 1) for term, weight in objective.weights.items()]
    return torch.stack([term.float() for term in terms]).sum()
