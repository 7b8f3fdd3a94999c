"""MAUVE's area equals the formula evaluated point by point, and its clusters equal scikit-learn's."""

import math

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score, auc

from penna.errors import DataError
from penna.evaluate.texts.clustering import k_means, principal_components
from penna.evaluate.texts.mauve import divergence_area, load_mauve_package, mauve, package_mauve


def area_by_brute_force(p: list[float], q: list[float]) -> float:
    def kl(a: list[float], b: list[float]) -> float:
        return sum(x * math.log(x / y) for x, y in zip(a, b, strict=True) if x)

    points = [(0.0, 1.0), (1.0, 0.0)]
    for weight in np.linspace(1e-6, 1 - 1e-6, 25):
        r = [weight * x + (1 - weight) * y for x, y in zip(p, q, strict=True)]
        points.append((math.exp(-5 * kl(q, r)), math.exp(-5 * kl(p, r))))
    by_x, by_y = sorted(points), sorted((y, x) for x, y in points)
    return float(auc(*zip(*by_x, strict=True)) + auc(*zip(*by_y, strict=True))) / 2


@pytest.mark.parametrize("seed", range(5))
def test_the_area_equals_that_of_the_divergence_frontier(seed: int) -> None:
    random = np.random.default_rng(seed)
    p, q = random.dirichlet(np.full(12, 0.5)), random.dirichlet(np.full(12, 0.5))
    p[p < 0.03] = 0
    p /= p.sum()
    assert divergence_area(p, q) == pytest.approx(area_by_brute_force(p.tolist(), q.tolist()), rel=1e-9)


def test_the_area_of_known_histograms_equals_mauve_text() -> None:
    # Computed by mauve-text 0.4.0 from the same histograms.
    assert divergence_area(np.array([0.5, 0.5, 0.0]), np.array([0.0, 0.5, 0.5])) == pytest.approx(
        0.09257236294829274, rel=1e-9
    )
    assert divergence_area(np.array([0.4, 0.3, 0.2, 0.1]), np.array([0.1, 0.2, 0.3, 0.4])) == pytest.approx(
        0.6538536633533254, rel=1e-9
    )


def test_the_area_is_zero_for_disjoint_and_one_for_equal_histograms() -> None:
    assert divergence_area(np.array([1.0, 0.0]), np.array([0.0, 1.0])) < 0.01
    assert divergence_area(np.array([0.3, 0.7]), np.array([0.3, 0.7])) == pytest.approx(1)


def test_mauve_falls_with_the_difference_of_the_texts() -> None:
    random = np.random.default_rng(0)
    human = random.normal(size=(200, 8))
    scores = []
    for shift in (0.0, 1.0, 2.0):
        generated = random.normal(size=(200, 8))
        generated[:, 0] += shift
        found = mauve(human, generated)
        assert found is not None
        assert found.clusters == 20
        scores.append(found.score)
    assert scores[0] > 0.8 > scores[1] > scores[2]
    assert mauve(human, human) is not None
    assert mauve(human, human).score == pytest.approx(1)  # type: ignore[union-attr]


@pytest.mark.parametrize(("human", "generated"), [(1, 5), (5, 1), (0, 5)])
def test_mauve_needs_two_texts_on_each_side(human: int, generated: int) -> None:
    assert mauve(np.ones((human, 3)), np.ones((generated, 3))) is None


def test_mauve_of_identical_texts_is_one() -> None:
    found = mauve(np.ones((20, 3)), np.ones((20, 3)))
    assert found is not None
    assert found.score == pytest.approx(1)


def blobs(seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    centers = random.normal(size=(6, 4)) * 8
    return np.concatenate([center + random.normal(size=(40, 4)) for center in centers])


def test_k_means_finds_the_clusters_that_scikit_learn_finds() -> None:
    vectors = blobs(0)
    theirs = KMeans(6, n_init=10, random_state=0).fit_predict(vectors)
    assert adjusted_rand_score(theirs, k_means(vectors, 6)) == pytest.approx(1)


def cost(vectors: np.ndarray, labels: np.ndarray) -> float:
    groups = [vectors[labels == label] for label in set(labels.tolist())]
    return sum(float(((group - group.mean(axis=0)) ** 2).sum()) for group in groups)


def test_k_means_without_clusters_costs_about_as_much_as_scikit_learn() -> None:
    vectors = np.random.default_rng(3).normal(size=(300, 5))
    theirs = KMeans(12, n_init=5, random_state=0).fit(vectors).inertia_
    assert theirs is not None
    assert cost(vectors, k_means(vectors, 12)) < 1.03 * theirs


def test_k_means_keeps_the_best_of_several_starts() -> None:
    vectors = np.random.default_rng(3).normal(size=(100, 3))
    once = [cost(vectors, k_means(vectors, 9, seed=seed, starts=1)) for seed in range(4)]
    several = [cost(vectors, k_means(vectors, 9, seed=seed)) for seed in range(4)]
    assert all(best <= first + 1e-9 for best, first in zip(several, once, strict=True))  # the first start is the same
    assert sum(several) < 0.999 * sum(once)


def test_k_means_is_deterministic() -> None:
    assert (k_means(blobs(1), 9, seed=4) == k_means(blobs(1), 9, seed=4)).all()


def test_k_means_of_fewer_different_vectors_than_clusters() -> None:
    labels = k_means(np.repeat(np.eye(3), 4, axis=0), 6)
    assert len(set(labels.tolist())) == 3


def test_principal_components_equal_scikit_learn() -> None:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(60, 10)) @ np.diag(np.arange(1, 11)) @ random.normal(size=(10, 10))
    theirs = PCA(0.9).fit_transform(vectors)
    assert np.abs(principal_components(vectors, 0.9)) == pytest.approx(np.abs(theirs), rel=1e-6, abs=1e-8)


def test_a_missing_mauve_text_package_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "mauve", None)
    with pytest.raises(DataError, match=r"penna\[lab\]"):
        load_mauve_package()


def test_mauve_text_receives_the_features_and_its_score_is_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    from types import ModuleType, SimpleNamespace

    module = ModuleType("mauve")

    def compute_mauve(**given: object) -> SimpleNamespace:
        assert given["p_features"] is human and given["q_features"] is generated
        return SimpleNamespace(mauve=0.25, mauve_star=0.5, num_buckets=3)

    module.compute_mauve = compute_mauve  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mauve", module)
    human, generated = np.ones((4, 2)), np.zeros((4, 2))
    found = package_mauve(human, generated)
    assert found is not None
    assert (found.score, found.smoothed, found.clusters) == (0.25, 0.5, 3)
    assert package_mauve(human[:1], generated) is None
