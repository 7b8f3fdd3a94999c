"""Gradient attributions: how the question's value depends on the input embeddings.

Gradient times input is the first-order estimate of what an embedding adds to the value (Shrikumar et al. 2016, "Not
Just a Black Box"). Integrated gradients follow the value from a baseline to the input (Sundararajan et al. 2017,
"Axiomatic Attribution for Deep Networks", equation 1), so that the scores sum to the change of the value. Scores are
signed, in nats. Positions stay where they are, and so do tokens outside of the question.

A model that adds no positions and normalizes its input hardly depends on the length of an embedding. For such a model
gradient times input is almost zero, and from a baseline of zeros all change happens so close to the baseline that no
quadrature rule finds it; use the mean embedding as the baseline. Shapes: T tokens, C n_embd, S steps.
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

STEPS = 32  # initial number of gradients along the path
MOST_STEPS = 256
TOLERANCE = 0.02  # the largest gap that counts as converged, as a share of the change of the value
_MIN_GAP = 1e-3  # nats: a smaller gap always counts as converged


def gradient_x_input(probe: Probe) -> Scores:
    """The gradient of the value with respect to each token's embedding, times that embedding."""
    embeddings = probe.embeddings()  # (1, T, C)
    scores = (_gradients(probe, embeddings) * embeddings).sum(dim=-1)[0]  # (T,)
    return Scores("gradient-x-input", _feature_scores(probe, scores))


def integrated_gradients(
    probe: Probe, *, baseline: Baseline = "mean", steps: int = STEPS, most_steps: int = MOST_STEPS
) -> Scores:
    """Gradients along the straight path from a baseline, times that path.

    In the baseline, the explained tokens are embedded as ``zero`` or as the ``mean`` of the vocabulary's embeddings.
    The integral uses Gauss-Legendre quadrature with ``steps`` gradients, doubled until the scores sum to the difference
    of the values at both ends up to 2 %, or until ``most_steps``. ``about`` reports what is missing as ``gap``.
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
        converged = abs(gap) <= max(TOLERANCE * abs(difference), _MIN_GAP)
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
    return Scores("integrated-gradients", _feature_scores(probe, scores), about)


def _integral(probe: Probe, start: Tensor, end: Tensor, steps: int) -> Tensor:
    """Each token's share of the change of the value from ``start`` to ``end``, both (1, T, C): (T,) in float64.

    The path is t² for t from 0 to 1: steps are shortest near the baseline, where the value changes most.
    """
    nodes, weights = np.polynomial.legendre.leggauss(steps)  # on -1 to 1
    times = (nodes + 1) / 2
    fractions, weights = torch.from_numpy(times**2).to(end), torch.from_numpy(times * weights)  # d(t²) = 2t dt
    path = end - start
    total = torch.zeros(end.shape[1], dtype=torch.float64)
    rows = probe.batch_rows(end.shape[1])
    for some, counts in zip(fractions.split(rows), weights.split(rows), strict=True):
        gradients = _gradients(probe, start + some[:, None, None] * path)  # (S, T, C)
        total += counts @ (gradients * path).sum(dim=-1).double().cpu()
    return total


def _gradients(probe: Probe, embeddings: Tensor) -> Tensor:
    """The gradient of each row's value with respect to its embeddings: (B, T, C) -> (B, T, C)."""
    embeddings = embeddings.detach().requires_grad_(True)
    with torch.enable_grad():
        return torch.autograd.grad(probe.value(embeddings).sum(), embeddings)[0]


def _feature_scores(probe: Probe, scores: Tensor) -> tuple[float, ...]:
    return tuple(scores[probe.question.first : probe.question.end].tolist())
