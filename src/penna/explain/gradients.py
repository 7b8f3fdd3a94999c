"""Attribution by gradients: how the question's value answers to the embeddings of what was read.

A probe comes in, a signed score in nats for each token that may have mattered comes out. Gradient times input is the
first-order guess at what an embedding adds to the value (Shrikumar et al. 2016, "Not Just a Black Box"). Integrated
gradients follow the value from a baseline to the text (Sundararajan et al. 2017, "Axiomatic Attribution for Deep
Networks", equation 1), so that the scores add up to how far it moved. Positions stay where they are, and so do tokens
that are not asked about.

A model that adds no positions and normalises whatever it reads hardly sees how long an embedding is. Of such a model
gradient times input is next to nothing, and on the way to a baseline of zeros all happens within so short a stretch in
front of it that no rule finds it; the mean embedding serves as well as anywhere. Shapes: T tokens, C n_embd, S steps.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from penna.explain.explanation import Scores
from penna.explain.probe import Probe

Baseline = Literal["zero", "mean"]
BASELINES: tuple[Baseline, ...] = get_args(Baseline)

STEPS = 32  # gradients along the path to begin with
MOST_STEPS = 256
TOLERANCE = 0.02  # of how far the value moves: the gap at which there are steps enough
_LEAST_GAP = 1e-3  # nats: a gap below which there are, however little the value moves


def gradient_x_input(probe: Probe) -> Scores:
    """The gradient of the value by each token's embedding, times that embedding."""
    embeddings = probe.embeddings()  # (1, T, C)
    scores = (_gradients(probe, embeddings) * embeddings).sum(dim=-1)[0]  # (T,)
    return Scores("gradient-x-input", _of_features(probe, scores))


def integrated_gradients(
    probe: Probe, *, baseline: Baseline = "mean", steps: int = STEPS, most_steps: int = MOST_STEPS
) -> Scores:
    """Gradients along the straight way from a baseline, times that way.

    At the baseline the tokens asked about are embedded as ``zero``, or as the ``mean`` of the vocabulary's embeddings.
    The integral is taken by Gauss and Legendre's rule with ``steps`` gradients, doubled until the scores add up to the
    difference of the values at both ends to 2 % of it, or ``most_steps`` are taken. What is missing is told as ``gap``.
    """
    embeddings = probe.embeddings()  # (1, T, C)
    features = slice(probe.question.first, probe.question.end)
    start = embeddings.clone()
    start[:, features] = 0.0 if baseline == "zero" else probe.model.wte.weight.mean(dim=0)
    at_start, at_end = probe.values(torch.cat((start, embeddings))).tolist()
    difference = at_end - at_start
    while True:
        scores = _integral(probe, start, embeddings, steps)
        gap = float(scores.sum()) - difference
        converged = abs(gap) <= max(TOLERANCE * abs(difference), _LEAST_GAP)
        if converged or steps >= most_steps:
            break
        steps = min(2 * steps, most_steps)
    about = {
        "baseline": baseline,
        "steps": steps,
        "value": at_end,
        "baseline_value": at_start,
        "gap": gap,
        "converged": converged,
    }
    return Scores("integrated-gradients", _of_features(probe, scores), about)


def _integral(probe: Probe, start: Tensor, end: Tensor, steps: int) -> Tensor:
    """Each token's share of the value's way from ``start`` to ``end``, both (1, T, C): (T,), in float64.

    Of the rule's times t on 0 to 1, t² of the way is gone: steps are shortest near the baseline, where most happens.
    """
    nodes, weights = np.polynomial.legendre.leggauss(steps)  # on -1 to 1
    times = (nodes + 1) / 2
    places, weights = torch.from_numpy(times**2).to(end), torch.from_numpy(times * weights)  # d(t²) = 2t dt
    way = end - start
    total = torch.zeros(end.shape[1], dtype=torch.float64)
    at_once = probe.batch_rows(end.shape[1])
    for some, counts in zip(places.split(at_once), weights.split(at_once), strict=True):
        gradients = _gradients(probe, start + some[:, None, None] * way)  # (S, T, C)
        total += counts @ (gradients * way).sum(dim=-1).double().cpu()
    return total


def _gradients(probe: Probe, embeddings: Tensor) -> Tensor:
    """Of each row's value by what is embedded: (B, T, C) -> (B, T, C)."""
    embeddings = embeddings.detach().requires_grad_(True)
    with torch.enable_grad():
        return torch.autograd.grad(probe.value(embeddings).sum(), embeddings)[0]


def _of_features(probe: Probe, scores: Tensor) -> tuple[float, ...]:
    return tuple(scores[probe.question.first : probe.question.end].tolist())
