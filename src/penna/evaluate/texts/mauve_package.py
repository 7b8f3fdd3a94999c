"""MAUVE by the authors' own package on the same features, for whoever wants their very number."""

from __future__ import annotations

import importlib
from typing import Any

from penna.errors import DataError
from penna.evaluate.texts.clustering import Vectors
from penna.evaluate.texts.mauve import Mauve


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
