"""Which checkpoints are kept, which is the best, and errors about damaged ones."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import InterruptedByTest, assert_same_bits, at_step, interrupt, losses, tiny_recipe

from penna import api
from penna.errors import RunError
from penna.runs.checkpoint import CHECKSUMS, MODEL, OPTIMIZER, STATE, list_checkpoints
from penna.runs.folder import RunFolder
from penna.train.events import Evaluated, Finished, Saved, Started


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[float]], None]:
    """scripted([...]) sets the validation losses of the next evaluations."""

    def script(valid: list[float]) -> None:
        to_come = iter(valid)

        def score_rows(*_: Any) -> tuple[dict[str, float], dict[str, int]]:
            return {"loss": next(to_come), "correct": 0.0}, {"loss": 1, "correct": 1, "bytes": 1}

        monkeypatch.setattr("penna.tasks.pretrain.score_rows", score_rows)

    return script


def kept(run: RunFolder) -> list[int]:
    return [int(path.name.removeprefix("step-")) for path in list_checkpoints(run.checkpoints)]


def step_of(run: RunFolder, link: str) -> int:
    path = run.checkpoint(link)
    assert path is not None
    return int(path.name.removeprefix("step-"))


@pytest.mark.parametrize(("keep", "valid", "best", "expected"), [
    (2, [9, 8, 7, 3, 4, 5, 6], 3, [3, 5, 6]),
    (1, [9, 8, 7, 3, 4, 5, 6], 3, [3, 6]),
    (3, [9, 8, 7, 6, 5, 4, 3], 6, [4, 5, 6]),
    (2, [1, 8, 7, 6, 5, 4, 3], 0, [0, 5, 6]),
    (2, [5, 5, 5, 5, 5, 5, 5], 0, [0, 5, 6]),
])  # fmt: skip
def test_newest_checkpoints_and_the_best_are_kept(
    tmp_path: Path,
    scripted: Callable[[list[float]], None],
    keep: int,
    valid: list[float],
    best: int,
    expected: list[int],
) -> None:
    scripted(valid)
    fields = {"train.steps": 6, "train.evaluate_every": 1, "train.keep_checkpoints": keep}
    run, _ = api.train_recipe(tiny_recipe(tmp_path, fields), name="run", runs_dir=tmp_path)
    assert kept(run) == expected
    assert step_of(run, "best") == best
    assert step_of(run, "last") == 6
    assert not (run.path / "best").readlink().is_absolute()
    assert losses(run, "valid") == dict(enumerate(valid))


def test_a_new_best_is_saved_between_checkpoints(tmp_path: Path, scripted: Callable[[list[float]], None]) -> None:
    scripted([9, 5, 6, 7, 8])
    fields = {"train.steps": 4, "train.evaluate_every": 1, "train.checkpoint_every": 100}
    events: list[object] = []
    run, _ = api.train_recipe(tiny_recipe(tmp_path, fields), name="run", runs_dir=tmp_path, on_event=events.append)
    assert [event.step for event in events if isinstance(event, Saved)] == [0, 1, 4]
    assert [event.is_best for event in events if isinstance(event, Evaluated)] == [True, True, False, False, False]
    assert step_of(run, "best") == 1


@pytest.mark.parametrize(("patience", "valid", "end"), [
    (2, [9, 8, 8.5, 8.5, 0], 3),
    (1, [9, 8, 8, 0, 0], 2),
    (3, [9, 8, 8.5, 7, 7, 7, 7, 0], 6),
    (2, [9, 10, 10, 0], 2),
])  # fmt: skip
def test_patience_ends_the_run_after_that_many_evaluations_without_a_better_loss(
    tmp_path: Path, scripted: Callable[[list[float]], None], patience: int, valid: list[float], end: int
) -> None:
    scripted(valid)
    fields = {"train.steps": 20, "train.evaluate_every": 1, "train.checkpoint_every": 100, "train.patience": patience}
    run, finished = api.train_recipe(tiny_recipe(tmp_path, fields), name="run", runs_dir=tmp_path)
    assert finished == Finished(end, f"no better validation loss in {patience} evaluations", None)
    assert step_of(run, "last") == end
    assert run.info()["state"] == "finished"
    assert api.resume("run", runs_dir=tmp_path)[1] == finished


def test_patience_continues_to_count_after_a_resume(tmp_path: Path, scripted: Callable[[list[float]], None]) -> None:
    scripted([9, 8, 8.5, 8.6, 8.6, 8.7, 0])
    fields = {"train.steps": 20, "train.evaluate_every": 1, "train.patience": 3}
    with pytest.raises(InterruptedByTest):
        api.train_recipe(tiny_recipe(tmp_path, fields), name="run", runs_dir=tmp_path, on_event=at_step(4, interrupt))
    _, finished = api.resume("run", runs_dir=tmp_path)
    assert finished.step == 4


DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut short": lambda file: file.write_bytes(file.read_bytes()[:-9]),
    "emptied": lambda file: file.write_bytes(b""),
    "one bit flipped": lambda file: file.write_bytes(file.read_bytes()[:-9] + bytes([file.read_bytes()[-9] ^ 1]) + file.read_bytes()[-8:]),
    "removed": lambda file: file.unlink(),
}  # fmt: skip


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("finished")
    fields = {"train.keep_checkpoints": 3, "model.dropout": 0.1}
    return api.train_recipe(tiny_recipe(folder, fields), name="run", runs_dir=folder)[0]


@pytest.mark.parametrize("file", [MODEL, OPTIMIZER, STATE, CHECKSUMS])
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_last_checkpoint_is_an_error_and_the_suggested_command_resumes(
    tmp_path: Path, finished_run: RunFolder, file: str, damage: Callable[[Path], object]
) -> None:
    shutil.copytree(finished_run.path, tmp_path / "run", symlinks=True)
    run = RunFolder(tmp_path / "run")
    damage(run.checkpoints / "step-00000004" / file)
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file() and path.name != ".lock"}
    with pytest.raises(RunError, match=r"step-00000004 is damaged: ") as raised:
        api.resume(str(run.path))
    assert {path: path.read_bytes() for path in before} == before
    assert file == CHECKSUMS or file in raised.value.happened  # a wrong checksum looks like a wrong file
    named = re.search(r"`penna resume (\S+)`", raised.value.advice)
    assert named is not None
    assert named[1] == str(run.checkpoints / "step-00000003")
    with pytest.raises(RunError, match="is damaged"):
        api.load(str(run.path))
    api.resume(named[1])
    assert_same_bits(finished_run, run)
    assert step_of(run, "best") == step_of(run, "last") == 4
    api.load(str(run.path))


def test_a_missing_last_checkpoint_is_an_error_and_training_does_not_restart(
    tmp_path: Path, finished_run: RunFolder
) -> None:
    shutil.copytree(finished_run.path, tmp_path / "run", symlinks=True)
    run = RunFolder(tmp_path / "run")
    shutil.rmtree(run.checkpoints / "step-00000004")
    with pytest.raises(RunError, match="Resume from the newest intact checkpoint: .*step-00000003"):
        api.resume(str(run.path))
    assert kept(run) == [2, 3]


def test_a_run_resumes_without_its_links(tmp_path: Path, finished_run: RunFolder) -> None:
    shutil.copytree(finished_run.path, tmp_path / "run", symlinks=True)
    run = RunFolder(tmp_path / "run")
    shutil.rmtree(run.checkpoints / "step-00000004")
    (run.path / "last").unlink()
    (run.path / "best").unlink()
    events: list[Any] = []
    api.resume(str(run.path), on_event=events.append)
    assert [event.step for event in events if isinstance(event, Started)] == [3]
    assert_same_bits(finished_run, run)
    assert kept(run) == kept(finished_run)


def test_a_run_without_an_intact_checkpoint_is_an_error(tmp_path: Path, finished_run: RunFolder) -> None:
    shutil.copytree(finished_run.path, tmp_path / "run", symlinks=True)
    run = RunFolder(tmp_path / "run")
    for checkpoint in list_checkpoints(run.checkpoints):
        (checkpoint / STATE).unlink()
    with pytest.raises(RunError, match="No other checkpoint of this run is intact"):
        api.resume(str(run.path))


@pytest.mark.parametrize("step", [2, 3])
def test_resuming_from_an_earlier_checkpoint_repeats_the_later_steps(
    tmp_path: Path, finished_run: RunFolder, step: int
) -> None:
    shutil.copytree(finished_run.path, tmp_path / "run", symlinks=True)
    run = RunFolder(tmp_path / "run")
    events: list[Any] = []

    def on_event(event: object) -> None:
        if type(event).__name__ == "Started":
            events.append((kept(run)[-1], step_of(run, "last"), max(row["step"] for row in run.metrics())))

    api.resume(str(run.checkpoints / f"step-{step:08d}"), on_event=on_event)
    assert events == [(step, step, step)]
    assert_same_bits(finished_run, run)
    assert losses(run, "train") == losses(finished_run, "train")
    assert losses(run, "valid") == losses(finished_run, "valid")


def test_resuming_from_a_damaged_checkpoint_is_an_error(tmp_path: Path, finished_run: RunFolder) -> None:
    shutil.copytree(finished_run.path, tmp_path / "run", symlinks=True)
    run = RunFolder(tmp_path / "run")
    (run.checkpoints / "step-00000003" / MODEL).unlink()
    with pytest.raises(RunError, match="step-00000003 is damaged"):
        api.resume(str(run.checkpoints / "step-00000003"))
    assert kept(run) == [2, 3, 4]
    assert step_of(run, "last") == 4
