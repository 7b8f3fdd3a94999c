"""A comparison warns, with the values, about everything that makes runs hard to compare."""

from pathlib import Path
from typing import Any

import pytest
from comparison_runs import INFO, train, valid, write_arms, write_run

from penna.report.experiments.arms import group_by_recipe
from penna.report.experiments.results import ComparedRun, read_run
from penna.report.experiments.warnings import comparison_warnings, losses_differ, tokenizers_differ


def warnings_by_kind(*runs: ComparedRun, pattern: str | None = None) -> dict[str, str]:
    """The texts of the warnings by kind."""
    found: dict[str, str] = {}
    for warning in comparison_warnings(group_by_recipe(runs, pattern)):
        found[warning.kind] = "\n".join(filter(None, (found.get(warning.kind), warning.text)))
    return found


def warnings_of_two_arms(folder: Path, **changes: Any) -> dict[str, str]:
    """The warnings for two arms of two seeds, of which the second arm differs in ``changes``."""
    runs = [
        write_run(folder, f"{arm}-s{seed}", seed=seed, overrides={"optim.learning_rate": rate},
                  **(changes if arm == "b" else {}))
        for arm, rate in (("a", 0.1), ("b", 0.2))
        for seed in (1, 2)
    ]  # fmt: skip
    return warnings_by_kind(*runs)


def test_arms_that_differ_only_in_their_recipe_give_no_warning(tmp_path: Path) -> None:
    arms = write_arms(tmp_path, {"one": {1: 2.0, 2: 2.1}, "two": {1: 1.0, 2: 1.1}})
    assert comparison_warnings(arms) == []


@pytest.mark.parametrize(
    ("changes", "kind", "text"),
    [
        ({"data": {**INFO["data"], "content_hash": "other"}}, "data-differ", "aaaabbbbcccc (a); other (b)"),
        ({"data": {**INFO["data"], "tokenizer_hash": "other"}}, "tokenizers-differ", "bits per byte can"),
        ({"git": "fedcba9876543210"}, "code-differ", "git commit 0123456789ab (a); fedcba987654 (b)"),
        ({"versions": {**INFO["versions"], "penna": "0.2.0"}}, "code-differ", "penna 0.1.0 (a); 0.2.0 (b)"),
        ({"versions": {**INFO["versions"], "torch": "3"}}, "code-differ", "torch 2.9.0 (a); 3 (b)"),
        ({"machine": {**INFO["machine"], "processor": "B"}}, "machine-differ", "processor A (a); B (b)"),
        ({"machine": {**INFO["machine"], "cores": 8}}, "machine-differ", "cores 2 (a); 8 (b)"),
        ({"state": "stopped", "ended": "stopped by a signal"}, "stopped-early", "penna resume"),
        ({"state": "training"}, "stopped-early", "b-s1 was interrupted at step 40"),
        (
            {"ended": "no better validation loss in 3 evaluations"},
            "stopped-early",
            "stopped early at step 40: no better",
        ),
    ],
)
def test_differences_in_run_json_give_a_warning(tmp_path: Path, changes: dict[str, Any], kind: str, text: str) -> None:
    found = warnings_of_two_arms(tmp_path, info=changes)
    assert list(found) == [kind]
    assert text in found[kind]


def test_a_single_deviating_run_is_named(tmp_path: Path) -> None:
    runs = [write_run(tmp_path, "a-s1"), write_run(tmp_path, "a-s2", seed=2, info={"git": "fedcba9876543210"})]
    assert warnings_by_kind(*runs)["code-differ"].endswith("git commit 0123456789ab (a-s1); fedcba987654 (a-s2).")


def test_different_machine_decisions_give_a_warning(tmp_path: Path) -> None:
    runs = [write_run(tmp_path, f"a-s{seed}", seed=seed) for seed in (1, 2)]
    for run, threads in zip(runs, (1, 2), strict=True):
        run.folder.save_decisions(threads=threads, matmul="blas")
    assert warnings_by_kind(*runs) == {
        "machine-differ": "Seconds cannot be compared, and the last digits may differ: threads 1 (a-s1); 2 (a-s2)."
    }


def test_different_and_single_seeds_give_a_warning(tmp_path: Path) -> None:
    arms = write_arms(tmp_path, {"one": {1: 2.0, 2: 2.0}, "two": {1: 3.0}})
    kinds = {warning.kind: warning.text for warning in comparison_warnings(arms)}
    assert "(one: 1, 2; two: 1)" in kinds["seeds-differ"]
    assert kinds["one-seed"].startswith("two: a single seed")


def test_a_repeated_seed_gives_a_warning(tmp_path: Path) -> None:
    runs = [write_run(tmp_path, name, seed=seed) for name, seed in (("a-s1", 1), ("a-again", 1), ("a-s2", 2))]
    assert "several runs with seed 1" in warnings_by_kind(*runs)["seed-repeated"]


def test_different_budgets_and_trained_amounts_give_a_warning(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path, "a", overrides={"train.minutes": 5.0}, rows=[valid(400, 2.0)]),
        write_run(tmp_path, "b", overrides={"train.minutes": 5.0, "optim.kind": "muon"}, rows=[valid(300, 2.0)]),
        write_run(tmp_path, "c", overrides={"train.epochs": 2.0}, rows=[valid(400, 2.0)]),
    ]
    found = warnings_by_kind(*runs)
    assert found["budgets-differ"] == "The budgets differ: minutes = 5 (a, b); epochs = 2 (c)."
    assert "a 400; b 300; c 400" in found["steps-differ"]
    assert "a 40,000; b 30,000" in found["tokens-differ"]


def test_a_smaller_last_batch_gives_no_warning(tmp_path: Path) -> None:
    rows = [[valid(400, 2.0)], [{**valid(400, 2.0), "tokens": 39_900}]]
    runs = [write_run(tmp_path, name, rows=own) for name, own in zip(("a-s1", "b"), rows, strict=True)]
    assert "tokens-differ" not in warnings_by_kind(*runs, pattern="^.")


def test_losses_with_different_parts_give_a_warning(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path, f"w{w}", overrides={"task.kind": "classify", "task.lm_weight": w},
                  rows=[valid(40, 2.0, label_loss=1.0)])
        for w in (0.0, 0.5)
    ]  # fmt: skip
    assert "task.lm_weight differs" in warnings_by_kind(*runs)["losses-differ"]
    assert losses_differ(group_by_recipe(runs))
    assert not losses_differ(group_by_recipe(runs[:1]))


def test_different_splits_give_a_warning(tmp_path: Path) -> None:
    runs = [write_run(tmp_path, f"v{v}", overrides={"data.valid_fraction": v}) for v in (0.1, 0.2)]
    assert "0.1 (v0.1); 0.2 (v0.2)" in warnings_by_kind(*runs)["split-differ"]


def test_a_run_without_an_evaluation_gives_a_warning_with_the_command(tmp_path: Path) -> None:
    runs = [write_run(tmp_path, "a-s1"), write_run(tmp_path, "a-s2", seed=2, rows=[train(10, 2.0)])]
    assert f"penna evaluate {tmp_path}/a-s2" in warnings_by_kind(*runs)["no-evaluation"]


def test_a_run_in_training_gives_a_warning_and_is_compared_as_it_is(tmp_path: Path) -> None:
    run = write_run(tmp_path, "a-s1", info={"state": "training"})
    with run.folder.lock():
        found = warnings_by_kind(read_run(run.folder))
    assert found["being-written"] == "a-s1 is still training: its metrics are those at step 40."
    assert "stopped-early" not in found
    assert not read_run(run.folder).is_being_written


def test_different_and_missing_evaluations_give_a_warning(tmp_path: Path) -> None:
    def evaluation(text: str) -> dict[str, Any]:
        return {"test": {"checkpoint": "step-00000040", "text": [text], "loss": 1.0}}

    runs = [
        write_run(tmp_path, "a-s1", evaluations=evaluation("x/test.tsv")),
        write_run(tmp_path, "a-s2", seed=2, evaluations=evaluation("y/test.tsv")),
        write_run(tmp_path, "a-s3", seed=3),
    ]
    found = warnings_by_kind(*runs)
    assert "x/test.tsv (a-s1); y/test.tsv (a-s2)" in found["evaluated-on-other-text"]
    assert found["evaluation-missing"] == "The evaluation test is missing for a-s3."


def test_an_evaluation_of_an_older_checkpoint_gives_a_warning(tmp_path: Path) -> None:
    evaluations = {"test": {"checkpoint": "step-00000020", "text": ["t"], "loss": 1.0}}
    run = write_run(tmp_path, "a-s1", evaluations=evaluations)
    (run.folder.checkpoints / "step-00000040").mkdir(parents=True)
    run.folder.set_checkpoint("best", run.folder.checkpoints / "step-00000040")
    text = warnings_by_kind(read_run(run.folder))["evaluated-other-checkpoint"]
    assert "step-00000020" in text
    assert "now uses step-00000040" in text


def test_different_runs_grouped_by_a_pattern_give_a_warning(tmp_path: Path) -> None:
    runs = [write_run(tmp_path, f"a{number}", seed=number, overrides={"optim.beta1": number / 10}) for number in (1, 2)]
    assert warnings_by_kind(*runs, pattern="^a")["arm-mixed"] == "a combines 2 runs that differ in optim.beta1."


def test_tokenizers_are_compared_by_hash(tmp_path: Path) -> None:
    runs = [write_run(tmp_path, "a"), write_run(tmp_path, "b", info={"data": {"tokenizer_hash": "x"}})]
    assert tokenizers_differ(group_by_recipe(runs))
    assert not tokenizers_differ(group_by_recipe(runs[:1]))
