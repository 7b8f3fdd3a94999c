"""The cache folder: prepared text, trained tokenizers and saved standard input.

An entry is named after a hash of everything it depends on. One process at a time writes it, and it appears complete or
not at all.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from penna.storage import flush, friendly_disk_errors

Progress = Callable[[str], None]
"""Called with a line of text that says what is being done."""


def cache_folder() -> Path:
    """$PENNA_CACHE, or penna in the user's cache folder."""
    if given := os.environ.get("PENNA_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "penna"


def cache_key(*parts: str) -> str:
    """The name of an entry that depends on these strings alone."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]


@contextmanager
def exclusive_lock(folder: Path, report: Progress) -> Generator[None]:
    """Be the only process that writes ``folder``; wait while another process does."""
    with friendly_disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.with_name(f".{folder.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            report("Waiting for another process that is preparing the same text")
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def atomic_folder(folder: Path) -> Generator[Path]:
    """An empty folder to write to; it is renamed to ``folder`` at the end, and removed after an error.

    A killed process leaves it under a hidden name, which the next attempt removes. The caller must hold the
    ``exclusive_lock``.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    try:
        with friendly_disk_errors(folder):
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        yield partial
        with friendly_disk_errors(folder):
            flush(partial)
            partial.rename(folder)
            flush(folder.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
