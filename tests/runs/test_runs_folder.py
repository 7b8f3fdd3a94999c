"""Run folders are created, named, found, replaced and locked."""

import fcntl
import os
import shutil
import time
from pathlib import Path

import pytest

from penna.config.recipe import build_recipe
from penna.errors import RunError
from penna.runs.checkpoint import Checkpoint, write_checkpoint
from penna.runs.folder import RunFolder, check_name, check_name_is_free, find_run, free_name, new_run

RECIPE = build_recipe({"model": {"n_layer": 1, "n_head": 1, "n_embd": 8, "block_size": 4}, "train": {"steps": 3}})


def make(runs_dir: Path, name: str, *, overwrite: bool = False) -> RunFolder:
    with new_run(runs_dir, name, RECIPE, overwrite=overwrite) as run:
        run.update_info(state="new")
    return RunFolder(runs_dir / name)


def test_new_run_holds_its_recipe_and_nothing_temporary(tmp_path: Path) -> None:
    run = make(tmp_path / "runs", "one")
    assert run.name == "one"
    assert run.recipe() == RECIPE
    assert run.info() == {"state": "new"}
    assert run.metrics() == run.samples() == []
    assert run.decisions() == {}
    assert run.checkpoint("last") is None
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["one"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failed_start_leaves_no_files(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), new_run(tmp_path, "one", RECIPE):
        raise error
    assert list(tmp_path.iterdir()) == []


def test_failed_replacement_leaves_the_old_run(tmp_path: Path) -> None:
    old = make(tmp_path, "one")
    with pytest.raises(KeyboardInterrupt), new_run(tmp_path, "one", RECIPE, overwrite=True):
        raise KeyboardInterrupt
    assert old.info() == {"state": "new"}
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_the_files_of_a_killed_start_are_harmless(tmp_path: Path) -> None:
    remains = tmp_path / ".one.new"
    remains.mkdir()
    (remains / "recipe.toml").write_text("half")
    assert make(tmp_path, "one").recipe() == RECIPE
    assert not remains.exists()


def test_only_a_run_is_replaced_and_only_with_overwrite(tmp_path: Path) -> None:
    run = make(tmp_path, "one")
    run.log({"step": 1})
    with pytest.raises(RunError, match="exists") as raised:
        make(tmp_path, "one")
    assert "penna resume" in raised.value.advice
    assert "--overwrite" in raised.value.advice
    assert run.metrics() == [{"step": 1}]
    make(tmp_path, "one", overwrite=True)
    assert run.metrics() == []
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"")
    with pytest.raises(RunError, match="is not a run"):
        check_name_is_free(tmp_path, "photos", overwrite=True)
    with pytest.raises(RunError, match="is not a run"):
        make(tmp_path, "photos", overwrite=True)
    assert (tmp_path / "photos" / "cat.jpg").exists()


def test_run_that_is_being_written_is_not_replaced(tmp_path: Path) -> None:
    run = make(tmp_path, "one")
    run.log({"step": 1})
    with run.lock(), pytest.raises(RunError, match="is being written by another process"):
        make(tmp_path, "one", overwrite=True)
    assert run.metrics() == [{"step": 1}]
    make(tmp_path, "one", overwrite=True)


def test_testing_the_lock_does_not_block_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunFolder(tmp_path)
    (tmp_path / ".lock").touch()
    look = os.open(tmp_path / ".lock", os.O_RDONLY)
    fcntl.flock(look, fcntl.LOCK_SH)
    monkeypatch.setattr(time, "sleep", lambda _: os.close(look))  # the look ends while the training waits
    with run.lock():
        pass


def test_the_lock_is_released_after_an_error(tmp_path: Path) -> None:
    run = make(tmp_path, "one")
    with pytest.raises(KeyboardInterrupt), run.lock():
        raise KeyboardInterrupt
    with run.lock(), pytest.raises(RunError, match="Only one process may train a run at a time"), run.lock():
        pass
    with run.lock():
        pass


@pytest.mark.parametrize("name", ["a", "my.run-2", "깃펜", "2024_01", "A" * 50])
def test_plain_file_names_are_valid_run_names(tmp_path: Path, name: str) -> None:
    check_name(name)
    assert make(tmp_path, name).recipe() == RECIPE


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "-x", "_x", "a/b", "../a", "a\\b", "a b", "a\n", "a\0b"])
def test_other_names_are_errors(tmp_path: Path, name: str) -> None:
    with pytest.raises(RunError, match="is not a valid run name"):
        check_name(name)
    with pytest.raises(RunError, match="is not a valid run name"):
        make(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_free_name_is_the_first_that_is_not_taken(tmp_path: Path) -> None:
    assert free_name(tmp_path, "run") == "run"
    make(tmp_path, "run")
    assert free_name(tmp_path, "run") == "run-2"
    make(tmp_path, "run-2")
    make(tmp_path, "run-4")
    assert free_name(tmp_path, "run") == "run-3"
    assert free_name(tmp_path / "not there", "run") == "run"


def test_a_run_is_found_by_path_and_name_and_an_error_lists_the_runs(tmp_path: Path) -> None:
    one = make(tmp_path, "one")
    make(tmp_path, "two")
    assert find_run("one", tmp_path) == one
    assert find_run(str(one.path), tmp_path / "elsewhere") == one
    with pytest.raises(RunError, match="'three' is not a run") as raised:
        find_run("three", tmp_path)
    assert "one, two" in raised.value.expected
    with pytest.raises(RunError, match="has no runs yet"):
        find_run("one", tmp_path / "elsewhere")


def test_info_and_decisions_accumulate_and_damage_is_an_error(tmp_path: Path) -> None:
    run = make(tmp_path, "one")
    run.save_decisions(threads=2)
    run.save_decisions(end=9)
    assert run.decisions() == {"threads": 2, "end": 9}
    run.update_info(state="training")
    assert run.info() == {"state": "training"}
    (run.path / "run.json").write_text("{")
    with pytest.raises(RunError, match=r"run\.json is not valid JSON"):
        run.info()


def with_checkpoints(tmp_path: Path, *steps: int) -> RunFolder:
    run = make(tmp_path, "one")
    for step in steps:
        write_checkpoint(run.checkpoints, step, Checkpoint({}, {}, {"step": step}))
        run.log({"step": step})
        run.log_sample({"step": step})
    return run


def names(run: RunFolder) -> list[int]:
    return sorted(int(path.name[-2:]) for path in run.checkpoints.iterdir())


def test_rewinding_removes_rows_checkpoints_and_links_of_later_steps(tmp_path: Path) -> None:
    run = with_checkpoints(tmp_path, 1, 2, 3)
    run.set_checkpoint("last", run.checkpoints / "step-00000003")
    run.set_checkpoint("best", run.checkpoints / "step-00000002")
    run.rewind(2)
    assert names(run) == [1, 2]
    assert run.metrics() == run.samples() == [{"step": 1}, {"step": 2}]
    assert run.checkpoint("last") is None
    assert run.checkpoint("best") == run.checkpoints / "step-00000002"
    assert not (run.path / "last").is_symlink()


@pytest.mark.parametrize(("keep", "left"), [(1, [2, 3, 9]), (2, [2, 3, 8, 9]), (9, [1, 2, 3, 8, 9])])
def test_pruning_keeps_the_newest_the_best_and_the_last(tmp_path: Path, keep: int, left: list[int]) -> None:
    run = with_checkpoints(tmp_path, 1, 2, 3, 8, 9)
    run.set_checkpoint("best", run.checkpoints / "step-00000002")
    run.set_checkpoint("last", run.checkpoints / "step-00000003")
    run.prune(keep)
    assert names(run) == left


def test_the_default_checkpoint_is_the_best_or_the_last_if_only_step_0_was_evaluated(tmp_path: Path) -> None:
    run = with_checkpoints(tmp_path, 0, 30, 40)
    run.metrics_file.unlink(missing_ok=True)
    assert run.default_checkpoint() is None
    run.set_checkpoint("best", run.checkpoints / "step-00000000")
    assert run.default_checkpoint() == run.checkpoints / "step-00000000"
    run.set_checkpoint("last", run.checkpoints / "step-00000040")
    run.log({"step": 0, "split": "valid"})
    run.log({"step": 10, "split": "train"})
    assert (
        run.default_checkpoint() == run.checkpoints / "step-00000040"
    )  # stopped before its first evaluation on the way
    run.log({"step": 30, "split": "valid"})
    assert run.default_checkpoint() == run.checkpoints / "step-00000000"  # what came behind was worse


def test_a_link_to_a_missing_checkpoint_is_returned(tmp_path: Path) -> None:
    run = with_checkpoints(tmp_path, 1)
    run.set_checkpoint("last", run.checkpoints / "step-00000001")
    shutil.rmtree(run.checkpoints / "step-00000001")
    assert run.checkpoint("last") == run.checkpoints / "step-00000001"


def test_evaluations_are_saved_by_name(tmp_path: Path) -> None:
    run = make(tmp_path, "one")
    file = run.save_evaluation("valid", {"loss": 1.5})
    assert file == run.path / "evaluations" / "valid.json"
    assert file.read_text() == '{\n  "loss": 1.5\n}\n'


def test_the_default_checkpoint_needs_only_the_first_evaluated_step(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for link, step in (("best", 0), ("last", 5)):
        run.set_checkpoint(link, write_checkpoint(run.checkpoints, step, Checkpoint({}, {}, {})))
    run.log({"step": 0, "split": "valid"})
    run.log({"step": 5, "split": "train"})
    assert run.default_checkpoint() == run.checkpoints / "step-00000005"
    run.log({"step": 5, "split": "valid"})
    with open(run.metrics_file, "a") as log:
        log.write("no json\n")  # nobody reads so far
    assert run.default_checkpoint() == run.checkpoints / "step-00000000"
