"""k-means and principal components, small and repeatable: feature vectors in, a cluster's number for each out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float64]

_ROUNDING = 1e-20  # share of the vectors' squared length below which a variance is rounding, and all are alike
_TURNS = 500  # of Lloyd's algorithm, at most


def principal_components(vectors: Vectors, kept: float) -> Vectors:
    """Centred vectors (N, C) on the fewest principal axes that hold ``kept`` of their variance: (N, D)."""
    centred = vectors - vectors.mean(axis=0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    variance = sizes**2
    total = variance.sum()
    if total <= _ROUNDING * (vectors**2).sum():
        return np.zeros((len(vectors), 1))
    axes = int(np.searchsorted(np.cumsum(variance) / total, kept)) + 1
    return (left * sizes)[:, :axes]


def k_means(vectors: Vectors, clusters: int, *, seed: int = 0, starts: int = 5) -> NDArray[np.int64]:
    """The cluster of each vector (N, D), numbers from 0: (N,).

    Lloyd's algorithm (1982) from centres drawn by k-means++ (Arthur and Vassilvitskii 2007); of several starts the one
    with the least squared distances. The same seed gives the same clusters.
    """
    random = np.random.default_rng(seed)
    best: tuple[float, NDArray[np.int64]] | None = None
    for _ in range(starts):
        cost, labels = _lloyd(vectors, _first_centres(vectors, clusters, random))
        if best is None or cost < best[0]:
            best = (cost, labels)
    assert best is not None
    return best[1]


def _first_centres(vectors: Vectors, clusters: int, random: np.random.Generator) -> Vectors:
    """Vectors drawn one by one, each with a chance that goes by its squared distance from those already drawn."""
    drawn = [int(random.integers(len(vectors)))]
    nearest = _squared(vectors, vectors[drawn])[:, 0]
    while len(drawn) < clusters:
        total = nearest.sum()
        chances = nearest / total if total > 0 else None  # all vectors are drawn ones: any will do
        drawn.append(int(random.choice(len(vectors), p=chances)))
        nearest = np.minimum(nearest, _squared(vectors, vectors[drawn[-1:]])[:, 0])
    return vectors[drawn]


def _lloyd(vectors: Vectors, centres: Vectors) -> tuple[float, NDArray[np.int64]]:
    labels = np.full(len(vectors), -1, dtype=np.int64)
    cost = 0.0
    for _ in range(_TURNS):
        distances = _squared(vectors, centres)
        nearest = distances.argmin(axis=1)
        cost = float(distances[np.arange(len(vectors)), nearest].sum())
        if (nearest == labels).all():
            break
        labels = nearest
        sizes = np.bincount(labels, minlength=len(centres))
        sums = np.zeros_like(centres)
        np.add.at(sums, labels, vectors)
        centres = np.where(sizes[:, None] > 0, sums / np.maximum(sizes, 1)[:, None], centres)
    return cost, labels


def _squared(vectors: Vectors, centres: Vectors) -> Vectors:
    """Squared distances: (N, D), (K, D) -> (N, K)."""
    squared = (vectors**2).sum(axis=1)[:, None] + (centres**2).sum(axis=1)[None, :] - 2 * vectors @ centres.T
    return np.maximum(squared, 0.0)
