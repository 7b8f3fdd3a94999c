"""Choosing the next tokens of many sequences from logits, and their probabilities under the model.

A sample depends on (seed, position) alone and never on the batch: a counter-based generator makes one uniform number,
and the token is where it falls in the cumulative distribution, in the order of the ids. Sequences with equal settings
are sampled together, as rows of one tensor.

Large vocabularies are sorted only if necessary. On a CPU the likeliest tokens are sorted first, which is enough if the
filters cut among them; otherwise all tokens are, with the same result. Numpy sorts, and finds the likeliest token, many
times faster than torch there. On a GPU, sorting costs less than checking whether it is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from penna.config.generation import GenerationConfig
from penna.generate.logits_processors import process_logits
from penna.generate.sequence import SequenceState

_MASK = (1 << 64) - 1
_FEW = 1024  # likeliest tokens; they usually include all that a filter keeps
_MANY = 8 * _FEW  # vocabulary size from which selecting a few costs less than sorting all


def choose(logits: Tensor, texts: Sequence[SequenceState]) -> list[int]:
    """The ids of the next tokens of B sequences, from logits (B, vocab_size).

    Each row has at least one logit above -inf. If tokens are equally likely, greedy decoding takes the first. A GPU is
    synchronized once.
    """
    logits = process_logits(logits, texts)
    groups: dict[tuple[float | None, ...] | None, list[int]] = {}
    for row, text in enumerate(texts):
        groups.setdefault(text.sampling_key, []).append(row)
    if len(groups) == 1:
        return _chosen(logits, texts).tolist()
    chosen = torch.empty(len(texts), dtype=torch.int64, device=logits.device)
    for numbers in groups.values():
        rows = torch.tensor(numbers, device=logits.device)
        chosen[rows] = _chosen(logits[rows], [texts[number] for number in numbers])
    return chosen.tolist()


def token_probabilities(logits: Tensor, config: GenerationConfig) -> Tensor:
    """The distribution that is sampled from: (..., vocab_size) logits -> float64 probabilities.

    In the order of ``transformers``: temperature; top-k (Fan et al. 2018), which keeps all ties at the k-th place;
    top-p (Holtzman et al. 2020), which keeps the first ids of ties at the border; min-p (Nguyen et al. 2024); locally
    typical (Meister et al. 2022), which keeps ties. Each works on what the previous ones kept. At temperature 0 the
    likeliest token gets all probability. For the strategies "greedy" and "sample".
    """
    rows = logits.reshape(-1, logits.shape[-1])
    probabilities = rows.new_zeros(rows.shape, dtype=torch.float64)
    if config.is_greedy:
        return probabilities.scatter_(-1, rows.argmax(dim=-1, keepdim=True), 1.0).view(logits.shape)
    weights, ids = _weights(rows, config)
    weights = weights / weights.sum(dim=-1, keepdim=True)
    return (weights if ids is None else probabilities.scatter_(-1, ids, weights)).view(logits.shape)


def uniform(seed: int, position: int) -> float:
    """A number in [0, 1) that depends only on its arguments: splitmix64 (Steele et al. 2014) as a counter."""
    x = _mix(_mix(seed & _MASK) ^ (position * 0x9E3779B97F4A7C15 & _MASK))
    return (x >> 11) / (1 << 53)


def _mix(x: int) -> int:
    x = (x + 0x9E3779B97F4A7C15) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


def _chosen(logits: Tensor, texts: Sequence[SequenceState]) -> Tensor:
    """The next tokens (B,) of sequences with equal settings."""
    if texts[0].config.is_greedy:
        return _likeliest(logits)
    weights, ids = _weights(logits, texts[0].config)
    cumulative = weights.cumsum(dim=-1)  # (B, N)
    shares = [[uniform(text.seed, len(text.generated))] for text in texts]
    target_weight = (
        cumulative.new_tensor(shares) * cumulative[:, -1:]
    )  # (B, 1), each below its total: a uniform number is at most 1 - 2^-53
    place = torch.searchsorted(cumulative, target_weight, right=True)
    place = place.clamp_(max=weights.shape[-1] - 1)  # NaN logits give an index beyond the end
    return (place if ids is None else ids.gather(-1, place)).squeeze(-1)


def _weights(logits: Tensor, config: GenerationConfig) -> tuple[Tensor, Tensor | None]:
    """The weight of each token in the distribution, (B, N) in float64, the largest 1; and the token ids in ascending
    order.

    Ids are (B, N), or None if N is the vocabulary.
    """
    ids = None
    if config.top_k is not None and config.top_k < logits.shape[-1]:
        logits, ids = _top_k(logits, config.top_k)
    weights = logits.double()
    weights = weights - weights.amax(dim=-1, keepdim=True)  # at most 0, so that a small temperature cannot overflow
    if config.temperature != 1:
        weights /= config.temperature
    weights.exp_()
    if config.top_p is not None and config.top_p < 1:
        weights = _top_p(weights, config.top_p)
    if config.min_p is not None:
        weights = weights.masked_fill(weights < config.min_p, 0.0)
    if config.typical_p is not None and config.typical_p < 1:
        weights = _typical(weights, config.typical_p)
    return weights, ids


def _top_k(logits: Tensor, top_k: int) -> tuple[Tensor, Tensor | None]:
    """The top_k largest logits and their ids, ascending; or all logits, the others -inf, if ties must be kept."""
    if logits.shape[-1] > _MANY and top_k <= _FEW and _is_on_cpu(logits):
        largest, ids = logits.topk(top_k + 1, dim=-1)
        least, next_one = largest[:, -2], largest[:, -1]
        if bool(((least > next_one) | next_one.isneginf()).all()):
            ids = ids[:, :-1].sort(dim=-1).values
            return logits.gather(-1, ids), ids
    least = logits.topk(top_k, dim=-1).values[:, -1:]
    return logits.masked_fill(logits < least, -torch.inf), None


def _top_p(weights: Tensor, share: float) -> Tensor:
    """Keep the weights (B, N) of the heaviest tokens up to the share."""
    target = weights.sum(dim=-1, keepdim=True) * share
    ordered = _heaviest(weights, _few_of(weights))
    cumulative = ordered.cumsum(dim=-1)
    if ordered.shape[-1] < weights.shape[-1] and not bool((cumulative[:, -1:] >= target).all()):
        ordered = _heaviest(weights, weights.shape[-1])
        cumulative = ordered.cumsum(dim=-1)
    kept = (cumulative[:, :-1] < target).sum(dim=-1, keepdim=True) + 1  # (B, 1)
    lightest = ordered.gather(-1, kept - 1)
    stays = weights >= lightest
    if not _is_on_cpu(weights) or bool((stays.sum(dim=-1, keepdim=True) > kept).any()):
        ties = weights == lightest
        budget = kept - (ordered > lightest).sum(dim=-1, keepdim=True)
        stays = stays & ~(ties & (ties.cumsum(dim=-1) > budget))
    return weights.masked_fill(~stays, 0.0)


def _typical(weights: Tensor, share: float) -> Tensor:
    """Keep the weights (B, N) of the tokens whose surprisal is closest to the entropy, up to the share."""
    probabilities = weights / weights.sum(dim=-1, keepdim=True)
    entropy = torch.special.entr(probabilities).sum(dim=-1, keepdim=True)
    deviation = (probabilities.log() + entropy).abs()  # inf for excluded tokens
    order = _smallest(deviation, _few_of(deviation))
    reached = probabilities.gather(-1, order).cumsum(dim=-1) >= share
    if order.shape[-1] < weights.shape[-1] and not bool(reached[:, -1].all()):
        order = _smallest(deviation, deviation.shape[-1])
        reached = probabilities.gather(-1, order).cumsum(dim=-1) >= share
    last = (~reached).sum(dim=-1, keepdim=True).clamp_(max=order.shape[-1] - 1)
    return weights.masked_fill(deviation > deviation.gather(-1, order.gather(-1, last)), 0.0)


def _is_on_cpu(values: Tensor) -> bool:
    """Whether reading a value costs next to nothing, instead of waiting for the device."""
    return values.device.type == "cpu"


def _few_of(values: Tensor) -> int:
    """How many of the last dimension's values to sort first."""
    size = values.shape[-1]
    return _FEW if size > _MANY and _is_on_cpu(values) else size


def _likeliest(logits: Tensor) -> Tensor:
    """The index of the largest logit of each row (B,), the first one of ties."""
    if not _is_on_cpu(logits):
        return logits.argmax(dim=-1)
    return torch.from_numpy(logits.detach().numpy().argmax(axis=-1))


def _heaviest(weights: Tensor, count: int) -> Tensor:
    """The largest weights of each row in descending order, (B, count)."""
    if not _is_on_cpu(weights):
        return weights.sort(dim=-1, descending=True).values[:, :count]
    values = weights.detach().numpy()
    if count < values.shape[-1]:
        values = np.partition(values, -count, axis=-1)[:, -count:]
    return torch.from_numpy(np.sort(values, axis=-1)[:, ::-1].copy())


def _smallest(values: Tensor, count: int) -> Tensor:
    """The indices of the smallest values of each row in ascending order, (B, count)."""
    if count < values.shape[-1]:
        return values.topk(count, dim=-1, largest=False).indices
    if not _is_on_cpu(values):
        return values.argsort(dim=-1)
    return torch.from_numpy(np.argsort(values.detach().numpy(), axis=-1))


class Likelihood(NamedTuple):
    """The probability of a token under the model, before any setting changed it."""

    logprob: float  # natural logarithm of the probability
    rank: int  # 1 for the likeliest
    alternatives: tuple[tuple[int, float], ...]  # the likeliest tokens, as (id, logprob)


def likelihoods(logits: Tensor, ids: Sequence[int], top_n: Sequence[int]) -> list[Likelihood]:
    """The likelihoods of ids[r] in row r of float32 logits (R, vocab_size), with the ``top_n[r]`` likeliest tokens."""
    at = torch.tensor(ids, device=logits.device)[:, None]  # (R, 1)
    logprobs = logits.log_softmax(dim=1)
    likelier = torch.gt(logits, logits.gather(1, at), out=torch.empty_like(logits))  # float sums are faster
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
