"""k-means and principal components, small and repeatable.

By hand, because scikit-learn's k-means draws other initial centers for the same seed, which changes MAUVE.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float64]

_ROUNDING = 1e-20  # share of the vectors' squared length below which variance is rounding
_MAX_ITERATIONS = 500


def principal_components(vectors: Vectors, kept: float) -> Vectors:
    """Centered vectors (N, C), projected on the fewest principal axes that keep this share of the variance: (N, D)."""
    centered = vectors - vectors.mean(axis=0)
    left, sizes, _ = np.linalg.svd(centered, full_matrices=False)
    variance = sizes**2
    total = variance.sum()
    if total <= _ROUNDING * (vectors**2).sum():
        return np.zeros((len(vectors), 1))
    axes = int(np.searchsorted(np.cumsum(variance) / total, kept)) + 1
    return (left * sizes)[:, :axes]


def k_means(vectors: Vectors, clusters: int, *, seed: int = 0, starts: int = 5) -> NDArray[np.int64]:
    """The cluster of each vector (N, D), numbered from 0: (N,).

    Lloyd's algorithm (1982) with k-means++ initialization (Arthur and Vassilvitskii 2007); the start with the lowest
    cost wins. The same seed gives the same clusters.
    """
    random = np.random.default_rng(seed)
    best: tuple[float, NDArray[np.int64]] | None = None
    for _ in range(starts):
        cost, labels = _lloyd(vectors, _initial_centers(vectors, clusters, random))
        if best is None or cost < best[0]:
            best = (cost, labels)
    assert best is not None
    return best[1]


def _initial_centers(vectors: Vectors, clusters: int, random: np.random.Generator) -> Vectors:
    """Vectors drawn one by one with probability proportional to the squared distance from those already drawn."""
    drawn = [int(random.integers(len(vectors)))]
    nearest = _squared_distances(vectors, vectors[drawn])[:, 0]
    while len(drawn) < clusters:
        total = nearest.sum()
        chances = nearest / total if total > 0 else None  # None: every vector equals a drawn one
        drawn.append(int(random.choice(len(vectors), p=chances)))
        nearest = np.minimum(nearest, _squared_distances(vectors, vectors[drawn[-1:]])[:, 0])
    return vectors[drawn]


def _lloyd(vectors: Vectors, centers: Vectors) -> tuple[float, NDArray[np.int64]]:
    labels = np.full(len(vectors), -1, dtype=np.int64)
    cost = 0.0
    for _ in range(_MAX_ITERATIONS):
        distances = _squared_distances(vectors, centers)
        nearest = distances.argmin(axis=1)
        cost = float(distances[np.arange(len(vectors)), nearest].sum())
        if (nearest == labels).all():
            break
        labels = nearest
        sizes = np.bincount(labels, minlength=len(centers))
        sums = np.zeros_like(centers)
        np.add.at(sums, labels, vectors)
        centers = np.where(sizes[:, None] > 0, sums / np.maximum(sizes, 1)[:, None], centers)
    return cost, labels


def _squared_distances(vectors: Vectors, centers: Vectors) -> Vectors:
    """(N, D), (K, D) -> (N, K)."""
    squared = (vectors**2).sum(axis=1)[:, None] + (centers**2).sum(axis=1)[None, :] - 2 * vectors @ centers.T
    return np.maximum(squared, 0.0)
