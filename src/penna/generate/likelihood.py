"""What the model itself thinks of tokens, before any setting changed it: logits and ids in, log-probabilities and ranks
out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Likelihood(NamedTuple):
    """Of one token."""

    logprob: float  # natural logarithm of its probability
    rank: int  # 1 for the likeliest
    alternatives: tuple[tuple[int, float], ...]  # the likeliest tokens, as (id, logprob)


def likelihoods(logits: Tensor, ids: Sequence[int], top_n: Sequence[int]) -> list[Likelihood]:
    """Of ids[r] under row r of float32 logits (R, vocab_size), with the ``top_n[r]`` likeliest tokens."""
    at = torch.tensor(ids, device=logits.device)[:, None]  # (R, 1)
    logprobs = logits.log_softmax(dim=1)
    likelier = torch.gt(logits, logits.gather(1, at), out=torch.empty_like(logits))  # sums of floats are the quicker
    ranks = likelier.sum(dim=1, keepdim=True)
    found = torch.cat((logprobs.gather(1, at), ranks), dim=1).tolist()  # a rank is exact in float32, too
    most = max(top_n, default=0)
    if not most:
        return [Likelihood(logprob, int(rank) + 1, ()) for logprob, rank in found]
    best, best_ids = logprobs.topk(min(most, logits.shape[1]), dim=1)
    return [
        Likelihood(logprob, int(rank) + 1, tuple(zip(ids[:count], values[:count], strict=True)))
        for (logprob, rank), ids, values, count in zip(found, best_ids.tolist(), best.tolist(), top_n, strict=True)
    ]
