"""The chart of the Compare page shows the logged values, and every arm in a style of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from penna.config.recipe import build_recipe, merge, recipe_toml
from penna.report.experiments.arms import group_by_recipe
from penna.report.experiments.comparison import Comparison, Provenance, compare_arms
from penna.report.experiments.results import ComparedRun, read_run
from penna.runs.folder import RunFolder
from penna.studio.pages.compare import curve_options, logged_metrics

TABLE = {"data": {"path": ["a.txt"]}, "model": {"n_layer": 1, "n_head": 2, "n_embd": 16, "vocab_size": 40}}


def make_run(folder: Path, name: str, seed: int, losses: list[float], rate: float) -> ComparedRun:
    run = RunFolder(folder / name)
    run.path.mkdir(parents=True)
    recipe = build_recipe(merge(TABLE, {"train.seed": seed, "optim.learning_rate": rate}))
    (run.path / "recipe.toml").write_text(recipe_toml(recipe), encoding="utf-8")
    (run.path / "run.json").write_text(json.dumps({"state": "finished"}), encoding="utf-8")
    for number, loss in enumerate(losses):
        row: dict[str, Any] = {"step": 10 * number, "epoch": number / 2, "tokens": 100 * number, "seconds": number}
        run.log({**row, "split": "valid", "loss": loss, "accuracy": loss / 10, "bits_per_byte": loss / 2})
    return read_run(run)


@pytest.fixture
def comparison(tmp_path: Path) -> Comparison:
    runs = [
        make_run(tmp_path, "low-s1", 1, [9.0, 4.0, 3.0], 0.1),
        make_run(tmp_path, "low-s2", 2, [9.0, 2.0, 1.0], 0.1),
        make_run(tmp_path, "high-s1", 1, [9.0, 5.0, 4.0], 0.2),
    ]
    return compare_arms(group_by_recipe(runs), title="A title", provenance=Provenance("", "penna compare", "0", ""))


def test_an_arm_with_two_seeds_has_a_line_for_each_and_their_mean(comparison: Comparison) -> None:
    options = curve_options(comparison, "valid", "loss", "step")
    series = options["series"]
    assert [one["name"] for one in series] == ["low", "low", "low", "high"]
    assert series[0]["data"] == [[0, 9], [10, 4], [20, 3]]
    assert series[2]["data"] == [[0, 9], [10, 3], [20, 2]]
    assert series[2]["lineStyle"]["width"] > series[0]["lineStyle"]["width"]
    assert series[3]["color"] != series[2]["color"]
    assert series[3]["symbol"] != series[2]["symbol"]
    assert options["yAxis"]["max"] == pytest.approx(5 + 0.06 * 4)  # the first values exceed the limit


def test_shares_are_shown_in_percent_over_the_chosen_axis(comparison: Comparison) -> None:
    series = curve_options(comparison, "valid", "accuracy", "tokens")["series"]
    assert series[3]["data"] == [[0, 90], [100, 50], [200, 40]]
    assert "max" not in curve_options(comparison, "valid", "accuracy", "tokens")["yAxis"]


def test_logged_metrics_are_offered_with_the_main_one_first(comparison: Comparison) -> None:
    assert logged_metrics(comparison) == [("valid", "loss"), ("valid", "bits_per_byte"), ("valid", "accuracy")]


def test_chart_options_are_valid_json(comparison: Comparison) -> None:
    for split, name in logged_metrics(comparison):
        assert json.loads(json.dumps(curve_options(comparison, split, name, "seconds"), allow_nan=False))
