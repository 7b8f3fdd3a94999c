"""Trainings that a studio begins: processes of their own, which go on when the studio ends.

A training is the command a person would type (``penna train``, ``penna resume``) in a session of its own. What is known
of it lies in the studio's folder among the runs: NAME.json says what was begun, NAME.log what it said, and NAME.lock is
held by the process itself, which inherits it, for as long as it lives. So any studio, and any of its tabs, knows
whether it is at work, no process id is ever taken for another's, and two cannot be begun at once.
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, unquote

from pydantic import TypeAdapter

from penna.errors import PennaError, RunError
from penna.runs.folder import RunFolder, check_name_is_free
from penna.storage import friendly_disk_errors, write_json

_TAIL = 20_000  # bytes of a log that are read
_PROBING = threading.Lock()  # a look at a lock takes it for a moment, which must not keep a training from it


@dataclass(frozen=True)
class TrainingProcess:
    """One training that was begun here."""

    name: str
    folder: Path  # the studio's own
    pid: int
    command: tuple[str, ...]  # as a person would type it
    begun: datetime
    log_begins: int  # bytes of the log that stood there before

    @property
    def is_alive(self) -> bool:
        """Whether its process is at work."""
        return _is_held(_file(self.folder, self.name, "lock"))

    @property
    def log(self) -> str:
        """The end of what it said."""
        file = _file(self.folder, self.name, "log")
        if not file.exists():
            return ""
        with open(file, "rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(self.log_begins, size - _TAIL))
            return log.read().decode("utf-8", errors="replace")

    @property
    def last_said(self) -> float:
        """When it last said something, in seconds since 1970; 0 where it never did."""
        try:
            return _file(self.folder, self.name, "log").stat().st_mtime
        except OSError:
            return 0.0

    @property
    def memory(self) -> int | None:
        """Bytes of memory its process holds; None where it has ended, or the system does not tell."""
        if not self.is_alive:
            return None
        try:
            status = Path(f"/proc/{self.pid}/status").read_text()
        except OSError:
            return None
        for line in status.splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        return None

    def failure(self) -> PennaError | None:
        """Why it failed: what Penna said last. None where it is at work or said nothing of a failure."""
        if self.is_alive:
            return None
        lines = self.log.splitlines()
        said = [number for number, line in enumerate(lines) if line.startswith("penna: ")]
        if not said:
            return None
        parts = [line.strip() for line in lines[said[-1] :] if line.strip()]
        parts[0] = parts[0].removeprefix("penna: ")
        return RunError(parts[0], " ".join(parts[1:-1]), parts[-1] if len(parts) > 1 else "")


_JOB = TypeAdapter(TrainingProcess)


class TrainingProcesses:
    """The trainings of one folder of runs."""

    def __init__(self, runs_dir: Path, folder: Path) -> None:
        self._runs_dir, self._folder = runs_dir, folder
        self._children: list[subprocess.Popen[bytes]] = []  # to be waited for when they end

    def all(self) -> list[TrainingProcess]:
        """The last training that was begun for each run, by name."""
        names = sorted(unquote(file.stem) for file in self._folder.glob("*.json"))
        return [job for job in map(self.find, names) if job is not None]

    def find(self, name: str) -> TrainingProcess | None:
        """The last training that was begun for a run; None where it was begun elsewhere, or its record is damaged."""
        self._children = [child for child in self._children if child.poll() is None]
        file = _file(self._folder, name, "json")
        try:
            said = json.loads(file.read_bytes())
            return _JOB.validate_python({**said, "name": name, "folder": self._folder})
        except (OSError, ValueError, TypeError):
            return None

    def train(self, name: str, words: Sequence[str]) -> TrainingProcess:
        """Begin a new run. ``words`` are what stands behind ``penna train``: recipe or texts, and recipe fields.

        Raises RunError where the name is taken or being begun.
        """
        check_name_is_free(self._runs_dir, name, overwrite=False)
        return self._begin(name, self.train_words(name, words))

    def train_words(self, name: str, words: Sequence[str]) -> tuple[str, ...]:
        """The whole command of a new run, to be shown as it will be begun."""
        return ("penna", "train", *words, "--name", name, "--runs-dir", str(self._runs_dir))

    def resume(self, name: str) -> TrainingProcess:
        """Go on with a run. Raises RunError where a process is at work on it."""
        return self._begin(name, ("penna", "resume", str(self._runs_dir / name)))

    def stop(self, name: str) -> None:
        """Ask a training to finish its step, save and end. Raises RunError where it was begun elsewhere."""
        job = self.find(name)
        if job is None or not job.is_alive:
            raise RunError(
                f"No process that this studio began works on {name}.",
                "A training that was begun or gone on with from a page.",
                "Where a terminal trains it, Ctrl-C there stops it and saves.",
            )
        os.kill(job.pid, signal.SIGTERM)

    def _begin(self, name: str, command: tuple[str, ...]) -> TrainingProcess:
        lock, log = (_file(self._folder, name, kind) for kind in ("lock", "log"))
        with friendly_disk_errors(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            held = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                with _PROBING:
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunError(
                    f"The run {name} is at work already.",
                    "One process trains a run at a time.",
                    "Look at its page; it shows how far it is.",
                ) from None
            with friendly_disk_errors(log), open(log, "ab") as output:
                begins = output.tell()
                child = subprocess.Popen(
                    [sys.executable, "-m", *command],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=(held,),
                    start_new_session=True,
                )
        finally:
            os.close(held)
        self._children.append(child)
        job = TrainingProcess(name, self._folder, child.pid, command, datetime.now(UTC), begins)
        write_json(_file(self._folder, name, "json"), _JOB.dump_python(job, mode="json", exclude={"folder"}))
        return job


def as_typed(command: Sequence[str]) -> str:
    """A command as a line of a shell, with paths told from here."""
    return shlex.join(map(from_here, command))


def from_here(path: str) -> str:
    """A path below the folder that the studio was started in, told from there; anything else as it is."""
    return path.removeprefix(f"{Path.cwd()}{os.sep}")


def is_written(run: RunFolder) -> bool:
    """Whether a process holds a run for writing, wherever it was begun."""
    return _is_held(run.path / ".lock")


def _is_held(lock: Path) -> bool:
    try:
        probe = os.open(lock, os.O_RDONLY)
    except OSError:
        return False
    with _PROBING:
        try:
            fcntl.flock(probe, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(probe)
    return False


def _file(folder: Path, name: str, kind: str) -> Path:
    return folder / f"{quote(name, safe='')}.{kind}"
