"""MAUVE: how near the distribution of written texts is to that of human texts. Feature vectors in, 0 to 1 out.

Pillutla et al. 2021 ("MAUVE: Measuring the Gap Between Neural Text and Human Text using Divergence Frontiers", sections
2 and 3): each text is a feature vector; both sets are clustered together, and the two histograms over the clusters are
compared by all their mixtures. A text that no human would write costs on one axis, human text that is never written on
the other; MAUVE is the area under the curve between.
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
_VARIANCE = 0.9  # that the principal components keep
_PER_CLUSTER = 10  # texts of each set for one cluster

Histogram = NDArray[np.float64]


@dataclass(frozen=True)
class Mauve:
    """The score, from 0 to 1, and the same with smoothed histograms."""

    score: float
    smoothed: float  # MAUVE* of Pillutla et al. 2023 (JMLR), section 4: less biased where texts are few
    clusters: int


def mauve(human: Vectors, written: Vectors, *, seed: int = 0) -> Mauve | None:
    """MAUVE of feature vectors (N, C) and (M, C); None below two texts on a side.

    Vectors are brought to length 1, turned to the principal components that keep 90 % of their variance, and clustered
    into a tenth as many clusters as the smaller set has texts. The paper takes 5,000 texts a side; with a few hundred
    the clusters are few and the score is high and noisy, so it compares only sets of one size.
    """
    fewer = min(len(human), len(written))
    if fewer < 2:
        return None
    both = np.concatenate([human, written]).astype(np.float64)
    both /= np.maximum(np.linalg.norm(both, axis=1, keepdims=True), 1e-12)
    clusters = max(2, round(fewer / _PER_CLUSTER))
    labels = k_means(principal_components(both, _VARIANCE), clusters, seed=seed)
    counts = [np.bincount(part, minlength=clusters) for part in (labels[: len(human)], labels[len(human) :])]
    score = divergence_area(*(count / count.sum() for count in counts))
    smoothed = divergence_area(*((count + 0.5) / (count + 0.5).sum() for count in counts))
    return Mauve(score, smoothed, clusters)


def divergence_area(p: Histogram, q: Histogram, *, scale: float = SCALE) -> float:
    """The area under the divergence curve of two histograms, from 0 (nothing in common) to 1 (the same).

    The curve (equation 2) runs through (exp(-c KL(q|r)), exp(-c KL(p|r))) for mixtures r = w p + (1 - w) q with 25
    weights between 0 and 1, and ends on both axes at 1. It is integrated by trapezoids along either axis, and the mean
    of both is taken, since steep ends make them differ.
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
    """KL(p|q) in nats; q is above 0 wherever p is."""
    there = p > 0
    return max(float((p[there] * np.log(p[there] / q[there])).sum()), 0.0)  # rounding must not lead below


# MERGED evaluate.texts.mauve_package: MAUVE by the authors' own package on the same features, for whoever wants
# their very number.


def check_mauve_package() -> None:
    """Raise DataError where the package ``mauve-text`` is not there."""
    _package()


def package_mauve(human: Vectors, written: Vectors, *, seed: int = 0) -> Mauve | None:
    """MAUVE of feature vectors (N, C) and (M, C) by ``mauve-text`` with its own defaults; None below two on a side.

    It clusters by faiss, which draws its first centres in another way, so the score differs a little from
    `penna.evaluate.texts.mauve.mauve`; of the same histograms both give the same.
    """
    if min(len(human), len(written)) < 2:
        return None
    found = _package().compute_mauve(p_features=human, q_features=written, seed=seed, verbose=False)
    return Mauve(float(found.mauve), float(found.mauve_star), int(found.num_buckets))


def _package() -> Any:
    try:
        return importlib.import_module("mauve")
    except ImportError as error:
        raise DataError(
            f"MAUVE's own package cannot be loaded: {error}.",
            "--mauve-text takes the score from the package mauve-text.",
            "Install it (pip install 'penna[lab]'), or leave the option out: Penna has a MAUVE of its own.",
        ) from error
