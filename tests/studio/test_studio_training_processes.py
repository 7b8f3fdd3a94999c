"""Trainings that a studio starts are processes of their own, identified by a lock that they hold."""

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from penna.errors import RunError
from penna.runs.folder import RunFolder
from penna.studio import training_processes as module
from penna.studio.training_processes import TrainingProcesses, is_locked, shell_command

# Replaces `python -m penna …`: prints its arguments, then a line that it reads from a named pipe.
STAND_IN = """
import os, signal, sys
print("begun", *sys.argv[1:], flush=True)
signal.signal(signal.SIGTERM, lambda *_: (print("saved", flush=True), sys.exit(143)))
open(os.environ["READY"], "w").close()
with open(os.environ["GATE"]) as gate:
    word = gate.read()
print(word, flush=True)
sys.exit(2 if word.startswith("penna: ") else 0)
"""


class Gate:
    """Controls a stand-in through named pipes, so that no test sleeps."""

    def __init__(self, folder: Path) -> None:
        self.path, self.ready = folder / "gate", folder / "ready"
        os.mkfifo(self.path)
        os.mkfifo(self.ready)

    def wait_until_started(self) -> None:
        with open(self.ready):
            pass

    def release(self, word: str = "done") -> None:
        with open(self.path, "w") as gate:
            gate.write(word)


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gate:
    made = Gate(tmp_path)
    monkeypatch.setenv("GATE", str(made.path))
    monkeypatch.setenv("READY", str(made.ready))
    return made


@pytest.fixture
def trainings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TrainingProcesses]:
    """Training processes that run the stand-in."""
    popen = subprocess.Popen
    started: list[subprocess.Popen[bytes]] = []

    def stand_in(words: list[str], **options: object) -> subprocess.Popen[bytes]:
        assert words[:3] == [sys.executable, "-m", "penna"]
        started.append(popen([sys.executable, "-c", STAND_IN, *words[3:]], **options))  # type: ignore[call-overload]
        return started[-1]

    monkeypatch.setattr(module.subprocess, "Popen", stand_in)
    yield TrainingProcesses(tmp_path / "runs", tmp_path / "runs" / ".studio")
    for process in started:
        process.kill()
        process.wait()


def wait_for_all(trainings: TrainingProcesses) -> None:
    for child in trainings._children:
        child.wait(60)


def test_a_training_runs_the_command_a_person_would_type(
    trainings: TrainingProcesses, gate: Gate, monkeypatch: pytest.MonkeyPatch
):
    process = trainings.train("new", ["my text.txt", "--train.steps", "5"])
    gate.wait_until_started()
    assert process.is_alive
    assert (
        shell_command(process.command)
        == f"penna train 'my text.txt' --train.steps 5 --name new --runs-dir {trainings._runs_dir}"
    )
    monkeypatch.chdir(trainings._runs_dir.parent)
    assert shell_command(process.command).endswith("--name new --runs-dir runs")
    assert [process.name for process in trainings.all()] == ["new"]
    gate.release()
    wait_for_all(trainings)
    found = trainings.find("new")
    assert found is not None
    assert not found.is_alive
    assert found.failure() is None
    assert found.log.splitlines() == [
        f"begun train my text.txt --train.steps 5 --name new --runs-dir {trainings._runs_dir}",
        "done",
    ]


def test_a_process_has_its_own_session_and_another_studio_can_stop_it(trainings: TrainingProcesses, gate: Gate):
    process = trainings.resume("old")
    gate.wait_until_started()
    assert os.getsid(process.pid) == process.pid != os.getsid(0)
    another = TrainingProcesses(trainings._runs_dir, trainings._folder)  # as after a restart
    found = another.find("old")
    assert found == process
    another.stop("old")
    wait_for_all(trainings)
    assert not process.is_alive
    assert process.log.splitlines()[-1] == "saved"


def test_a_run_cannot_be_started_twice(trainings: TrainingProcesses, gate: Gate):
    trainings.resume("old")
    gate.wait_until_started()
    with pytest.raises(RunError, match="already working on the run old"):
        TrainingProcesses(trainings._runs_dir, trainings._folder).resume("old")
    gate.release()
    wait_for_all(trainings)
    trainings.resume("old")
    gate.wait_until_started()
    gate.release()
    wait_for_all(trainings)


def test_a_failure_is_the_last_error_that_this_process_printed(trainings: TrainingProcesses, gate: Gate):
    process = trainings.resume("old")
    gate.wait_until_started()
    gate.release("penna: The loss is not finite.\nA finite number.\nLower the learning rate.\n")
    wait_for_all(trainings)
    failure = process.failure()
    assert failure is not None
    assert (failure.happened, failure.expected, failure.advice) == (
        "The loss is not finite.",
        "A finite number.",
        "Lower the learning rate.",
    )
    again = trainings.resume("old")
    gate.wait_until_started()
    assert again.failure() is None
    gate.release("all is well")
    wait_for_all(trainings)
    assert again.failure() is None
    assert "not finite" not in again.log


def test_a_killed_process_is_not_alive(trainings: TrainingProcesses, gate: Gate):
    process = trainings.resume("old")
    gate.wait_until_started()
    os.kill(process.pid, signal.SIGKILL)
    wait_for_all(trainings)
    assert not process.is_alive
    with pytest.raises(RunError, match="No process that a studio started is working on old"):
        trainings.stop("old")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not report memory")
def test_memory_is_reported_while_a_process_is_alive(trainings: TrainingProcesses, gate: Gate):
    process = trainings.resume("old")
    gate.wait_until_started()
    memory = process.memory
    assert memory is not None
    assert 1_000_000 < memory < 1_000_000_000
    gate.release()
    wait_for_all(trainings)
    assert process.memory is None


def test_a_taken_or_invalid_name_is_rejected_before_a_process_starts(tmp_path: Path):
    trainings = TrainingProcesses(tmp_path, tmp_path / ".studio")
    (tmp_path / "taken").mkdir()
    for name, said in (
        ("taken", "exists"),
        ("../out", "is not a valid run name"),
        (".hidden", "is not a valid run name"),
    ):
        with pytest.raises(RunError, match=said):
            trainings.train(name, ["text.txt"])
    assert trainings.all() == []


def test_a_run_of_an_experiment_has_its_own_files(trainings: TrainingProcesses, gate: Gate):
    trainings.resume("exp/arm-s1")
    gate.wait_until_started()
    assert [process.name for process in trainings.all()] == ["exp/arm-s1"]
    assert sorted(file.name for file in trainings._folder.iterdir()) == [
        f"exp%2Farm-s1.{kind}" for kind in ("json", "lock", "log")
    ]
    gate.release()
    wait_for_all(trainings)


def test_a_damaged_record_is_ignored(tmp_path: Path):
    trainings = TrainingProcesses(tmp_path, tmp_path)
    (tmp_path / "x.json").write_text('{"name": ')
    assert trainings.find("x") is None
    (tmp_path / "x.json").write_text(json.dumps({"name": "x"}))
    assert trainings.find("x") is None


def test_a_run_is_locked_while_a_process_holds_its_lock(tmp_path: Path):
    run = RunFolder(tmp_path)
    assert not is_locked(run)
    with run.lock():
        assert is_locked(run)
    assert not is_locked(run)


def test_testing_a_lock_leaves_it_free(tmp_path: Path):
    (tmp_path / ".lock").touch()
    is_locked(RunFolder(tmp_path))
    descriptor = os.open(tmp_path / ".lock", os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)
