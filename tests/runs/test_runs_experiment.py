"""Experiment folders are created atomically, found by name or path, and locked by one process at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from penna.errors import RunError
from penna.runs.experiment import ExperimentFolder, PlannedRun, find_experiment, new_experiment

RUNS = [
    PlannedRun("pre", 1, True, {}, {}),
    PlannedRun("a", 1, False, {"model.positions": "rotary"}, {"model.positions": "rotary"}, needs=("pre-s1",)),
]
TEXT = '# what we try\nbase = "demo"\n[axes]\n"model.positions" = ["rotary"]\n'


def made(runs_dir: Path, text: str = TEXT, **more: Any) -> ExperimentFolder:
    def table_of(folder: ExperimentFolder, run: PlannedRun) -> dict[str, Any]:
        return {"train": {"init_from": str(folder.path / "pre-s1"), "seed": run.seed}}

    return new_experiment(runs_dir, "trial", text, RUNS, table_of, **more)


def test_an_experiment_is_read_back_as_written(tmp_path: Path) -> None:
    folder = made(tmp_path)
    assert folder.runs() == RUNS
    assert folder.settings() == {**tomllib.loads(TEXT), "name": "trial"}
    assert (folder.path / "experiment.toml").read_text().endswith(TEXT)
    recipe = tomllib.loads(folder.recipe_file(RUNS[1]).read_text())
    assert recipe["train"]["init_from"] == str(tmp_path / "trial" / "pre-s1")
    folder.update_run("a-s1", state="failed", message="It broke.")
    assert [run.state for run in folder.runs()] == ["waiting", "failed"]
    assert folder.runs()[1].message == "It broke."
    assert folder.identical() is None
    folder.save_identical({"recipe": "the same"})
    assert folder.identical() == {"recipe": "the same"}
    assert folder.runs()[1].state == "failed"


@pytest.mark.parametrize("line", ["", 'name = "other"\n', 'name = "trial"\n'])
def test_the_experiment_file_gets_the_experiments_name(line: str, tmp_path: Path) -> None:
    folder = made(tmp_path, line + TEXT)
    assert folder.settings() == {**tomllib.loads(TEXT), "name": "trial"}


def test_an_experiment_is_found_by_name_and_by_path(tmp_path: Path) -> None:
    folder = made(tmp_path)
    assert find_experiment("trial", tmp_path) == folder
    assert find_experiment(str(folder.path), Path("elsewhere")) == folder
    assert find_experiment("nothing", tmp_path) is None


def test_a_failed_start_leaves_no_files(tmp_path: Path) -> None:
    def broken(folder: ExperimentFolder, run: PlannedRun) -> dict[str, Any]:
        raise ValueError(run.name)

    with pytest.raises(ValueError, match="pre-s1"):
        new_experiment(tmp_path, "trial", TEXT, RUNS, broken)
    assert list(tmp_path.iterdir()) == []


def test_a_taken_name_is_an_error_and_only_an_experiment_is_overwritten(tmp_path: Path) -> None:
    folder = made(tmp_path)
    folder.update_run("a-s1", state="finished")
    with pytest.raises(RunError, match="exists"):
        made(tmp_path)
    assert made(tmp_path, overwrite=True).runs()[1].state == "waiting"
    (tmp_path / "trial" / "experiment.json").unlink()
    with pytest.raises(RunError, match="is not an experiment"):
        made(tmp_path, overwrite=True)


def test_one_process_locks_an_experiment(tmp_path: Path) -> None:
    folder = made(tmp_path)
    with folder.lock():
        with pytest.raises(RunError, match="is being run by another process"), folder.lock():
            pass
        with pytest.raises(RunError, match="is being run by another process"):
            made(tmp_path, overwrite=True)
    with folder.lock():
        pass


def test_a_run_is_locked_while_a_process_that_inherited_its_lock_lives(tmp_path: Path) -> None:
    folder = made(tmp_path)
    lock = folder.lock_for_child(RUNS[1])
    assert lock is not None
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(lock,))
    os.close(lock)  # as if this process had died
    assert folder.lock_for_child(RUNS[1]) is None
    with pytest.raises(RunError, match="of an earlier session"):
        made(tmp_path, overwrite=True)
    child.communicate(b"\n")
    again = folder.lock_for_child(RUNS[1])
    assert again is not None
    os.close(again)


def test_a_damaged_plan_is_an_error(tmp_path: Path) -> None:
    folder = made(tmp_path)
    (folder.path / "experiment.json").write_text(json.dumps({"runs": []})[:5])
    with pytest.raises(RunError, match="cannot be read"):
        folder.runs()
