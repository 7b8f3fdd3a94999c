"""MAUVE: how close the distribution of generated texts is to that of human texts, from 0 to 1.

Pillutla et al. 2021 ("MAUVE: Measuring the Gap Between Neural Text and Human Text using Divergence Frontiers", sections
2 and 3): both sets of feature vectors are clustered together, and the two histograms over the clusters are compared
through all their mixtures. Text that no human would produce costs on one axis, human text that is never generated on
the other; MAUVE is the area under the curve between them.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penna.errors import DataError
from penna.evaluate.texts.clustering import Vectors, k_means, principal_components

SCALE = 5.0  # c of the paper, section 3
_MIXTURES = 25
_VARIANCE = 0.9  # kept by the principal components
_TEXTS_PER_CLUSTER = 10  # of each set

Histogram = NDArray[np.float64]


@dataclass(frozen=True)
class Mauve:
    """The score, from 0 to 1, and the score of smoothed histograms."""

    score: float
    smoothed: float  # MAUVE* of Pillutla et al. 2023 (JMLR), section 4: less biased with few texts
    clusters: int


def mauve(human: Vectors, generated: Vectors, *, seed: int = 0) -> Mauve | None:
    """MAUVE of feature vectors (N, C) and (M, C); None if a side has fewer than two texts.

    Vectors are normalized, projected on the principal components that keep 90 % of their variance, and clustered into a
    tenth as many clusters as the smaller set has texts. The paper uses 5,000 texts a side; with a few hundred the
    clusters are few and the score is high and noisy, so compare sets of equal size only.
    """
    fewer = min(len(human), len(generated))
    if fewer < 2:
        return None
    both = np.concatenate([human, generated]).astype(np.float64)
    both /= np.maximum(np.linalg.norm(both, axis=1, keepdims=True), 1e-12)
    clusters = max(2, round(fewer / _TEXTS_PER_CLUSTER))
    labels = k_means(principal_components(both, _VARIANCE), clusters, seed=seed)
    counts = [np.bincount(part, minlength=clusters) for part in (labels[: len(human)], labels[len(human) :])]
    score = divergence_area(*(count / count.sum() for count in counts))
    smoothed = divergence_area(*((count + 0.5) / (count + 0.5).sum() for count in counts))
    return Mauve(score, smoothed, clusters)


def divergence_area(p: Histogram, q: Histogram, *, scale: float = SCALE) -> float:
    """The area under the divergence curve of two histograms, from 0 (nothing in common) to 1 (equal).

    The curve (equation 2) consists of (exp(-c KL(q|r)), exp(-c KL(p|r))) for mixtures r = w p + (1 - w) q with 25
    weights between 0 and 1, and ends on both axes at 1. It is integrated by trapezoids along either axis, and the mean
    of both is returned, because steep ends make them differ.
    """
    weights = np.linspace(1e-6, 1 - 1e-6, _MIXTURES)
    mixtures = weights[:, None] * p + (1 - weights[:, None]) * q
    x = np.exp(-scale * np.array([_kl(q, mixture) for mixture in mixtures]))
    y = np.exp(-scale * np.array([_kl(p, mixture) for mixture in mixtures]))
    x, y = np.concatenate([[1.0], x, [0.0]]), np.concatenate([[0.0], y, [1.0]])
    by_x, by_y = np.lexsort((-y, x)), np.lexsort((-x, y))  # the curve falls: of points above each other the upper first
    return (_area(x[by_x], y[by_x]) + _area(y[by_y], x[by_y])) / 2


def _area(x: Histogram, y: Histogram) -> float:
    """The area below points of rising x, by trapezoids."""
    return float((np.diff(x) * (y[1:] + y[:-1])).sum() / 2)


def _kl(p: Histogram, q: Histogram) -> float:
    """KL(p|q) in nats; q is positive wherever p is."""
    support = p > 0
    return max(float((p[support] * np.log(p[support] / q[support])).sum()), 0.0)  # rounding may give a tiny negative


def package_mauve(human: Vectors, generated: Vectors, *, seed: int = 0) -> Mauve | None:
    """MAUVE of feature vectors (N, C) and (M, C) by the authors' package ``mauve-text`` with its own defaults.

    None if a side has fewer than two texts. It clusters with faiss, which draws other initial centers, so the score
    differs slightly from `mauve`; for equal histograms both give the same.
    """
    if min(len(human), len(generated)) < 2:
        return None
    found = load_mauve_package().compute_mauve(p_features=human, q_features=generated, seed=seed, verbose=False)
    return Mauve(float(found.mauve), float(found.mauve_star), int(found.num_buckets))


def load_mauve_package() -> Any:
    """The package ``mauve-text``. Raises DataError if it is not installed."""
    try:
        return importlib.import_module("mauve")
    except ImportError as error:
        raise DataError(
            f"The package mauve-text cannot be loaded: {error}.",
            "--mauve-text needs it.",
            "Install it (pip install 'penna[lab]'), or omit the option to use Penna's own MAUVE.",
        ) from error
