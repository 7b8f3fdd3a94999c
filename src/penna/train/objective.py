"""Objectives: how a batch is scored, as sums and counts.

An objective gives ``counts`` of a batch without a model, and ``sums`` with one. The trainer adds up the counts over the
accumulation window and all ranks first, then minimizes sum(weight * sum / count). So accumulation equals a larger
batch, many ranks equal one, and a batch whose targets are all masked adds zero.

Shapes: B rows, T tokens, C n_embd, V vocabulary.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from penna.data.batches import IGNORE_INDEX, Batch
from penna.model.cache import EncoderCache
from penna.model.gpt import GPT
from penna.model.linear import Matmul, grad_of_input, grad_of_weight, linear
from penna.model.seq2seq import Seq2Seq
from penna.tokenizer.tokenizer import Tokenizer

_LOGITS_PER_CHUNK = 1 << 22  # 16 MB, which stays in the processor's cache
_MIN_ROWS = 512  # with fewer rows, matrix products lose more than the cache gains


class Objective(Protocol):
    """What a task minimizes and measures."""

    weights: dict[str, float]  # the terms of the loss; other terms are only measured

    def counts(self, batch: Batch) -> dict[str, int]:
        """The divisor of each term's sum, ``tokens`` for the log, and other counts that ``metrics`` needs."""
        ...

    def sums(self, model: GPT, batch: Batch) -> dict[str, Tensor]:
        """Each term summed over the batch, as a scalar tensor; those with a weight carry gradients."""
        ...

    def metrics(self, sums: dict[str, float], counts: dict[str, int]) -> dict[str, float]:
        """The metrics to log, ``loss`` among them, from the sums and counts of any number of batches."""
        ...


def weighted_loss(objective: Objective, sums: dict[str, Tensor], counts: dict[str, int]) -> Tensor:
    """The loss: each term's weighted sum divided by its count. A count of zero adds zero."""
    terms = [weight * sums[term] / max(counts[term], 1) for term, weight in objective.weights.items()]
    return torch.stack([term.float() for term in terms]).sum()


class ModelWithObjective(nn.Module):
    """A model and its objective as one module, so that DDP and the compiler see the whole computation."""

    def __init__(self, model: GPT, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self._objective = objective

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The objective's sums of a batch."""
        return self._objective.sums(self.model, batch)


class NextTokenObjective:
    """Cross-entropy of every target token in nats, with token accuracy and bits per byte.

    ``token_bytes`` (V,) holds the bytes of text of each token. A separator has none, but its loss counts.
    """

    weights = {"loss": 1.0}  # noqa: RUF012 - the protocol's plain attribute

    def __init__(self, token_bytes: Tensor) -> None:
        self._token_bytes = token_bytes

    def counts(self, batch: Batch) -> dict[str, int]:
        """The target tokens and their bytes of text."""
        targets = batch["targets"]
        targets = targets[targets != IGNORE_INDEX].cpu()
        count, byte_count = targets.numel(), round(self._token_bytes[targets].sum().item())
        return {"loss": count, "correct": count, "tokens": count, "bytes": byte_count}

    def sums(self, model: GPT, batch: Batch) -> dict[str, Tensor]:
        """The nats of all targets, and how many of them were predicted as the most likely token."""
        hidden = model.hidden(batch["ids"], encoder_cache=encode_source(model, batch))  # (B, T, C)
        loss, correct = cross_entropy(hidden, model.head_weight, batch["targets"], model.matmul)
        return {"loss": loss, "correct": correct}

    def metrics(self, sums: dict[str, float], counts: dict[str, int]) -> dict[str, float]:
        """Mean loss, token accuracy and, if the targets have bytes of text, bits per byte."""
        nats, tokens = sums["loss"], max(counts["loss"], 1)
        metrics = {"loss": nats / tokens, "accuracy": sums["correct"] / tokens}
        if counts["bytes"]:
            metrics["bits_per_byte"] = nats / math.log(2) / counts["bytes"]
        return metrics


def encode_source(model: GPT, batch: Batch) -> EncoderCache | None:
    """The encoder's output for the batch's sources (B, S) and their lengths (B,); None without an encoder."""
    return model.encode(batch["source"], batch["source_lengths"]) if isinstance(model, Seq2Seq) else None


def token_byte_counts(tokenizer: Tokenizer) -> Tensor:
    """The bytes of text of each token: (V,).

    All are zero if the tokenizer is lossy: the text of some tokens of a record is then unknown, and bits per byte
    are not reported.
    """
    if tokenizer.lossless:
        return torch.tensor([len(token) for token in tokenizer.token_bytes()])
    return torch.zeros(tokenizer.vocab_size, dtype=torch.int64)


def cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor, matmul: Matmul) -> tuple[Tensor, Tensor]:
    """The summed cross-entropy in nats, and how many targets were the most likely token.

    ``hidden`` (..., C), ``weight`` (V, C), ``targets`` (...) with -100 for no target. The sums are float32 for any
    precision of the products, and equal those of ``torch.nn.functional.cross_entropy``. But all logits never exist at
    once: chunks of a few hundred rows stay in the processor's cache, and their gradient is computed in place. PyTorch's
    own function reads and writes all logits about eight times: at 8,000 tokens that is more than half of the head's
    time, and on any device most of a small model's memory.
    """
    hidden, targets = hidden.flatten(0, -2), targets.flatten()
    if hidden.device.type == "cpu":  # on other devices, counting the targets would wait for the device
        rows = (targets != IGNORE_INDEX).nonzero()[:, 0]
        if 0 < len(rows) < len(targets):  # padding and prompts need no logits
            hidden, targets = hidden.index_select(0, rows), targets[rows]
    return _CrossEntropy.apply(hidden, weight, targets, matmul)  # type: ignore[no-any-return]


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, matmul: Matmul) -> tuple[Tensor, Tensor]:
        needs_grad = any(ctx.needs_input_grad[:2])
        loss = torch.zeros((), dtype=torch.float64, device=hidden.device)
        correct = torch.zeros((), dtype=torch.int64, device=hidden.device)
        grad_hidden = torch.empty_like(hidden) if needs_grad else None
        grad_weight: Tensor | None = None
        rows = max(_MIN_ROWS, _LOGITS_PER_CHUNK // weight.shape[0])
        for x, y, start in zip(hidden.split(rows), targets.split(rows), range(0, len(hidden), rows), strict=True):
            logits = linear(x, weight, None, matmul)  # (rows, V), modified in place below
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            is_target = y != IGNORE_INDEX
            index = y.clamp(min=0)[:, None]
            top, most_likely = logits.max(dim=1, keepdim=True)
            target_logit = logits.gather(1, index)
            correct += ((most_likely == index)[:, 0] & is_target).sum()
            total = logits.sub_(top).exp_().sum(dim=1, keepdim=True)
            loss += ((total.log() + top - target_logit)[:, 0] * is_target).sum(dtype=torch.float64)
            if grad_hidden is not None:  # softmax minus one at the target
                logits.mul_(is_target[:, None] / total).scatter_add_(1, index, -is_target[:, None].to(logits.dtype))
                grad_hidden[start : start + rows] = grad_of_input(logits, weight, matmul)
                chunk = grad_of_weight(logits, x, matmul)
                grad_weight = chunk.to(weight.dtype) if grad_weight is None else grad_weight.add_(chunk)
        if grad_hidden is not None:
            ctx.save_for_backward(grad_hidden, grad_weight)
        ctx.mark_non_differentiable(correct)
        return loss.to(torch.promote_types(hidden.dtype, torch.float32)), correct

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        grad_hidden, grad_weight = ctx.saved_tensors
        return grad_hidden * grads[0], grad_weight * grads[0], None, None
