"""Signals, and the lock against a second process."""

import os
import signal
import threading
from pathlib import Path

import pytest
from tiny_runs import assert_same_bits, at_step, python, tiny_recipe

from penna import api
from penna.config.recipe import recipe_toml
from penna.errors import RunError
from penna.runs.checkpoint import verify_checkpoint
from penna.runs.folder import RunFolder
from penna.train.events import Finished


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_its_step_and_a_checkpoint(tmp_path: Path, number: int) -> None:
    events: list[object] = []

    def on_event(event: object) -> None:
        events.append(event)
        at_step(3, lambda: os.kill(os.getpid(), number))(event)  # type: ignore[arg-type]

    recipe = tiny_recipe(tmp_path, {"train.steps": 6, "train.checkpoint_every": 100, "train.evaluate_every": 100})
    run, end = api.train_recipe(recipe, name="run", runs_dir=tmp_path, on_event=on_event)
    assert end == Finished(3, "stopped by a signal", number)
    assert events[-1] == end
    assert run.checkpoint("last") == run.checkpoints / "step-00000003"
    assert run.info()["state"] == "stopped"


def test_signal_before_the_first_step_stops_after_it(tmp_path: Path) -> None:
    def on_event(event: object) -> None:
        if type(event).__name__ == "Evaluated":
            os.kill(os.getpid(), signal.SIGTERM)

    run, end = api.train_recipe(tiny_recipe(tmp_path), name="run", runs_dir=tmp_path, on_event=on_event)
    assert end.step == 1
    assert run.checkpoint("last") == run.checkpoints / "step-00000001"


def test_signal_handlers_are_restored_after_the_run(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    api.train_recipe(
        tiny_recipe(tmp_path), name="run", runs_dir=tmp_path, on_event=at_step(2, lambda: os.kill(os.getpid(), 2))
    )
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_run_in_another_thread_does_not_handle_signals(tmp_path: Path) -> None:
    ends: list[Finished] = []
    recipe = tiny_recipe(tmp_path)
    thread = threading.Thread(target=lambda: ends.append(api.train_recipe(recipe, name="run", runs_dir=tmp_path)[1]))
    thread.start()
    thread.join(60)
    assert [end.step for end in ends] == [4]


TWO_SIGNALS = """
import os, signal, sys
from pathlib import Path
from penna import api
from penna.config.recipe import load_recipe
def on_event(event):
    if type(event).__name__ == "Logged" and event.row["step"] == 2:
        os.kill(os.getpid(), signal.SIGINT)
        print("asked once", flush=True)
        os.kill(os.getpid(), signal.SIGTERM)
        print("still here", flush=True)
api.train_recipe(load_recipe(sys.argv[1]), name="run", runs_dir=Path(sys.argv[2]), on_event=on_event)
"""


def test_a_second_signal_kills_the_process(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path)
    (tmp_path / "recipe.toml").write_text(recipe_toml(recipe))
    process = python("-c", TWO_SIGNALS, str(tmp_path / "recipe.toml"), str(tmp_path))
    out, err = process.communicate(timeout=100)
    assert process.returncode == -signal.SIGTERM, err
    assert out == "asked once\n"
    last = RunFolder(tmp_path / "run").checkpoint("last")
    assert last is not None
    assert last.name == "step-00000001"
    verify_checkpoint(last)


HOLDER = """
import sys
from pathlib import Path
from penna import api
from penna.config.recipe import load_recipe
def on_event(event):
    if type(event).__name__ == "Logged" and event.row["step"] == 2:
        print("holding", flush=True)
        sys.stdin.readline()
        sys.exit("was told to go on")
api.train_recipe(load_recipe(sys.argv[1]), name="run", runs_dir=Path(sys.argv[2]), on_event=on_event)
"""


def test_a_run_is_locked_by_one_process_until_that_is_killed(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path)
    (tmp_path / "recipe.toml").write_text(recipe_toml(recipe))
    process = python("-c", HOLDER, str(tmp_path / "recipe.toml"), str(tmp_path))
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "holding\n"
        run = RunFolder(tmp_path / "run")
        before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
        with pytest.raises(RunError, match="is being written by another process"):
            api.resume("run", runs_dir=tmp_path)
        with pytest.raises(RunError, match="is being written by another process"):
            api.train_recipe(recipe, name="run", runs_dir=tmp_path, overwrite=True)
        assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before
    finally:
        process.kill()
        process.communicate()
    api.resume("run", runs_dir=tmp_path)
    whole, _ = api.train_recipe(recipe, name="whole", runs_dir=tmp_path)
    assert_same_bits(whole, run)
