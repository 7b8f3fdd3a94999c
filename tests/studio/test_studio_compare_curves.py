"""Curves of the page that compares: the points of the logs, every arm with a look of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from penna.config.recipe import build_recipe, merge, recipe_toml
from penna.report.experiments.arms import group_by_recipe
from penna.report.experiments.comparison import Comparison, HowMade, compare_arms
from penna.report.experiments.results import ComparedRun, read_run
from penna.runs.folder import RunFolder
from penna.studio.pages.compare_curves import curves, logged

TABLE = {"data": {"path": ["a.txt"]}, "model": {"n_layer": 1, "n_head": 2, "n_embd": 16, "vocab_size": 40}}


def a_run(folder: Path, name: str, seed: int, losses: list[float], rate: float) -> ComparedRun:
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
        a_run(tmp_path, "low-s1", 1, [9.0, 4.0, 3.0], 0.1),
        a_run(tmp_path, "low-s2", 2, [9.0, 2.0, 1.0], 0.1),
        a_run(tmp_path, "high-s1", 1, [9.0, 5.0, 4.0], 0.2),
    ]
    return compare_arms(group_by_recipe(runs), title="A title", made=HowMade("", "penna compare", "0", ""))


def test_an_arm_of_two_seeds_has_their_lines_and_the_mean(comparison: Comparison) -> None:
    options = curves(comparison, "valid", "loss", "step")
    series = options["series"]
    assert [one["name"] for one in series] == ["low", "low", "low", "high"]
    assert series[0]["data"] == [[0, 9], [10, 4], [20, 3]]
    assert series[2]["data"] == [[0, 9], [10, 3], [20, 2]]
    assert series[2]["lineStyle"]["width"] > series[0]["lineStyle"]["width"]
    assert series[3]["color"] != series[2]["color"]
    assert series[3]["symbol"] != series[2]["symbol"]
    assert options["yAxis"]["max"] == pytest.approx(5 + 0.06 * 4)  # the nines of the beginning leave it


def test_shares_are_in_percent_and_another_axis_is_another_x(comparison: Comparison) -> None:
    series = curves(comparison, "valid", "accuracy", "tokens")["series"]
    assert series[3]["data"] == [[0, 90], [100, 50], [200, 40]]
    assert "max" not in curves(comparison, "valid", "accuracy", "tokens")["yAxis"]


def test_what_was_logged_is_offered_the_main_figure_first(comparison: Comparison) -> None:
    assert logged(comparison) == [("valid", "loss"), ("valid", "bits_per_byte"), ("valid", "accuracy")]


def test_what_is_drawn_can_be_sent_to_a_browser(comparison: Comparison) -> None:
    for split, name in logged(comparison):
        assert json.loads(json.dumps(curves(comparison, split, name, "seconds"), allow_nan=False))
