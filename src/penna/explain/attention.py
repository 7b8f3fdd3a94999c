"""Attention weights, as maps and as scores: where each head looks, and what that comes to over all layers.

A probe in; the weights of every head, or a score for each token out. What is looked at need not matter: a head that has
nothing to do looks at the first token, and a value that is looked at may say nothing (Jain and Wallace 2019, "Attention
is not Explanation"). The scores are here to be held against methods that change the input and see what happens. Shapes:
L blocks, H heads, T tokens.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from penna.explain.explanation import Method, Scores
from penna.explain.probe import Label, Probe, Question


def attention_maps(probe: Probe) -> Tensor:
    """How much each token (second to last axis) looks at each (last axis): (L, H, T, T), every row a distribution."""
    return torch.stack(list(_maps(probe)))


def attention_scores(probe: Probe) -> Scores:
    """How much the places that the answer is read from look at each token, the mean over layers and heads.

    ``about`` tells what share of it goes to tokens that are not asked about, such as a start token.
    """
    looks = torch.stack([maps.mean(0)[_last(probe.question)].mean(0) for maps in _maps(probe)]).mean(0)  # (T,)
    return mixing_scores("attention", probe.question, looks)


def rollout(probe: Probe) -> Scores:
    """Attention followed through the layers (Abnar and Zuidema 2020, "Quantifying Attention Flow in Transformers").

    Heads are averaged, and half of each layer is the residual, which keeps a token where it is (section 3).
    """
    same = torch.eye(len(probe.question.ids), device=probe.ids.device)
    maps = torch.stack([(maps.mean(0) + same) / 2 for maps in _maps(probe)])
    return mixing_scores("rollout", probe.question, rollout_of_maps(maps, probe.question))


def first_token_share(maps: Tensor) -> Tensor:
    """The share of its attention that a token gives to the first one, the mean over all others: (L, H, T, T) -> (L, H).

    A token that stands alone looks at itself: 1.
    """
    return maps[:, :, min(1, maps.shape[2] - 1) :, 0].mean(-1)


def rollout_of_maps(maps: Tensor, question: Question) -> Tensor:
    """How much of each token is in what the answer is read from, if each layer mixes tokens as its map says:
    (L, T, T) -> (T,), the mean of the answer's rows of the product of all maps, the last layer's on the left."""
    looks = maps.new_zeros(maps.shape[-1])
    looks[_last(question)] = 1.0
    looks /= looks.sum()
    for layer in maps.flip(0):
        looks = looks @ layer
    return looks


def mixing_scores(method: Method, question: Question, shares: Tensor) -> Scores:
    """The scores of a method that says what share each token (T,) has in what the answer is read from."""
    values = shares[question.first : question.end]
    about = {"places": _last(question).stop - _last(question).start, "elsewhere": float(shares.sum() - values.sum())}
    return Scores(method, tuple(values.tolist()), about)


def _last(question: Question) -> slice:
    """The places whose last states the answer is read from."""
    target = question.target
    if isinstance(target, Label) and target.pooling == "mean":
        return slice(0, len(question.ids))
    return slice(len(question.ids) - target.last_positions, len(question.ids))


@torch.inference_mode()
def _maps(probe: Probe) -> Iterator[Tensor]:
    """The weights of each block, (H, T, T) in float32; one block's at a time, for all may take much memory."""
    x = probe.add_positions(probe.embeddings())
    for layer in range(probe.n_layer):
        weights: list[Tensor] = []
        x = probe.run_blocks(x, layer, layer + 1, weights)
        yield weights[0][0].float()
