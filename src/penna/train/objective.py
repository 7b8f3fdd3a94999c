"""Objectives: what a batch is scored by, as sums and counts.

The loop knows no task. An objective gives ``counts`` of a batch without a model, and ``sums`` with one; the loop adds
up the counts over an accumulation window and all ranks first, then runs forward and backward on
sum(weight * sum / count). So accumulation equals a big batch, many ranks equal one, and a batch whose targets are all
masked adds zero.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from penna.data.batches import IGNORE_INDEX
from penna.model.cache import EncoderCache
from penna.model.gpt import GPT
from penna.model.linear import Matmul, grad_of_input, grad_of_weight, linear
from penna.model.seq2seq import Seq2Seq
from penna.tokenizer.tokenizer import Tokenizer

# MERGED train.cross_entropy: Cross-entropy of a vocabulary, without ever holding all logits.
#
# Hidden states, the vocabulary's matrix and targets come in; the summed loss and the count of right predictions go
# out.
# Logits of a few hundred rows at a time stay in the processor's cache, and their gradient is made on the spot,
# where the
# usual way writes and reads all logits about eight times: at 8,000 tokens that is more than half of the head's
# time, and
# on any device most of a small model's memory. The sums are those of ``torch.nn.functional.cross_entropy``.


_LOGITS_AT_ONCE = 1 << 22  # 16 MB
_FEWEST_ROWS = 512  # below this the products lose more than the cache gains


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, matmul: Matmul) -> tuple[Tensor, Tensor]:
        wants_grad = any(ctx.needs_input_grad[:2])
        loss = torch.zeros((), dtype=torch.float64, device=hidden.device)
        correct = torch.zeros((), dtype=torch.int64, device=hidden.device)
        grad_hidden = torch.empty_like(hidden) if wants_grad else None
        grad_weight: Tensor | None = None
        rows = max(_FEWEST_ROWS, _LOGITS_AT_ONCE // weight.shape[0])
        for x, y, place in zip(hidden.split(rows), targets.split(rows), range(0, len(hidden), rows), strict=True):
            logits = linear(x, weight, None, matmul)  # (rows, V), ours to change
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            due = y != IGNORE_INDEX
            chosen = y.clamp(min=0)[:, None]
            top, likeliest = logits.max(dim=1, keepdim=True)
            target = logits.gather(1, chosen)
            correct += ((likeliest == chosen)[:, 0] & due).sum()
            total = logits.sub_(top).exp_().sum(dim=1, keepdim=True)
            loss += ((total.log() + top - target)[:, 0] * due).sum(dtype=torch.float64)
            if grad_hidden is not None:  # softmax, less one at the target
                logits.mul_(due[:, None] / total).scatter_add_(1, chosen, -due[:, None].to(logits.dtype))
                grad_hidden[place : place + rows] = grad_of_input(logits, weight, matmul)
                part = grad_of_weight(logits, x, matmul)
                grad_weight = part.to(weight.dtype) if grad_weight is None else grad_weight.add_(part)
        if grad_hidden is not None:
            ctx.save_for_backward(grad_hidden, grad_weight)
        ctx.mark_non_differentiable(correct)
        return loss.to(torch.promote_types(hidden.dtype, torch.float32)), correct

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        grad_hidden, grad_weight = ctx.saved_tensors
        return grad_hidden * grads[0], grad_weight * grads[0], None, None


def cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor, matmul: Matmul) -> tuple[Tensor, Tensor]:
    """Summed nats of all targets, and how many of them were the likeliest token.

    ``hidden`` (..., C), ``weight`` (V, C), ``targets`` (...) with -100 where nothing is due. Float32 sums whatever the
    precision of the products.
    """
    hidden, targets = hidden.flatten(0, -2), targets.flatten()
    if hidden.device.type == "cpu":  # elsewhere, asking how many are due would wait for the device
        due = (targets != IGNORE_INDEX).nonzero()[:, 0]
        if 0 < len(due) < len(targets):  # padding and prompts need no logits
            hidden, targets = hidden.index_select(0, due), targets[due]
    return _CrossEntropy.apply(hidden, weight, targets, matmul)  # type: ignore[no-any-return]


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

    def metrics(self, sums: dict[str, float], counts: dict[str, int]) -> dict[str, float]:
        """The figures to log for sums and counts of any number of batches; ``loss`` among them."""
        ...


def encode_source(model: GPT, batch: Batch) -> EncoderCache | None:
    """What an encoder makes of the batch's sources (B, S) and their lengths (B,); None for a model without one."""
    return model.encode(batch["source"], batch["source_lengths"]) if isinstance(model, Seq2Seq) else None


def token_byte_counts(tokenizer: Tokenizer) -> Tensor:
    """How many bytes of text each token stands for: (vocab_size,).

    Zeros where tokens lose text: how much text is behind some of a record's tokens is then not known, and bits per
    byte are not told.
    """
    if tokenizer.lossless:
        return torch.tensor([len(piece) for piece in tokenizer.token_bytes()])
    return torch.zeros(tokenizer.vocab_size, dtype=torch.int64)


class NextTokenObjective:
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
        due = targets[targets != IGNORE_INDEX].cpu()
        bytes = round(self._token_bytes[due].sum().item())
        return {"loss": due.numel(), "correct": due.numel(), "tokens": due.numel(), "bytes": bytes}

    def sums(self, model: GPT, batch: Batch) -> dict[str, Tensor]:
        """Nats of all targets, and how many were the likeliest prediction."""
        hidden = model.hidden(batch["ids"], encoder_cache=encode_source(model, batch))  # (B, T, C)
        loss, correct = cross_entropy(hidden, model.head_weight, batch["targets"], model.matmul)
        return {"loss": loss, "correct": correct}

    def metrics(self, sums: dict[str, float], counts: dict[str, int]) -> dict[str, float]:
        """Mean loss, token accuracy, and bits per byte where the targets stand for any text."""
        nats, tokens = sums["loss"], max(counts["loss"], 1)
        figures = {"loss": nats / tokens, "accuracy": sums["correct"] / tokens}
        if counts["bytes"]:
            figures["bits_per_byte"] = nats / 0.6931471805599453 / counts["bytes"]
        return figures


class ModelWithObjective(nn.Module):
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
