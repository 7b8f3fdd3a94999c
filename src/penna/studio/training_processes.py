"""Training processes that a studio starts. They continue when the studio ends.

A training is the command that a person would type (``penna train``, ``penna resume``), in a session of its own. The
studio's folder holds three files for it: NAME.json (the command), NAME.log (its output) and NAME.lock. The process
inherits the lock and holds it as long as it lives, so every studio and tab knows whether it runs, no process ID is
mistaken for another's, and no run is started twice.
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

_LOG_TAIL = 20_000  # bytes of the log that are read
_PROBE_LOCK = threading.Lock()  # testing a lock holds it briefly, which must not keep a training from it


@dataclass(frozen=True)
class TrainingProcess:
    """One training process that a studio started."""

    name: str
    folder: Path  # the studio's own
    pid: int
    command: tuple[str, ...]  # as a person would type it
    begun: datetime
    log_begins: int  # size of the log before this process, in bytes

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return _is_held(_file(self.folder, self.name, "lock"))

    @property
    def log(self) -> str:
        """The end of its output."""
        file = _file(self.folder, self.name, "log")
        if not file.exists():
            return ""
        with open(file, "rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(self.log_begins, size - _LOG_TAIL))
            return log.read().decode("utf-8", errors="replace")

    @property
    def last_output_time(self) -> float:
        """When it last printed something, in seconds since 1970; 0 if never."""
        try:
            return _file(self.folder, self.name, "log").stat().st_mtime
        except OSError:
            return 0.0

    @property
    def memory(self) -> int | None:
        """Resident memory in bytes; None if the process has ended or the system does not report it."""
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
        """The error that Penna printed last; None if the process runs or printed none."""
        if self.is_alive:
            return None
        lines = self.log.splitlines()
        starts = [number for number, line in enumerate(lines) if line.startswith("penna: ")]
        if not starts:
            return None
        parts = [line.strip() for line in lines[starts[-1] :] if line.strip()]
        parts[0] = parts[0].removeprefix("penna: ")
        return RunError(parts[0], " ".join(parts[1:-1]), parts[-1] if len(parts) > 1 else "")


_RECORD = TypeAdapter(TrainingProcess)


class TrainingProcesses:
    """The training processes of one runs folder."""

    def __init__(self, runs_dir: Path, folder: Path) -> None:
        self._runs_dir, self._folder = runs_dir, folder
        self._children: list[subprocess.Popen[bytes]] = []  # polled, so that none becomes a zombie

    def all(self) -> list[TrainingProcess]:
        """The latest process of each run, by name."""
        names = sorted(unquote(file.stem) for file in self._folder.glob("*.json"))
        return [process for process in map(self.find, names) if process is not None]

    def find(self, name: str) -> TrainingProcess | None:
        """The latest process of a run; None if no studio started one, or its record is damaged."""
        self._children = [child for child in self._children if child.poll() is None]
        file = _file(self._folder, name, "json")
        try:
            record = json.loads(file.read_bytes())
            return _RECORD.validate_python({**record, "name": name, "folder": self._folder})
        except (OSError, ValueError, TypeError):
            return None

    def train(self, name: str, arguments: Sequence[str]) -> TrainingProcess:
        """Start a new run. ``arguments`` follow ``penna train``: recipe or texts, and recipe fields.

        Raises RunError if the name is taken or a process is already working on it.
        """
        check_name_is_free(self._runs_dir, name, overwrite=False)
        return self._start(name, self.train_command(name, arguments))

    def train_command(self, name: str, arguments: Sequence[str]) -> tuple[str, ...]:
        """The whole command that ``train`` runs."""
        return ("penna", "train", *arguments, "--name", name, "--runs-dir", str(self._runs_dir))

    def resume(self, name: str) -> TrainingProcess:
        """Resume a run. Raises RunError if a process is already working on it."""
        return self._start(name, ("penna", "resume", str(self._runs_dir / name)))

    def stop(self, name: str) -> None:
        """Ask a process to finish its step, save and end. Raises RunError if no studio started it."""
        process = self.find(name)
        if process is None or not process.is_alive:
            raise RunError(
                f"No process that a studio started is working on {name}.",
                "A page can stop only a training that was started or resumed from a page.",
                "If it runs in a terminal, press Ctrl-C there to save and stop it.",
            )
        os.kill(process.pid, signal.SIGTERM)

    def _start(self, name: str, command: tuple[str, ...]) -> TrainingProcess:
        lock, log = (_file(self._folder, name, kind) for kind in ("lock", "log"))
        with friendly_disk_errors(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                with _PROBE_LOCK:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunError(
                    f"A process is already working on the run {name}.",
                    "One process at a time can train a run.",
                    "Open its page to see the progress.",
                ) from None
            with friendly_disk_errors(log), open(log, "ab") as output:
                log_begins = output.tell()
                child = subprocess.Popen(
                    [sys.executable, "-m", *command],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=(descriptor,),
                    start_new_session=True,
                )
        finally:
            os.close(descriptor)
        self._children.append(child)
        process = TrainingProcess(name, self._folder, child.pid, command, datetime.now(UTC), log_begins)
        write_json(_file(self._folder, name, "json"), _RECORD.dump_python(process, mode="json", exclude={"folder"}))
        return process


def shell_command(command: Sequence[str]) -> str:
    """A command as a line for a shell, with paths relative to the current folder."""
    return shlex.join(map(relative_path, command))


def relative_path(path: str) -> str:
    """A path relative to the current folder if it is inside; otherwise unchanged."""
    return path.removeprefix(f"{Path.cwd()}{os.sep}")


def is_locked(run: RunFolder) -> bool:
    """Whether any process holds a run for writing."""
    return _is_held(run.path / ".lock")


def _is_held(lock: Path) -> bool:
    try:
        descriptor = os.open(lock, os.O_RDONLY)
    except OSError:
        return False
    with _PROBE_LOCK:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
    return False


def _file(folder: Path, name: str, kind: str) -> Path:
    return folder / f"{quote(name, safe='')}.{kind}"
