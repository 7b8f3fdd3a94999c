"""What a run begins with, as hashes: the weights before its first step, and which rows it reads in which order.

Two runs whose hashes agree differ in nothing that was drawn; `penna experiment` proves with them that its arms differ
in what they name and in nothing else.
"""

from __future__ import annotations

import hashlib

import numpy as np

from penna.model.gpt import GPT
from penna.train.task import TrainingBatches

_DIGITS = 16
_FIRST, _SPREAD = 64, 192  # rows of an epoch that are looked at: so many first ones, and so many all over it


def weight_hashes(model: GPT) -> dict[str, tuple[list[int], str]]:
    """Each parameter's shape, and the beginning of the SHA-256 of its values' float32 bytes."""
    return {
        name: (list(parameter.shape), _digest(parameter.detach().cpu().float().contiguous().numpy().data))
        for name, parameter in model.named_parameters()
    }


def batch_order_hash(batches: TrainingBatches, rows_per_step: int) -> str:
    """A hash of what the first epoch reads, in its order.

    It is of how many rows there are, how many a step reads, and the contents of up to 256 of them by their place: an
    order is a permutation of all rows drawn from the seed, so two that agree in these places are the same.
    """
    found = hashlib.sha256(f"{batches.rows} {batches.tokens} {rows_per_step}".encode())
    places = {*range(min(_FIRST, batches.rows)), *np.linspace(0, batches.rows - 1, _SPREAD).astype(int).tolist()}
    for place in sorted(places):
        row = batches.batch(0, range(place, place + 1))
        for name in sorted(row):
            found.update(f"{name} {tuple(row[name].shape)}".encode())
            found.update(row[name].contiguous().numpy().data)
    return found.hexdigest()[:_DIGITS]


def _digest(content: memoryview) -> str:
    return hashlib.sha256(content).hexdigest()[:_DIGITS]
