"""Runs are read from disk and grouped into arms, with names and final metrics."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from comparison_runs import comparison_of, train, valid, write_arms, write_run

from penna.errors import RunError
from penna.model.seq2seq import build_model
from penna.report.experiments.arms import format_value, group_by_recipe, recipe_rows, without_seed
from penna.report.experiments.comparison import check_comparable, find_arm
from penna.report.experiments.files import comparison_json
from penna.report.experiments.results import BEST, LAST, TRAINING, Column, metric_columns, read_run

CLASSIFY: dict[str, Any] = {"task.kind": "classify", "data.text_column": "text"}


def test_runs_that_differ_only_in_their_seed_are_one_arm(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path, "plain-s2", seed=2),
        write_run(tmp_path, "muon-s1", overrides={"optim.kind": "muon"}),
        write_run(tmp_path, "plain-s1"),
        write_run(tmp_path, "muon-s2", seed=2, overrides={"optim.kind": "muon"}),
    ]
    arms = group_by_recipe(runs)
    assert [(arm.name, [run.name for run in arm.runs]) for arm in arms] == [
        ("plain", ["plain-s1", "plain-s2"]),
        ("muon", ["muon-s1", "muon-s2"]),
    ]
    assert [arm.first.seed for arm in arms] == [1, 1]


def test_pretrained_runs_of_the_same_seed_count_as_the_same_start(tmp_path: Path) -> None:
    def start(number: int) -> dict[str, Any]:
        return {"train.init_from": f"runs/exp/pre-s{number}"}

    one, two = (write_run(tmp_path, f"a-s{seed}", seed=seed, overrides=start(seed)) for seed in (1, 2))
    other = write_run(tmp_path, "b-s2", seed=2, overrides=start(1))
    assert [arm.name for arm in group_by_recipe([one, two, other])] == ["a", "b"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("base-1", "base-2"), "base"),
        (("base-seed1", "base-seed2"), "base"),
        (("base", "base-2"), "base"),
        (("실험-s1", "실험-s2"), "실험"),
        (("x1", "y1"), "x1"),
    ],
)
def test_an_arm_has_the_name_of_its_runs_without_the_seed(
    tmp_path: Path, names: tuple[str, str], expected: str
) -> None:
    runs = [write_run(tmp_path, name, seed=seed) for seed, name in enumerate(names, start=1)]
    (arm,) = group_by_recipe(runs)
    assert arm.name == expected


def test_a_seed_is_only_removed_from_the_end_of_a_name() -> None:
    assert without_seed("decay-s3", 3) == "decay"
    assert without_seed("decay-s3", 4) == "decay-s3"
    assert without_seed("gpt2", 2) == "gpt2"
    assert without_seed("every-50", 50) == "every-50"  # no s: a number that may mean anything
    assert without_seed("runs/exp/pre-seed-12", 12) == "runs/exp/pre"


def test_arms_with_the_same_name_show_their_folders(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / "one", "a-s1"),
        write_run(tmp_path / "two", "a-s1", overrides={"optim.kind": "muon"}),
    ]
    assert [arm.name for arm in group_by_recipe(runs)] == [str(tmp_path / "one/a-s1"), str(tmp_path / "two/a-s1")]


def test_a_pattern_groups_runs_by_name(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path, "small-x", seed=1, overrides={"train.threads": 1}),
        write_run(tmp_path, "small-y", seed=2, overrides={"train.threads": 2}),
        write_run(tmp_path, "big-x", seed=1),
    ]
    assert [(arm.name, arm.seeds) for arm in group_by_recipe(runs, r"^(\w+)-")] == [("small", (1, 2)), ("big", (1,))]
    with pytest.raises(RunError, match="does not match the run name 'small-x'"):
        group_by_recipe(runs, "medium")
    with pytest.raises(RunError, match="is not a valid regular expression"):
        group_by_recipe(runs, "(")


def test_final_metrics_come_from_the_last_and_the_best_row(tmp_path: Path) -> None:
    run = write_run(tmp_path, "a", rows=[valid(0, 5.0), train(10, 4.0), valid(20, 2.0), valid(40, 3.0)])
    assert run.final_metrics[LAST, "loss"] == 3.0
    assert run.final_metrics[LAST, "perplexity"] == pytest.approx(math.exp(3.0))
    assert (run.final_metrics[BEST, "step"], run.final_metrics[BEST, "loss"]) == (20, 2.0)
    assert {name: run.final_metrics[TRAINING, name] for name in ("steps", "tokens", "epochs", "seconds")} == {
        "steps": 40, "tokens": 4000, "epochs": 2.0, "seconds": 4.0,
    }  # fmt: skip


def test_the_number_of_parameters_is_that_of_the_model(tmp_path: Path) -> None:
    run = write_run(tmp_path, "a")
    assert run.final_metrics[TRAINING, "parameters"] == sum(
        p.numel() for p in build_model(run.recipe.model).parameters()
    )
    assert torch.get_default_device() == torch.device("cpu")


@pytest.mark.parametrize(("best", "step"), [("accuracy", 20), ("macro_f1", 40)])
def test_the_best_row_of_a_classifier_is_that_of_its_task_metric(tmp_path: Path, best: str, step: int) -> None:
    rows = [
        valid(20, 2.0, label_loss=1.0, accuracy=0.9, macro_f1=0.5),
        valid(40, 1.0, label_loss=0.5, accuracy=0.8, macro_f1=0.7),
    ]
    run = write_run(tmp_path, "a", rows=rows, overrides={**CLASSIFY, "task.best": best})
    assert run.final_metrics[BEST, "step"] == step
    assert (LAST, "perplexity") not in run.final_metrics  # it learned no tokens
    assert Column(LAST, "accuracy", True).is_per_token is False


def test_only_numeric_metrics_of_evaluations_are_compared(tmp_path: Path) -> None:
    evaluation = {"checkpoint": "step-1", "text": ["t"], "accuracy": 0.5, "count": 7, "deep": {"x": 0.1}, "why": None}
    run = write_run(tmp_path, "a", evaluations={"test.tsv": evaluation, "recitation": {"step": 3, "share": 0.5}})
    assert {name: value for name, value in run.final_metrics.items() if name[0] == "test.tsv"} == {
        ("test.tsv", "accuracy"): 0.5
    }
    assert "recitation" not in run.evaluations
    assert [column.key for column in metric_columns([run]) if column.group == "test.tsv"] == ["test.tsv:accuracy"]


def test_a_damaged_evaluation_is_named(tmp_path: Path) -> None:
    run = write_run(tmp_path, "a")
    (run.folder.path / "evaluations").mkdir()
    (run.folder.path / "evaluations/test.json").write_text("{", encoding="utf-8")
    with pytest.raises(RunError, match=r"test\.json is not valid JSON"):
        read_run(run.folder)


def test_the_spread_of_an_arm_is_over_its_seeds(tmp_path: Path) -> None:
    one, two = write_arms(tmp_path, {"one": {1: 2.0, 2: 4.0}, "two": {2: 3.0, 3: 1.0}})
    column = Column(LAST, "loss", False)
    spread = one.spread(column)
    assert spread is not None
    assert (spread.n, spread.mean) == (2, 3.0)
    difference = two.difference(one, column)
    assert difference is not None
    assert (difference.seeds, difference.mean) == ((2,), -1.0)


def test_runs_with_the_same_seed_count_as_their_mean(tmp_path: Path) -> None:
    runs = [write_run(tmp_path, name, rows=[valid(40, loss)]) for name, loss in (("a-s1", 1.0), ("a2-s1", 2.0))]
    (arm,) = group_by_recipe([*runs, write_run(tmp_path, "a-s2", seed=2, rows=[valid(40, 4.0)])])
    assert arm.by_seed(Column(LAST, "loss", False)) == {1: 1.5, 2: 4.0}


def test_recipe_rows_are_the_fields_that_differ(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path, "a-s1"),
        write_run(tmp_path, "a-s2", seed=2),
        write_run(tmp_path, "b-s1", overrides={"schedule.kind": "multi_step", "schedule.every": 50}),
    ]
    rows = {row.field: row.values for row in recipe_rows(group_by_recipe(runs))}
    assert rows["schedule.kind"] == ("linear", "multi_step")
    assert rows["schedule.every"] == ("–", "50")
    assert rows["train.seed"] == ("1, 2", "1")
    assert "model.n_layer" not in rows
    assert "train.steps" not in rows


def test_different_values_are_formatted_differently() -> None:
    assert (format_value(0.001), format_value(0.12345678), format_value(True), format_value([])) == (
        "0.001", "0.12345678", "yes", "none",
    )  # fmt: skip


def test_runs_of_different_tasks_are_rejected(tmp_path: Path) -> None:
    arms = group_by_recipe([write_run(tmp_path, "a"), write_run(tmp_path, "b", overrides=CLASSIFY)])
    with pytest.raises(RunError, match=r"have different tasks \(pretrain: a; classify: b\)"):
        check_comparable(arms)


def test_runs_without_an_evaluation_are_rejected(tmp_path: Path) -> None:
    arms = group_by_recipe([write_run(tmp_path, "a", rows=[train(1, 2.0)])])
    with pytest.raises(RunError, match=r"No run has been evaluated yet: a\.(.|\n)*penna evaluate"):
        check_comparable(arms)


def test_an_unknown_baseline_is_rejected_with_the_names_of_the_arms(tmp_path: Path) -> None:
    arms = write_arms(tmp_path, {"one": {1: 2.0}, "two": {1: 3.0}})
    with pytest.raises(RunError, match="no arm 'three'(.|\n)*one, two"):
        find_arm(arms, "three")
    assert comparison_of(arms, baseline="two").baseline is arms[1]


def test_classifiers_are_compared_by_accuracy_and_other_models_by_loss(tmp_path: Path) -> None:
    arms = write_arms(tmp_path / "p", {"one": {1: 2.0}})
    assert [column.key for column in comparison_of(arms).main_columns] == ["last_loss"]
    run = write_run(tmp_path, "c", rows=[valid(1, 2.0, label_loss=1.0, macro_f1=0.5)], overrides=CLASSIFY)
    assert [column.key for column in comparison_of(group_by_recipe([run])).main_columns] == ["last_accuracy"]


def test_models_with_different_tokenizers_are_compared_by_bits_per_byte(tmp_path: Path) -> None:
    data = {"content_hash": "aaaabbbbccccdddd", "tokenizer_hash": "another"}
    runs = [
        write_run(tmp_path, "a"),
        write_run(tmp_path, "b", overrides={"tokenizer.kind": "char"}, info={"data": data}),
    ]
    comparison = comparison_of(group_by_recipe(runs))
    assert [column.key for column in comparison.main_columns] == ["last_bits_per_byte"]
    compared = {column.name for column in comparison.columns if comparison.difference(comparison.arms[1], column)}
    assert compared == {"seconds", "bits_per_byte"}


def test_losses_with_different_parts_are_not_compared(tmp_path: Path) -> None:
    rows = [valid(1, 2.0, label_loss=1.0, macro_f1=0.5)]
    runs = [
        write_run(tmp_path, str(w), rows=rows, overrides={**CLASSIFY, "task.lm_weight": w}) for w in (0.0, 0.5)
    ]  # fmt: skip
    comparison = comparison_of(group_by_recipe(runs))
    compared = {column.name for column in comparison.columns if comparison.difference(comparison.arms[1], column)}
    assert "label_loss" in compared
    assert "loss" not in compared


def test_tables_omit_the_best_row_if_it_is_the_last(tmp_path: Path) -> None:
    arms = write_arms(tmp_path, {"one": {1: 2.0}})
    comparison = comparison_of(arms)
    assert comparison.best_is_last
    assert {column.group for column in comparison.visible_columns} == {TRAINING, LAST}
    assert {column.group for column in comparison.columns} == {TRAINING, LAST, BEST}
    worse = write_run(tmp_path, "worse", rows=[valid(20, 1.0), valid(40, 2.0)])
    assert not comparison_of([*arms, *group_by_recipe([worse])]).best_is_last


def test_json_contains_every_metric(tmp_path: Path) -> None:
    arms = write_arms(tmp_path, {"one": {1: 2.0, 2: 2.5}, "two": {1: 3.0, 2: 2.9}})
    content = json.loads(comparison_json(comparison_of(arms)))
    two = content["arms"][1]
    assert two["metrics"]["last_loss"]["mean"] == pytest.approx(2.95)
    assert two["differences"]["last_loss"]["mean"] == pytest.approx(0.7)
    assert [run["metrics"]["last_loss"] for run in two["runs"]] == [3.0, 2.9]
    assert content["arms"][0]["differences"] == {}
