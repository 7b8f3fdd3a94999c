"""Trainings begun from a studio: processes of their own, known by a lock that they hold as long as they live."""

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
from penna.studio import jobs as module
from penna.studio.jobs import TrainingProcesses, as_typed, is_written

# Stands in for `python -m penna …`: says what it was told, holds on until its standard input of another kind ends.
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
    """Lets a stand-in go on; a named pipe, so that nobody needs to sleep."""

    def __init__(self, folder: Path) -> None:
        self.path, self.ready = folder / "gate", folder / "ready"
        os.mkfifo(self.path)
        os.mkfifo(self.ready)

    def wait_until_begun(self) -> None:
        with open(self.ready):
            pass

    def let_go(self, word: str = "done") -> None:
        with open(self.path, "w") as gate:
            gate.write(word)


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gate:
    made = Gate(tmp_path)
    monkeypatch.setenv("GATE", str(made.path))
    monkeypatch.setenv("READY", str(made.ready))
    return made


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TrainingProcesses]:
    """Trainings whose process is the stand-in."""
    begin = subprocess.Popen
    begun: list[subprocess.Popen[bytes]] = []

    def stand_in(words: list[str], **options: object) -> subprocess.Popen[bytes]:
        assert words[:3] == [sys.executable, "-m", "penna"]
        begun.append(begin([sys.executable, "-c", STAND_IN, *words[3:]], **options))  # type: ignore[call-overload]
        return begun[-1]

    monkeypatch.setattr(module.subprocess, "Popen", stand_in)
    yield TrainingProcesses(tmp_path / "runs", tmp_path / "runs" / ".studio")
    for process in begun:
        process.kill()
        process.wait()


def ended(jobs: TrainingProcesses) -> None:
    for child in jobs._children:
        child.wait(60)


def test_a_training_is_the_command_a_person_would_type_and_is_known_as_long_as_it_lives(
    jobs: TrainingProcesses, gate: Gate, monkeypatch: pytest.MonkeyPatch
):
    job = jobs.train("new", ["my text.txt", "--train.steps", "5"])
    gate.wait_until_begun()
    assert job.is_alive
    assert as_typed(job.command) == f"penna train 'my text.txt' --train.steps 5 --name new --runs-dir {jobs._runs_dir}"
    monkeypatch.chdir(jobs._runs_dir.parent)
    assert as_typed(job.command).endswith("--name new --runs-dir runs")
    assert [job.name for job in jobs.all()] == ["new"]
    gate.let_go()
    ended(jobs)
    found = jobs.find("new")
    assert found is not None
    assert not found.is_alive
    assert found.failure() is None
    assert found.log.splitlines() == [
        f"begun train my text.txt --train.steps 5 --name new --runs-dir {jobs._runs_dir}",
        "done",
    ]


def test_a_process_leads_a_session_of_its_own_and_another_studio_knows_and_stops_it(
    jobs: TrainingProcesses, gate: Gate
):
    job = jobs.resume("old")
    gate.wait_until_begun()
    assert os.getsid(job.pid) == job.pid != os.getsid(0)
    another = TrainingProcesses(jobs._runs_dir, jobs._folder)  # as after a restart: it has no child of its own
    found = another.find("old")
    assert found == job
    another.stop("old")
    ended(jobs)
    assert not job.is_alive
    assert job.log.splitlines()[-1] == "saved"


def test_two_tabs_cannot_begin_one_run_twice(jobs: TrainingProcesses, gate: Gate):
    jobs.resume("old")
    gate.wait_until_begun()
    with pytest.raises(RunError, match="at work already"):
        TrainingProcesses(jobs._runs_dir, jobs._folder).resume("old")
    gate.let_go()
    ended(jobs)
    jobs.resume("old")
    gate.wait_until_begun()
    gate.let_go()
    ended(jobs)


def test_why_it_failed_is_what_penna_said_last_in_three_parts_and_of_this_time_alone(
    jobs: TrainingProcesses, gate: Gate
):
    job = jobs.resume("old")
    gate.wait_until_begun()
    gate.let_go("penna: The loss is not finite.\nA finite number.\nLower the learning rate.\n")
    ended(jobs)
    failure = job.failure()
    assert failure is not None
    assert (failure.happened, failure.expected, failure.advice) == (
        "The loss is not finite.",
        "A finite number.",
        "Lower the learning rate.",
    )
    again = jobs.resume("old")
    gate.wait_until_begun()
    assert again.failure() is None
    gate.let_go("all is well")
    ended(jobs)
    assert again.failure() is None
    assert "not finite" not in again.log


def test_a_process_that_is_killed_is_known_to_be_gone(jobs: TrainingProcesses, gate: Gate):
    job = jobs.resume("old")
    gate.wait_until_begun()
    os.kill(job.pid, signal.SIGKILL)
    ended(jobs)
    assert not job.is_alive
    with pytest.raises(RunError, match="No process that this studio began works on old"):
        jobs.stop("old")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read where the system tells it")
def test_the_memory_of_a_training_is_told_while_it_lives(jobs: TrainingProcesses, gate: Gate):
    job = jobs.resume("old")
    gate.wait_until_begun()
    memory = job.memory
    assert memory is not None
    assert 1_000_000 < memory < 1_000_000_000
    gate.let_go()
    ended(jobs)
    assert job.memory is None


def test_a_name_that_is_taken_or_no_name_is_refused_before_anything_begins(tmp_path: Path):
    jobs = TrainingProcesses(tmp_path, tmp_path / ".studio")
    (tmp_path / "taken").mkdir()
    for name, said in (("taken", "exists"), ("../out", "is not a valid run name"), (".hidden", "cannot name a run")):
        with pytest.raises(RunError, match=said):
            jobs.train(name, ["text.txt"])
    assert jobs.all() == []


def test_a_run_of_an_experiment_has_files_of_its_own(jobs: TrainingProcesses, gate: Gate):
    jobs.resume("exp/arm-s1")
    gate.wait_until_begun()
    assert [job.name for job in jobs.all()] == ["exp/arm-s1"]
    assert sorted(file.name for file in jobs._folder.iterdir()) == [
        f"exp%2Farm-s1.{kind}" for kind in ("json", "lock", "log")
    ]
    gate.let_go()
    ended(jobs)


def test_a_record_that_is_damaged_is_no_training(tmp_path: Path):
    jobs = TrainingProcesses(tmp_path, tmp_path)
    (tmp_path / "x.json").write_text('{"name": ')
    assert jobs.find("x") is None
    (tmp_path / "x.json").write_text(json.dumps({"name": "x"}))
    assert jobs.find("x") is None


def test_a_run_is_written_while_a_process_holds_its_lock(tmp_path: Path):
    run = RunFolder(tmp_path)
    assert not is_written(run)
    with run.lock():
        assert is_written(run)
    assert not is_written(run)


def test_looking_at_a_lock_leaves_it_free(tmp_path: Path):
    (tmp_path / ".lock").touch()
    is_written(RunFolder(tmp_path))
    descriptor = os.open(tmp_path / ".lock", os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)
