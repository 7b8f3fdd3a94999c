"""Where Penna keeps what it can make again: prepared text, tokenizers learned on the way, what was piped in."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from penna.storage import flush, friendly_disk_errors


def cache_folder() -> Path:
    """$PENNA_CACHE, or penna under the user's cache folder."""
    if given := os.environ.get("PENNA_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "penna"


# MERGED data.making: How what is prepared gets into the cache: named by all it depends on, made by one process,
# whole or not at all.


Progress = Callable[[str], None]


def cache_key(*parts: str) -> str:
    """The name of what is made from these parts and nothing else."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]


@contextmanager
def exclusive_lock(folder: Path, report: Progress) -> Generator[None]:
    """Be the only process that makes ``folder``; where another is at it, wait until it is done or dead."""
    with friendly_disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.with_name(f".{folder.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            report("Another process is preparing the same text: waiting for it")
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def atomic_folder(folder: Path) -> Generator[Path]:
    """An empty folder to write to, which gets the name ``folder`` in one step at the end, and on an error is removed.

    A kill leaves it beside ``folder`` under a name of its own, where the next attempt removes it. Whoever writes must
    be ``alone``.
    """
    growing = folder.with_name(f".{folder.name}.partial")
    try:
        with friendly_disk_errors(folder):
            shutil.rmtree(growing, ignore_errors=True)
            growing.mkdir(parents=True)
        yield growing
        with friendly_disk_errors(folder):
            flush(growing)
            growing.rename(folder)
            flush(folder.parent)
    finally:
        shutil.rmtree(growing, ignore_errors=True)
