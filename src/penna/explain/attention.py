"""Attention weights as maps, and as attribution scores: raw attention and rollout.

Attention is not importance: a head without anything to do attends to the first token, and an attended value may carry
no information (Jain and Wallace 2019, "Attention is not Explanation"). The scores serve as a comparison for methods
that change the input and measure the effect. Shapes: L blocks, H heads, T tokens.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from penna.explain.explanation import Method, Scores
from penna.explain.probe import Label, Probe, Question


def attention_maps(probe: Probe) -> Tensor:
    """The attention of each token (second to last axis) to each (last axis): (L, H, T, T), rows sum to 1."""
    return torch.stack(list(_maps(probe)))


def attention_scores(probe: Probe) -> Scores:
    """The attention of the positions that the answer is read from to each token, averaged over layers and heads.

    ``about`` reports the share that goes to tokens outside of the question, such as a start token.
    """
    rows = [maps.mean(0)[_answer_positions(probe.question)].mean(0) for maps in _maps(probe)]
    return mixing_scores("attention", probe.question, torch.stack(rows).mean(0))


def rollout(probe: Probe) -> Scores:
    """Attention multiplied through the layers (Abnar and Zuidema 2020, "Quantifying Attention Flow in Transformers").

    Heads are averaged, and half of each layer is the residual connection, an identity matrix (section 3).
    """
    identity = torch.eye(len(probe.question.ids), device=probe.ids.device)
    maps = torch.stack([(maps.mean(0) + identity) / 2 for maps in _maps(probe)])
    return mixing_scores("rollout", probe.question, rollout_of_maps(maps, probe.question))


def first_token_share(maps: Tensor) -> Tensor:
    """The mean attention of all later tokens to the first one: (L, H, T, T) -> (L, H).

    A single token attends to itself: 1.
    """
    return maps[:, :, min(1, maps.shape[2] - 1) :, 0].mean(-1)


def rollout_of_maps(maps: Tensor, question: Question) -> Tensor:
    """The share of each token in the positions that the answer is read from, if each layer mixes tokens by its map.

    (L, T, T) -> (T,): the mean of the answer's rows in the product of all maps, the last layer's on the left.
    """
    shares = maps.new_zeros(maps.shape[-1])
    shares[_answer_positions(question)] = 1.0
    shares /= shares.sum()
    for layer in maps.flip(0):
        shares = shares @ layer
    return shares


def mixing_scores(method: Method, question: Question, shares: Tensor) -> Scores:
    """The scores of a method that measures the share of each token (T,) in what the answer is read from."""
    values = shares[question.first : question.end]
    positions = _answer_positions(question)
    about = {"places": positions.stop - positions.start, "elsewhere": float(shares.sum() - values.sum())}
    return Scores(method, tuple(values.tolist()), about)


def _answer_positions(question: Question) -> slice:
    """The positions whose last states the answer is read from."""
    target = question.target
    if isinstance(target, Label) and target.pooling == "mean":
        return slice(0, len(question.ids))
    return slice(len(question.ids) - target.last_positions, len(question.ids))


@torch.inference_mode()
def _maps(probe: Probe) -> Iterator[Tensor]:
    """The weights of each block, (H, T, T) in float32; one block at a time to save memory."""
    x = probe.add_positions(probe.embeddings())
    for layer in range(probe.n_layer):
        weights: list[Tensor] = []
        x = probe.run_blocks(x, layer, layer + 1, weights)
        yield weights[0][0].float()
