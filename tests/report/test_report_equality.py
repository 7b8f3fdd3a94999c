"""The equality check finds differences between arms that no arm declares, and names those that follow from others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from penna.config.recipe import load_recipe, recipe_toml
from penna.report.experiments.equality import EqualityCheck, check_equality
from penna.runs.experiment import PlannedRun
from penna.runs.folder import RunFolder

Runs = list[tuple[PlannedRun, RunFolder]]
WEIGHTS = {"wte.weight": [[9, 4], "aa"], "h.0.attn.c_proj.weight": [[4, 4], "bb"], "h.0.ln_1.weight": [[4], "cc"]}


def write_run(
    folder: Path, arm: str, fields: dict[str, Any], *, seed: int = 1, more: dict[str, Any] | None = None, **info: Any
) -> tuple[PlannedRun, RunFolder]:
    """A run whose arm declares ``fields`` and whose recipe also has ``more``; ``info`` overrides its run.json."""
    run = RunFolder(folder / f"{arm}-s{seed}")
    run.path.mkdir()
    recipe = load_recipe("shakespeare-lr", {"train.seed": seed, **fields, **(more or {})})
    (run.path / "recipe.toml").write_text(recipe_toml(recipe))
    default = {
        "data": {"content_hash": "d" * 20, "tokenizer_hash": "t"},
        "initial_weights": WEIGHTS,
        "batch_order": f"order{seed}",
    }
    (run.path / "run.json").write_text(json.dumps({**default, **info}))
    return PlannedRun(arm, seed, False, dict(fields), dict(fields)), run


def checks(runs: Runs) -> dict[str, EqualityCheck]:
    return {check.name: check for check in check_equality(runs)}


def test_arms_that_differ_only_in_declared_fields_are_otherwise_equal(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path, arm, {"model.positions": value}, seed=seed)
        for seed in (1, 2)
        for arm, value in (("a", "learned"), ("b", "rotary"))
    ]
    result = checks(runs)
    assert all(check.is_equal for check in result.values())
    assert result["recipe"].text == "equal except for model.positions"
    assert result["data"].text == "equal (hash dddddddddddd)"
    assert "(6 pairs)" in result["initial_weights"].text
    assert result["batch_order"].text == "equal (by hash, for each of 2 seeds)"


def test_an_undeclared_difference_is_found(tmp_path: Path) -> None:
    other = {**WEIGHTS, "wte.weight": [[9, 4], "xx"]}
    runs = [
        write_run(tmp_path, "a", {"model.positions": "learned"}),
        write_run(
            tmp_path,
            "b",
            {"model.positions": "rotary"},
            more={"optim.beta1": 0.5},
            data={"content_hash": "e", "tokenizer_hash": "t"},
            initial_weights=other,
            batch_order="elsewhere",
        ),
    ]
    result = checks(runs)
    assert not any(check.is_equal for check in result.values())
    assert result["recipe"].text == "NOT equal: optim.beta1, which no arm names"
    assert result["data"].text == "NOT equal: b-s1 differ from a"
    assert result["initial_weights"].text == "NOT equal: wte.weight"
    assert result["batch_order"].text == "NOT equal: b-s1 differ from a"


def test_a_difference_in_only_one_seed_is_found(tmp_path: Path) -> None:
    runs = [write_run(tmp_path, arm, {"model.positions": v}, seed=1) for arm, v in (("a", "learned"), ("b", "rotary"))]
    runs += [write_run(tmp_path, "a", {"model.positions": "learned"}, seed=2)]
    runs += [write_run(tmp_path, "b", {"model.positions": "rotary"}, seed=2, batch_order="elsewhere")]
    assert checks(runs)["batch_order"].text == "NOT equal: b-s2 differ from a"


@pytest.mark.parametrize(
    ("first", "second", "consequences"),
    [
        ({"model.n_embd": 64}, {"model.n_embd": 128}, {"model.head_dim", "model.n_inner"}),
        ({"schedule.kind": "constant"}, {"schedule.kind": "linear"}, {"schedule.final_ratio"}),
        ({"optim.kind": "adamw"}, {"optim.kind": "muon"}, {"optim.momentum", "optim.matrix_learning_rate"}),
        ({"train.steps": 5}, {"train.minutes": 1.0}, set[str]()),
    ],
)
def test_consequences_of_a_declared_field_are_listed_separately(
    first: dict[str, Any], second: dict[str, Any], consequences: set[str], tmp_path: Path
) -> None:
    result = checks([write_run(tmp_path, "a", first), write_run(tmp_path, "b", second)])["recipe"]
    assert result.is_equal
    assert all(name in result.text.partition("and what follows from that: ")[2] for name in consequences)
    assert all(name in result.text.partition(", and what follows")[0] for name in {*first, *second})


def test_tensors_with_different_shapes_are_not_compared(tmp_path: Path) -> None:
    longer = {**WEIGHTS, "wte.weight": [[12, 4], "zz"], "wpe.weight": [[8, 4], "pp"]}
    runs = [
        write_run(tmp_path, "a", {"model.positions": "learned"}),
        write_run(tmp_path, "b", {"model.positions": "rotary"}, initial_weights=longer),
    ]
    result = checks(runs)["initial_weights"]
    assert result.is_equal and "(2 pairs; 2 tensors have no counterpart of the same shape)" in result.text


def test_depth_may_only_change_the_initialization_of_residual_projections(tmp_path: Path) -> None:
    scaled = {**WEIGHTS, "h.0.attn.c_proj.weight": [[4, 4], "xx"]}
    other = {**scaled, "h.0.ln_1.weight": [[4], "xx"]}
    for weights, same in ((scaled, True), (other, False)):
        folder = tmp_path / str(same)
        folder.mkdir()
        runs = [
            write_run(folder, "a", {"model.n_layer": 1}),
            write_run(folder, "b", {"model.n_layer": 2}, initial_weights=weights),
        ]
        assert checks(runs)["initial_weights"].is_equal is same


def test_arms_with_different_pretrained_weights_are_compared_separately(tmp_path: Path) -> None:
    pretrained = {name: [shape, "pre"] for name, (shape, _) in WEIGHTS.items()}
    runs = [
        write_run(tmp_path, "a", {"optim.beta1": 0.8}),
        write_run(tmp_path, "b", {"optim.beta1": 0.7}),
        write_run(tmp_path, "c", {"train.init_from": "x"}, initial_weights=pretrained),
    ]
    result = checks(runs)["initial_weights"]
    assert result.is_equal and "(3 pairs)" in result.text and "compared separately" in result.text


def test_batches_may_differ_if_a_declared_field_changes_them(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path, "a", {"train.batch_size": 8}),
        write_run(tmp_path, "b", {"train.batch_size": 16}, batch_order="elsewhere"),
    ]
    result = checks(runs)["batch_order"]
    assert result.is_equal and result.text == "different between arms, because train.batch_size differs"


def test_a_run_without_the_information_is_named(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path, "a", {"model.positions": "learned"}),
        write_run(tmp_path, "b", {"model.positions": "rotary"}, initial_weights=None, batch_order=None, data={}),
    ]
    result = checks(runs)
    assert result["recipe"].is_equal
    assert {name for name, each in result.items() if "unknown: run.json of b-s1" in each.text} == {
        "data", "initial_weights", "batch_order"
    }  # fmt: skip


def test_pretraining_and_runs_that_have_not_started_are_skipped(tmp_path: Path) -> None:
    one = write_run(tmp_path, "a", {"model.positions": "learned"})
    start = (PlannedRun("pre", 1, True, {}, {}), one[1])
    waiting = (PlannedRun("b", 1, False, {}, {}), RunFolder(tmp_path / "nowhere"))
    assert check_equality([one, start, waiting]) == []
