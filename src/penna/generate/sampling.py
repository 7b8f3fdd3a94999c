"""From logits to the next tokens of many texts: what is cut off, and how one is drawn.

A draw depends on (seed, position) alone and never on the batch: a counter-based generator makes one uniform number, and
the token is where it falls in the cumulative distribution, in the order of the ids. Texts of equal settings are drawn
together, as rows of one tensor.

Large vocabularies are not sorted where it can be helped. On a CPU the few likeliest tokens are ordered first, and they
are enough where the limits fall among them; else all tokens are, with the same result. Numpy sorts there, and finds the
likeliest token, many times as fast as torch. On a GPU, sorting costs less than asking whether it is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from penna.config.generation import GenerationConfig
from penna.generate.logits_processors import process_logits
from penna.generate.sequence import Limits, SequenceState

_MASK = (1 << 64) - 1
_FEW = 1024  # the likeliest tokens, which mostly hold all that a limit leaves
_MANY = 8 * _FEW  # tokens from which on taking a few costs less than sorting all


def choose(logits: Tensor, texts: Sequence[SequenceState]) -> list[int]:
    """The ids of the next tokens of B texts, from logits (B, vocab_size).

    Each row has at least one logit above -inf. Of equally likely tokens greedy takes the first. A GPU is waited for
    once.
    """
    logits = process_logits(logits, texts)
    groups: dict[Limits | None, list[int]] = {}
    for row, text in enumerate(texts):
        groups.setdefault(text.limits, []).append(row)
    if len(groups) == 1:
        return _chosen(logits, texts[0].limits, texts).tolist()
    chosen = torch.empty(len(texts), dtype=torch.int64, device=logits.device)
    for limits, numbers in groups.items():
        rows = torch.tensor(numbers, device=logits.device)
        chosen[rows] = _chosen(logits[rows], limits, [texts[number] for number in numbers])
    return chosen.tolist()


def token_probabilities(logits: Tensor, config: GenerationConfig) -> Tensor:
    """The distribution that is drawn from: (..., vocab_size) logits -> float64 probabilities.

    In the order of ``transformers``: temperature; top-k (Fan et al. 2018), where ties at the k-th place all stay; top-p
    (Holtzman et al. 2020), where of ties at the border the first ids stay; min-p (Nguyen et al. 2024); locally typical
    (Meister et al. 2022), where ties stay. Each works on what the ones before it left. At temperature 0 the likeliest
    token has it all. For the strategies "greedy" and "sample".
    """
    limits = Limits.of(config)
    rows = logits.reshape(-1, logits.shape[-1])
    probabilities = rows.new_zeros(rows.shape, dtype=torch.float64)
    if limits is None:
        return probabilities.scatter_(-1, rows.argmax(dim=-1, keepdim=True), 1.0).view(logits.shape)
    weights, ids = _weights(rows, limits)
    weights = weights / weights.sum(dim=-1, keepdim=True)
    return (weights if ids is None else probabilities.scatter_(-1, ids, weights)).view(logits.shape)


def uniform(seed: int, position: int) -> float:
    """A number in [0, 1) that depends on its arguments alone: splitmix64 (Steele et al. 2014) as a counter."""
    x = _mix(_mix(seed & _MASK) ^ (position * 0x9E3779B97F4A7C15 & _MASK))
    return (x >> 11) / (1 << 53)


def _mix(x: int) -> int:
    x = (x + 0x9E3779B97F4A7C15) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


def _chosen(logits: Tensor, limits: Limits | None, texts: Sequence[SequenceState]) -> Tensor:
    """The next tokens (B,) of texts that have the same limits."""
    if limits is None:
        return _likeliest(logits)
    weights, ids = _weights(logits, limits)
    cumulative = weights.cumsum(dim=-1)  # (B, N)
    shares = [[uniform(text.seed, len(text.generated))] for text in texts]
    drawn = (
        cumulative.new_tensor(shares) * cumulative[:, -1:]
    )  # (B, 1), each below its whole: a share is at most 1-2^-53
    place = torch.searchsorted(cumulative, drawn, right=True)
    place = place.clamp_(max=weights.shape[-1] - 1)  # logits that are not numbers lead nowhere
    return (place if ids is None else ids.gather(-1, place)).squeeze(-1)


def _weights(logits: Tensor, limits: Limits) -> tuple[Tensor, Tensor | None]:
    """What each token weighs in the draw, (B, N) in float64, the heaviest 1; and the tokens' ids in ascending order.

    Ids are (B, N), or None where N is the vocabulary.
    """
    ids = None
    if limits.top_k is not None and limits.top_k < logits.shape[-1]:
        logits, ids = _top_k(logits, limits.top_k)
    weights = logits.double()
    weights = weights - weights.amax(dim=-1, keepdim=True)  # at most 0, so that a tiny temperature cannot overflow
    if limits.temperature != 1:
        weights /= limits.temperature
    weights.exp_()
    if limits.top_p is not None:
        weights = _top_p(weights, limits.top_p)
    if limits.min_p is not None:
        weights = weights.masked_fill(weights < limits.min_p, 0.0)
    if limits.typical_p is not None:
        weights = _typical(weights, limits.typical_p)
    return weights, ids


def _top_k(logits: Tensor, top_k: int) -> tuple[Tensor, Tensor | None]:
    """The top_k largest logits and their ids, ascending; or all, the others as -inf, where ties are to stay."""
    if logits.shape[-1] > _MANY and top_k <= _FEW and _is_quick_to_ask(logits):
        largest, ids = logits.topk(top_k + 1, dim=-1)
        least, next_one = largest[:, -2], largest[:, -1]
        if bool(((least > next_one) | next_one.isneginf()).all()):
            ids = ids[:, :-1].sort(dim=-1).values
            return logits.gather(-1, ids), ids
    least = logits.topk(top_k, dim=-1).values[:, -1:]
    return logits.masked_fill(logits < least, -torch.inf), None


def _top_p(weights: Tensor, share: float) -> Tensor:
    """Weights (B, N) of the tokens before which, among the heavier ones, the share is not reached yet."""
    goal = weights.sum(dim=-1, keepdim=True) * share
    ordered = _heaviest(weights, _few_of(weights))
    cumulative = ordered.cumsum(dim=-1)
    if ordered.shape[-1] < weights.shape[-1] and not bool((cumulative[:, -1:] >= goal).all()):
        ordered = _heaviest(weights, weights.shape[-1])
        cumulative = ordered.cumsum(dim=-1)
    kept = (cumulative[:, :-1] < goal).sum(dim=-1, keepdim=True) + 1  # (B, 1)
    lightest = ordered.gather(-1, kept - 1)
    stays = weights >= lightest
    if not _is_quick_to_ask(weights) or bool((stays.sum(dim=-1, keepdim=True) > kept).any()):
        ties = weights == lightest
        room = kept - (ordered > lightest).sum(dim=-1, keepdim=True)
        stays = stays & ~(ties & (ties.cumsum(dim=-1) > room))
    return weights.masked_fill(~stays, 0.0)


def _typical(weights: Tensor, share: float) -> Tensor:
    """Weights (B, N) of the tokens whose surprise is closest to the expected one, until they make up a share."""
    probabilities = weights / weights.sum(dim=-1, keepdim=True)
    entropy = torch.special.entr(probabilities).sum(dim=-1, keepdim=True)
    unusual = (probabilities.log() + entropy).abs()  # inf where a token is out already
    order = _smallest(unusual, _few_of(unusual))
    reached = probabilities.gather(-1, order).cumsum(dim=-1) >= share
    if order.shape[-1] < weights.shape[-1] and not bool(reached[:, -1].all()):
        order = _smallest(unusual, unusual.shape[-1])
        reached = probabilities.gather(-1, order).cumsum(dim=-1) >= share
    last = (~reached).sum(dim=-1, keepdim=True).clamp_(max=order.shape[-1] - 1)
    return weights.masked_fill(unusual > unusual.gather(-1, order.gather(-1, last)), 0.0)


def _is_quick_to_ask(values: Tensor) -> bool:
    """Whether a look at values costs next to nothing, rather than a wait for the device."""
    return values.device.type == "cpu"


def _few_of(values: Tensor) -> int:
    """How many of the last dimension's values to order first."""
    size = values.shape[-1]
    return _FEW if size > _MANY and _is_quick_to_ask(values) else size


def _likeliest(logits: Tensor) -> Tensor:
    """The places of the largest of each row (B,), of equal ones the first."""
    if not _is_quick_to_ask(logits):
        return logits.argmax(dim=-1)
    return torch.from_numpy(logits.detach().numpy().argmax(axis=-1))


def _heaviest(weights: Tensor, count: int) -> Tensor:
    """The largest weights of each row in falling order, (B, count)."""
    if not _is_quick_to_ask(weights):
        return weights.sort(dim=-1, descending=True).values[:, :count]
    values = weights.detach().numpy()
    if count < values.shape[-1]:
        values = np.partition(values, -count, axis=-1)[:, -count:]
    return torch.from_numpy(np.sort(values, axis=-1)[:, ::-1].copy())


def _smallest(values: Tensor, count: int) -> Tensor:
    """The places of the smallest values of each row in rising order, (B, count)."""
    if count < values.shape[-1]:
        return values.topk(count, dim=-1, largest=False).indices
    if not _is_quick_to_ask(values):
        return values.argsort(dim=-1)
    return torch.from_numpy(np.argsort(values.detach().numpy(), axis=-1))


# MERGED generate.likelihood: What the model itself thinks of tokens, before any setting changed it: logits and ids
# in, log-probabilities and ranks
# out.


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
