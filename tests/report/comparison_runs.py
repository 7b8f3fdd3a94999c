"""Handmade run folders for the tests of comparisons."""

import json
from pathlib import Path
from typing import Any

from penna.config.recipe import build_recipe, merge, recipe_toml
from penna.report.experiments.arms import Arm, group_by_recipe
from penna.report.experiments.comparison import Comparison, Provenance, compare_arms
from penna.report.experiments.results import ComparedRun, read_run
from penna.report.experiments.warnings import comparison_warnings
from penna.runs.folder import RunFolder

TABLE = {
    "data": {"path": ["text.txt"]},
    "model": {"n_layer": 1, "n_head": 2, "n_embd": 16, "block_size": 16, "vocab_size": 40},
    "train": {"steps": 40, "batch_size": 8},
}
INFO: dict[str, Any] = {
    "state": "finished",
    "ended": "the budget is spent",
    "data": {"content_hash": "aaaabbbbccccdddd", "tokenizer_hash": "ttttuuuuvvvvwwww"},
    "versions": {"penna": "0.1.0", "python": "3.11.7", "torch": "2.9.0"},
    "machine": {"processor": "A", "device": "cpu", "cores": 2},
    "git": "0123456789abcdef",
    "created": "2026-11-21T10:00:00+00:00",
}


def valid(step: int, loss: float, **more: Any) -> dict[str, Any]:
    """A validation row."""
    return {"step": step, "epoch": step / 20, "tokens": 100 * step, "seconds": step / 10, "split": "valid",
            "loss": loss, "accuracy": loss / 10, "bits_per_byte": loss / 2, "learning_rate": 0.1, **more}  # fmt: skip


def train(step: int, loss: float) -> dict[str, Any]:
    """A training row."""
    return {**valid(step, loss), "split": "train", "tokens_per_second": 9.0}


def write_run(
    folder: Path,
    name: str,
    *,
    seed: int = 1,
    overrides: dict[str, Any] | None = None,
    rows: list[dict[str, Any]] | None = None,
    info: dict[str, Any] | None = None,
    evaluations: dict[str, Any] | None = None,
) -> ComparedRun:
    """Write a run and read it. By default it has validation rows at steps 0, 20 and 40."""
    run = RunFolder(folder / name)
    run.path.mkdir(parents=True)
    recipe = build_recipe(merge(TABLE, {"train.seed": seed, **(overrides or {})}))
    (run.path / "recipe.toml").write_text(recipe_toml(recipe), encoding="utf-8")
    (run.path / "run.json").write_text(json.dumps({**INFO, **(info or {})}), encoding="utf-8")
    for row in [valid(0, 5), valid(20, 3), valid(40, 2 + seed / 10)] if rows is None else rows:
        run.log(row)
    for evaluation, content in (evaluations or {}).items():
        run.save_evaluation(evaluation, content)
    return read_run(run)


def write_arms(folder: Path, losses: dict[str, dict[int, float]], **more: Any) -> list[Arm]:
    """Write arms that differ in their learning rate, and runs that differ in their last loss."""
    runs = [
        write_run(folder, f"{name}-s{seed}", seed=seed, rows=[valid(0, 5), train(20, 4), train(40, 3), valid(40, loss)],
                  overrides={"optim.learning_rate": 0.001 * (number + 1)}, **more)
        for number, (name, by_seed) in enumerate(losses.items())
        for seed, loss in by_seed.items()
    ]  # fmt: skip
    return group_by_recipe(runs)


def comparison_of(arms: list[Arm], **more: Any) -> Comparison:
    """The comparison of arms, with its warnings."""
    provenance = Provenance("2026-11-21T12:00:00+00:00", "penna compare a b", "0.1.0", "")
    options = {"title": "A title", "warnings": comparison_warnings(arms), "provenance": provenance, **more}
    return compare_arms(arms, **options)
