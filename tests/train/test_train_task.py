"""Hashes of initial weights and batch order: equal for equal ones, different for others."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_runs import tiny_recipe

from penna.api.train import train_recipe
from penna.config.sections import ModelConfig
from penna.model.gpt import GPT
from penna.train.task import batch_order_hash, weight_hashes

CONFIG = ModelConfig(n_layer=1, n_head=2, n_embd=16, block_size=16, vocab_size=11)


class Rows:
    """Batches whose first epoch reads rows in the order of a permutation."""

    def __init__(self, order: list[int], width: int = 4) -> None:
        self.order, self.width = order, width
        self.rows, self.tokens = len(order), len(order) * width

    def batch(self, epoch: int, rows: range) -> dict[str, torch.Tensor]:
        assert epoch == 0
        return {"ids": torch.tensor([[self.order[row]] * self.width for row in rows])}


def test_a_weight_hash_covers_its_float32_bytes() -> None:
    model = GPT(CONFIG)
    model.init_weights(1)
    found = weight_hashes(model)
    assert found.keys() == dict(model.named_parameters()).keys()
    for name, parameter in model.named_parameters():
        content = np.ascontiguousarray(parameter.detach().numpy(), dtype="<f4").tobytes()
        assert found[name] == (list(parameter.shape), hashlib.sha256(content).hexdigest()[:16])


def test_one_bit_of_one_weight_changes_only_its_hash() -> None:
    model = GPT(CONFIG)
    model.init_weights(1)
    before = weight_hashes(model)
    with torch.no_grad():
        model.wte.weight[3, 2] = torch.nextafter(model.wte.weight[3, 2], torch.tensor(9.0))
    after = weight_hashes(model)
    assert {name for name in before if before[name] != after[name]} == {"wte.weight"}


@pytest.mark.parametrize("rows", [1, 5, 300, 5000])
def test_equal_batch_orders_have_equal_hashes_and_others_do_not(rows: int) -> None:
    order = np.random.default_rng(1).permutation(rows).tolist()
    assert batch_order_hash(Rows(order), 8) == batch_order_hash(Rows(order), 8)
    assert batch_order_hash(Rows(order), 8) != batch_order_hash(Rows(order), 16)
    assert batch_order_hash(Rows(order), 8) != batch_order_hash(Rows(order, width=5), 8)
    if rows > 5:
        other = np.random.default_rng(2).permutation(rows).tolist()
        assert batch_order_hash(Rows(order), 8) != batch_order_hash(Rows(other), 8)
        assert batch_order_hash(Rows(order), 8) != batch_order_hash(Rows([*order[1:], order[0]]), 8)


def first_state(place: Path, overrides: dict[str, Any]) -> tuple[dict[str, Any], str]:
    place.mkdir()
    run, _ = train_recipe(tiny_recipe(place, {"train.steps": 1, **overrides}), name="run", runs_dir=place)
    info = run.info()
    return info["initial_weights"], info["batch_order"]


def test_run_json_holds_the_initial_hashes(tmp_path: Path) -> None:
    weights, order = first_state(tmp_path / "a", {})
    assert first_state(tmp_path / "b", {"train.steps": 3, "optim.learning_rate": 0.1}) == (weights, order)
    other_weights, other_order = first_state(tmp_path / "c", {"train.seed": 5})
    assert other_order != order
    assert other_weights["wte.weight"] != weights["wte.weight"]
    kept = tmp_path / "a" / "run"
    begun, _ = first_state(tmp_path / "d", {"train.init_from": str(kept)})
    assert begun.keys() == weights.keys()
    assert begun["wte.weight"] != weights["wte.weight"]  # one step later
