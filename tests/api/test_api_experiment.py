"""Experiments run in order, with several workers, and survive failures and signals.

The processes are stand-ins that write the files of a training (``stand_in_training.py``). The last test trains real
runs.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import torch
from safetensors.torch import load_file

from penna.api import experiment_runner
from penna.api.experiment import open_experiment, plan_experiment
from penna.api.experiment_runner import ExperimentResult, RunStatus, run_experiment, share_of_budget, threads_per_run
from penna.config.recipe import load_recipe
from penna.errors import DataError, DeviceError, RunError
from penna.runs.experiment import ExperimentFolder

STAND_IN = Path(__file__).parent / "stand_in_training.py"


@pytest.fixture(autouse=True)
def _stand_in(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment_runner, "_POLL_SECONDS", 0.01)
    if "slow" not in request.keywords:
        monkeypatch.setattr(experiment_runner, "COMMAND", (sys.executable, "-S", str(STAND_IN)))


def written(place: Path, *arms: tuple[str, dict[str, Any]], **more: Any) -> Path:
    """An experiment file over a recipe of four steps."""
    (place / "text.txt").write_text("to be or not to be " * 300, encoding="utf-8")
    (place / "base.toml").write_text(
        tomli_w.dumps(
            {
                "data": {"path": [str(place / "text.txt")]},
                "tokenizer": {"kind": "char"},
                "model": {"n_layer": 1, "n_head": 2, "n_embd": 16, "block_size": 16},
                "optim": {"learning_rate": 3e-3},
                "train": {
                    "device": "cpu",
                    "matmul": "blas",
                    "threads": 1,
                    "compile": "off",
                    "steps": 4,
                    "batch_size": 8,
                    "log_every": 1,
                    "evaluate_every": 2,
                    "checkpoint_every": 1,
                    "sample_tokens": 0,
                },
            }
        )
    )
    table = {"base": "base.toml", "arms": [{"name": name, "set": fields} for name, fields in arms], **more}
    file = place / "trial.toml"
    file.write_text(tomli_w.dumps(table))
    return file


def opened(file: Path, **more: Any) -> ExperimentFolder:
    runs_dir = file.parent / "runs"
    return open_experiment(plan_experiment(str(file), runs_dir=runs_dir), runs_dir=runs_dir, **more)


def calls(folder: ExperimentFolder) -> list[str]:
    file = folder.path / "calls.txt"
    return file.read_text().splitlines() if file.exists() else []


def states(end: ExperimentResult) -> dict[str, str]:
    return {run.name: run.state for run in end.runs}


ONE, OTHER = {"optim.beta1": 0.8}, {"optim.beta1": 0.7}


def test_every_run_is_trained_and_evaluated_but_a_start_is_only_trained(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        ("a", ONE),
        ("b", {"train.init_from": "arm:pre"}),
        seeds=[1, 2],
        starts=[{"name": "pre", "base": "base.toml", "seeds": [1]}],
        evaluate={"data.path": ["x.txt", "y.txt"], "data.limit": 3},
    )
    folder = opened(file)
    end = run_experiment(folder)
    options = "--data.path x.txt --data.path y.txt --data.limit 3"
    assert calls(folder) == [
        "train pre-s1",
        *(line for run in ("a-s1", "b-s1", "a-s2", "b-s2") for line in (f"train {run}", f"evaluate {run} {options}")),
    ]
    assert set(states(end).values()) == {"finished"}
    assert folder.runs() == end.runs
    assert end.signal is None and not end.failed


def test_the_same_command_again_does_nothing(tmp_path: Path) -> None:
    file = written(tmp_path, ("a", ONE), ("b", OTHER), evaluate={"data.limit": 3})
    run_experiment(opened(file))
    before = calls(opened(file))
    end = run_experiment(opened(file))
    assert calls(opened(file)) == before
    assert set(states(end).values()) == {"finished"}


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_as_many_runs_train_at_once_as_there_are_workers(workers: int, tmp_path: Path) -> None:
    folder = opened(written(tmp_path, *((f"a{number}", {"optim.beta1": number / 10}) for number in range(5))))
    counts: list[int] = []
    run_experiment(
        folder,
        workers=workers,
        on_status=lambda statuses: counts.append(sum(status.activity == "training" for status in statuses)),
    )
    assert max(counts) == workers


def test_workers_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert [threads_per_run(workers) for workers in (1, 2, 3, 9)] == [None, 4, 2, 1]
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert [threads_per_run(workers) for workers in (1, 2, 3)] == [None, 2, 1]


def test_a_failed_run_is_reported_its_dependents_are_skipped_and_the_others_finish(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        ("bad", {"train.prompts": ["fail"]}),
        ("after", {"train.init_from": "arm:bad"}),
        ("further", {"train.init_from": "arm:after"}),
        ("killed", {"train.prompts": ["crash"]}),
        ("good", ONE),
        ("blind", {"train.prompts": ["unmeasured"]}),
        ("after-blind", {"train.init_from": "arm:blind", "train.prompts": ["x"]}),
        evaluate={"data.limit": 3},
    )
    folder = opened(file)
    end = run_experiment(folder, workers=2)
    assert states(end) == {
        "bad-s42": "failed", "after-s42": "skipped", "further-s42": "skipped", "killed-s42": "failed",
        "good-s42": "finished", "blind-s42": "failed", "after-blind-s42": "finished",
    }  # fmt: skip
    messages = {run.arm: run.message for run in end.runs}
    assert messages["bad"] == "It broke at step 3. Something else. Fix it."
    assert messages["after"] == "It starts from bad-s42, which was not trained."
    assert "killed" in str(messages["killed"])
    assert messages["blind"] == "Not evaluated: It cannot be measured Something else. Fix it."
    assert [run.arm for run in end.failed] == ["bad", "after", "further", "killed", "blind"]
    assert "a line before" in folder.log_file(end.runs[0]).read_text()


def test_failed_runs_are_tried_again(tmp_path: Path) -> None:
    file = written(tmp_path, ("bad", {"train.prompts": ["fail"]}), ("after", {"train.init_from": "arm:bad"}))
    folder = opened(file)
    assert set(states(run_experiment(folder)).values()) == {"failed", "skipped"}
    recipe = folder.recipe_file(folder.runs()[0])
    recipe.write_text(recipe.read_text().replace('"fail"', '""'))
    assert set(states(run_experiment(folder)).values()) == {"finished"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_every_process_once_and_the_same_command_resumes(number: int, tmp_path: Path) -> None:
    hang = [(f"h{each}", {"train.prompts": ["hang"], "optim.beta1": each / 10}) for each in (1, 2)]
    folder = opened(written(tmp_path, ("a", ONE), *hang, ("b", OTHER)))
    sent: list[int] = []

    def interrupt(statuses: list[RunStatus]) -> None:
        if not sent and all((folder.path / name / "ready").exists() for name in ("h1-s42", "h2-s42")):
            sent.append(number)
            os.kill(os.getpid(), number)

    end = run_experiment(folder, workers=2, on_status=interrupt)
    assert end.signal == number
    assert states(end) == {"a-s42": "finished", "h1-s42": "training", "h2-s42": "training", "b-s42": "waiting"}
    assert json.loads((folder.path / "h1-s42" / "run.json").read_text()) == {"state": "stopped"}
    end = run_experiment(folder)
    assert set(states(end).values()) == {"finished"}
    assert sorted(calls(folder)) == [
        "resume h1-s42", "resume h2-s42", "train a-s42", "train b-s42", "train h1-s42", "train h2-s42"
    ]  # fmt: skip


def test_a_process_that_outlives_its_experiment_is_waited_for(tmp_path: Path) -> None:
    folder = opened(written(tmp_path, ("a", ONE), ("b", {"train.init_from": "arm:a"})))
    left_over = folder.runs()[0]
    held = folder.lock_for_child(left_over)
    assert held is not None
    looks: list[str] = []

    def watch(statuses: list[RunStatus]) -> None:
        looks.append(statuses[0].activity)
        if len(looks) == 3:
            run = folder.run_folder(left_over).path
            run.mkdir()
            (run / "recipe.toml").write_text(folder.recipe_file(left_over).read_text())
            (run / "run.json").write_text('{"state": "finished"}')
            os.close(held)

    end = run_experiment(folder, on_status=watch)
    assert looks[:3] == ["training elsewhere"] * 3
    assert calls(folder) == ["train b-s42"]
    assert set(states(end).values()) == {"finished"}


def test_an_experiment_is_run_by_one_process_only(tmp_path: Path) -> None:
    folder = opened(written(tmp_path, ("a", ONE)))
    with folder.lock(), pytest.raises(RunError, match="being run by another process"):
        run_experiment(folder)
    assert calls(folder) == []


def test_run_progress_is_read_from_the_log(tmp_path: Path) -> None:
    folder = opened(written(tmp_path, ("a", ONE)))
    seen: list[list[RunStatus]] = []
    run_experiment(folder, on_status=seen.append)
    last = seen[-1][0]
    assert (last.step, last.share, last.seconds) == (4, 1.0, 2.0)
    assert last.valid is not None and last.valid["loss"] == 2
    assert last.seconds_left == 0


@pytest.mark.parametrize(
    ("budget", "share"), [({"steps": 8}, 0.5), ({"epochs": 0.8}, 0.25), ({"tokens": 30}, 1.0), ({"minutes": 2}, 0.5)]
)
def test_share_of_budget(budget: dict[str, Any], share: float) -> None:
    train = load_recipe("demo", {f"train.{name}": value for name, value in budget.items()}).train
    assert share_of_budget(train, {"step": 4, "epoch": 0.2, "tokens": 40, "seconds": 60}) == share


def test_resuming_with_another_plan_is_an_error_that_lists_the_differences(tmp_path: Path) -> None:
    file = written(tmp_path, ("a", ONE), ("b", OTHER))
    folder = opened(file)
    run_experiment(folder)
    text = file.read_text()
    file.write_text(text + '\n[compare]\nprompts = ["x"]\n')  # no run depends on it
    assert opened(file).settings()["compare"] == {"prompts": ["x"]}
    file.write_text(text.replace("0.7", "0.6"))
    with pytest.raises(RunError, match=r"arms from .*0\.7.* to .*0\.6"):
        opened(file)
    file.write_text(text)
    base = tmp_path / "base.toml"
    base.write_text(base.read_text().replace("steps = 4", "steps = 6"))
    with pytest.raises(RunError, match="a: train.steps from 4 to 6"):
        opened(file)
    assert set(states(run_experiment(opened(file, overwrite=True))).values()) == {"finished"}


def test_a_relative_base_is_relative_to_the_experiment_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path, ("a", ONE))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert plan_experiment(str(file)).recipes["a"].train.steps == 4


def test_missing_text_is_reported_before_a_folder_is_created(tmp_path: Path) -> None:
    file = written(tmp_path, ("a", ONE), ("b", {"data.path": [str(tmp_path / "nowhere.txt")]}))
    with pytest.raises(DataError, match=r"The arm 'b': .*nowhere\.txt"):
        opened(file)
    assert not (tmp_path / "runs").exists()


def test_a_full_disk_is_reported_before_a_folder_is_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penna.api.experiment.free_disk", lambda _: 1000)
    with pytest.raises(DeviceError, match="2 runs need"):
        opened(written(tmp_path, ("a", ONE), ("b", OTHER)))
    assert not (tmp_path / "runs").exists()


def test_a_start_by_name_is_found_from_the_experiment_folder(tmp_path: Path) -> None:
    folder = opened(written(tmp_path, ("a", ONE)))
    run_experiment(folder)
    earlier = tmp_path / "runs" / "earlier"
    os.rename(folder.run_folder(folder.runs()[0]).path, earlier)
    (earlier / "tokenizer").mkdir()
    file = written(tmp_path, ("a", {"train.init_from": "earlier"}), name="other")
    assert opened(file).name == "other"
    assert plan_experiment(str(file), runs_dir=tmp_path / "runs").runs[0].table["train"]["init_from"] == str(earlier)


def test_an_error_leaves_no_process_running(tmp_path: Path) -> None:
    folder = opened(written(tmp_path, ("a", {"train.prompts": ["hang"]})))

    def broken(statuses: list[RunStatus]) -> None:
        if (folder.path / "a-s42" / "ready").exists():
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        run_experiment(folder, on_status=broken)
    assert folder.run_folder(folder.runs()[0]).info() == {"state": "stopped"}
    held = folder.lock_for_child(folder.runs()[0])
    assert held is not None
    os.close(held)


@pytest.mark.slow
def test_arms_are_identical_in_all_they_do_not_vary_even_after_an_interruption(tmp_path: Path) -> None:
    longer = {"train.steps": 60, "train.evaluate_every": 30}
    axes = {"model.positions": ["learned", "sinusoidal"], "train.init_from": ["none", "arm:pre"]}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    ends: dict[str, ExperimentResult] = {}
    for place in (whole, cut):
        place.mkdir()
        file = written(place, seeds=[1], starts=[{"name": "pre", "base": "base.toml"}], axes=axes, set=longer)
        table = {key: value for key, value in tomllib.loads(file.read_text()).items() if key != "arms"}
        table["set"] |= {"data.path": [str(whole / "text.txt")]}
        file.write_text(tomli_w.dumps(table))
        folder = opened(file)
        sent: list[int] = []

        def interrupt(statuses: list[RunStatus], sent: list[int] = sent) -> None:
            if not sent and any(status.step > 5 and not status.run.is_start for status in statuses):
                sent.append(signal.SIGINT)
                os.kill(os.getpid(), signal.SIGINT)

        if place is cut:
            end = run_experiment(folder, workers=2, on_status=interrupt)
            assert end.signal == signal.SIGINT
        ends[place.name] = run_experiment(folder, workers=2)
        assert set(states(ends[place.name]).values()) == {"finished"}
    for run in ends["whole"].runs:
        one, other = (load_file(place / "runs/trial" / run.name / "last/model.safetensors") for place in (whole, cut))
        assert all(torch.equal(one[name], other[name]) for name in one)
    found = {finding.name: finding for finding in ends["whole"].identical}
    assert all(finding.is_equal for finding in found.values()), found
    assert found["recipe"].text.startswith("equal except for model.positions, train.init_from")
    assert found["data"].text.startswith("the same, by its hash")
    assert found["initial_weights"].text.startswith("the same, bit for bit")
    assert found["batch_order"].text.startswith("the same, by its hash")
