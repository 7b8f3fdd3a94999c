"""Cross-entropy of a vocabulary, without ever holding all logits.

Hidden states, the vocabulary's matrix and targets come in; the summed loss and the count of right predictions go out.
Logits of a few hundred rows at a time stay in the processor's cache, and their gradient is made on the spot, where the
usual way writes and reads all logits about eight times: at 8,000 tokens that is more than half of the head's time, and
on any device most of a small model's memory. The sums are those of ``torch.nn.functional.cross_entropy``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from penna.data.batches import IGNORED
from penna.model.linear import Matmul, grad_of_input, grad_of_weight, linear

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
            due = y != IGNORED
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
        due = (targets != IGNORED).nonzero()[:, 0]
        if 0 < len(due) < len(targets):  # padding and prompts need no logits
            hidden, targets = hidden.index_select(0, due), targets[due]
    return _CrossEntropy.apply(hidden, weight, targets, matmul)  # type: ignore[no-any-return]
