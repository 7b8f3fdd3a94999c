"""An error or kill at any write leaves an intact run that resumes bit-identically.

Every call that changes the disk is counted. A small run is then trained once for each call, with that call failing: the
disk is full from then on, or the process is killed and changes the disk no more.
"""

import errno
import os
import shutil
import signal
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError
from tiny_runs import assert_same_bits, at_step, losses, python, tiny_recipe

import penna.runs.checkpoint
import penna.runs.metrics
from penna import api
from penna.config.recipe import recipe_toml
from penna.errors import DeviceError, TokenizerError
from penna.runs.checkpoint import verify_checkpoint
from penna.runs.folder import RunFolder

REMOVING = ("unlink", "rmdir")
CHANGING = ("fsync", "replace", "rename", "symlink", "mkdir", *REMOVING)


class Killed(BaseException):
    """Simulates SIGKILL: no code after it can change the disk."""


class Disk:
    """Counts the calls that change the disk, and fails from the ``fails_at``-th call on."""

    def __init__(self, fails_at: int | None, *, killed: bool) -> None:
        self.calls, self.fails_at, self.killed = 0, fails_at, killed

    def fails_now(self, name: str) -> bool:
        """Count one call, and return whether it fails. A full disk can still remove files."""
        if name in REMOVING and not self.killed:
            return False
        self.calls += 1
        return self.fails_at is not None and self.calls >= self.fails_at

    def error(self, name: str) -> BaseException:
        """The error of a failing call."""
        if self.killed:
            return Killed(name)
        if name == "save_file":  # as safetensors reports it
            return SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def guard(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function``, which fails at its call number."""

        def guarded(*arguments: Any, **options: Any) -> Any:
            if self.fails_now(name):
                raise self.error(name)
            return function(*arguments, **options)

        return guarded

    def save_file(self, tensors: Any, path: Path) -> None:
        """The save_file of safetensors, which leaves half a file if it fails."""
        fails = self.fails_now("save_file")
        if fails and self.calls > (self.fails_at or 0):  # not the first failure: nothing reaches the disk any more
            raise self.error("save_file")
        REAL_SAVE_FILE(tensors, path)
        if fails:
            os.truncate(path, path.stat().st_size // 2)
            raise self.error("save_file")

    def open(self, path: Path, mode: str, **options: Any) -> Any:
        """open for appending a row; only half a row is written if it fails."""
        if not self.fails_now("append"):
            return open(path, mode, **options)
        if self.calls == self.fails_at:
            with open(path, mode, **options) as file:
                file.write('{"step": 1, "epo')
        raise self.error("append")


REAL_SAVE_FILE = penna.runs.checkpoint.save_file


@contextmanager
def failing_disk(fails_at: int | None, *, killed: bool) -> Generator[Disk]:
    disk = Disk(fails_at, killed=killed)
    with pytest.MonkeyPatch.context() as patch:
        for name in CHANGING:
            patch.setattr(os, name, disk.guard(name, getattr(os, name)))
        patch.setattr(penna.runs.checkpoint, "save_file", disk.save_file)
        patch.setattr(penna.runs.metrics, "open", disk.open, raising=False)
        yield disk


def assert_whole(run: RunFolder) -> None:
    """What a person finds after the fault: a verified last checkpoint or none yet, and readable logs."""
    for link in ("last", "best"):
        checkpoint = run.checkpoint(link)
        if checkpoint is not None:
            verify_checkpoint(checkpoint)
    run.metrics()
    run.info()
    run.decisions()


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".*") if path.name != ".lock"]


# keep_checkpoints = 1 makes every save remove an older checkpoint; samples write their own log.
MOST_CALLS = 140
SMALL = {"train.steps": 2, "train.evaluate_every": 2, "train.keep_checkpoints": 1, "train.sample_tokens": 1}


def every(step: int) -> list[Any]:
    """Each call number up to far more than there are, those off the step as slow tests."""
    marks = [pytest.mark.slow]
    return [pytest.param(first, marks=[] if first % step == 1 % step else marks) for first in range(1, MOST_CALLS)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("whole")
    recipe = tiny_recipe(folder, SMALL)
    api.train_recipe(recipe, name="first", runs_dir=folder)  # prepares the text: the cache is not tested here
    with failing_disk(None, killed=True) as disk:
        run, _ = api.train_recipe(recipe, name="run", runs_dir=folder)
    assert 60 < disk.calls < MOST_CALLS, disk.calls
    return run


@pytest.mark.parametrize("killed", [True, False], ids=["kill", "disk full"])
@pytest.mark.parametrize("call", every(4))
def test_an_error_at_any_write_leaves_the_run_intact_and_resumable(
    tmp_path: Path, whole: RunFolder, call: int, killed: bool
) -> None:
    recipe = whole.recipe()
    with failing_disk(call, killed=killed) as disk:
        try:
            api.train_recipe(recipe, name="run", runs_dir=tmp_path)
        except Killed:
            assert killed
        except (DeviceError, TokenizerError) as error:
            assert not killed
            assert "disk is full" in error.happened
            assert error.expected
            assert error.advice
        else:
            assert disk.calls < call
            return
    run = RunFolder(tmp_path / "run")
    if not killed:
        assert leftovers(tmp_path) == []
    if run.path.exists():
        assert_whole(run)
        run, _ = api.resume("run", runs_dir=tmp_path)
    else:
        run, _ = api.train_recipe(recipe, name="run", runs_dir=tmp_path)
    assert_same_bits(whole, run)
    for split in ("train", "valid"):
        assert losses(run, split) == losses(whole, split)
    assert run.samples() == whole.samples()
    assert run.checkpoint("best") == run.checkpoints / "step-00000002" == run.checkpoint("last")
    assert [path.name for path in run.checkpoints.glob("step-*")] == ["step-00000002"]


@pytest.mark.parametrize("call", every(5))
def test_a_kill_at_any_write_of_a_rewind_leaves_the_run_resumable(tmp_path: Path, call: int) -> None:
    recipe = tiny_recipe(tmp_path, {"train.steps": 3, "train.keep_checkpoints": 9})
    whole, _ = api.train_recipe(recipe, name="whole", runs_dir=tmp_path)
    shutil.copytree(whole.path, tmp_path / "run", symlinks=True)
    run = RunFolder(tmp_path / "run")
    with failing_disk(call, killed=True) as disk:
        try:
            api.resume(str(run.checkpoints / "step-00000001"))
        except Killed:
            pass
        else:
            assert disk.calls < call
            return
    last = run.checkpoint("last")
    assert last is not None
    verify_checkpoint(last)
    api.resume(str(run.path))
    assert_same_bits(whole, run)
    for split in ("train", "valid"):
        assert losses(run, split) == losses(whole, split)


def test_a_partial_temporary_checkpoint_is_harmless(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path)
    whole, _ = api.train_recipe(recipe, name="whole", runs_dir=tmp_path)
    cut, _ = api.train_recipe(
        recipe, name="cut", runs_dir=tmp_path, on_event=at_step(2, lambda: os.kill(os.getpid(), signal.SIGTERM))
    )
    half = cut.checkpoints / ".step-00000003.tmp"
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"half")
    api.resume("cut", runs_dir=tmp_path)
    assert_same_bits(whole, cut)
    assert not half.exists()


LIMITED = """
import resource, sys
from pathlib import Path
from penna import api
from penna.config.recipe import load_recipe
from penna.errors import DeviceError
recipe, folder, limit = load_recipe(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
def on_event(event):
    if type(event).__name__ == "Saved" and event.step == 2:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    api.train_recipe(recipe, name="run", runs_dir=folder, on_event=on_event)
except DeviceError as error:
    print(error.happened, error.expected, error.advice, sep="\\n")
    sys.exit(7)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no file-size limits")
@pytest.mark.parametrize(  # below the size of model.safetensors; below that of metrics.jsonl
    "limit", [10_000, pytest.param(1_000, marks=pytest.mark.slow)]
)
def test_a_file_size_limit_is_reported_as_a_full_disk_and_the_last_checkpoint_stays(tmp_path: Path, limit: int) -> None:
    recipe = tiny_recipe(tmp_path, {"train.steps": 4})
    (tmp_path / "recipe.toml").write_text(recipe_toml(recipe))
    process = python("-c", LIMITED, str(tmp_path / "recipe.toml"), str(tmp_path), str(limit))
    out, err = process.communicate(timeout=100)
    assert process.returncode == 7, err
    assert out.count("\n") == 3
    assert "The disk is full" in out
    run = RunFolder(tmp_path / "run")
    assert_whole(run)
    last = run.checkpoint("last")
    assert last is not None
    assert last.name == "step-00000002"
    api.resume("run", runs_dir=tmp_path)
    whole, _ = api.train_recipe(recipe, name="whole", runs_dir=tmp_path)
    assert_same_bits(whole, run)
