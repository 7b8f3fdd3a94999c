"""Files written whole or not at all.

A file is written beside its place under a temporary name, flushed to the disk, and renamed over it; a folder likewise.
A full disk is told as such, and nothing half-written is left behind.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from penna.errors import DeviceError

# EFBIG is a file-size limit of the shell (ulimit -f), which a person mends the same way.
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def is_disk_full(error: BaseException) -> bool:
    """Whether an error means that the disk, a quota or a file-size limit is full.

    safetensors wraps the operating system's error in its own, as text.
    """
    if isinstance(error, OSError) and error.errno in _NO_SPACE:
        return True
    return any(f"os error {number}" in str(error) for number in _NO_SPACE)


@contextmanager
def friendly_disk_errors(path: Path) -> Generator[None]:
    """Turn the operating system's errors about writing ``path`` into Penna's."""
    try:
        yield
    except Exception as error:
        if is_disk_full(error):
            free = shutil.disk_usage(_existing(path)).free
            raise DeviceError(
                f"No space was left while writing {path} ({free / 1e6:.0f} MB free on that disk).",
                "The file is written whole or not at all; what stood there before is untouched.",
                "Free some space (old runs under runs/, for instance), or write to another disk.",
            ) from error
        if isinstance(error, PermissionError) or (isinstance(error, OSError) and error.errno == errno.EROFS):
            raise DeviceError(
                f"{path} may not be written: {error.strerror}.",
                "The folder must be writable.",
                "Choose another folder, or change its permissions.",
            ) from error
        if isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError) and _concerns(error, path):
            raise DeviceError(
                f"{path} cannot be written: {error.strerror}.",
                "A file, or a folder, in a folder that exists.",
                "Make that folder, or choose another place.",
            ) from error
        raise


def _concerns(error: OSError, path: Path) -> bool:
    """Whether an error is about what was to be written at a path or beside it, not about something that is read."""
    return error.filename is not None and Path(str(error.filename)).is_relative_to(path.parent)


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def flush(path: Path) -> None:
    """Make sure a file's or folder's content is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, content: str | bytes, mode: int = 0o666) -> None:
    """Write a file so that it is there whole or as it was before. Links are followed; devices are written to.

    ``mode`` says who may do what with it, less what the umask takes away.
    """
    if not path.name or path.is_dir():
        raise DeviceError(
            f"{path} cannot be written: it is a folder.", "The name of a file.", f"Name one in it: {path / 'name'}."
        )
    data = content.encode("utf-8") if isinstance(content, str) else content
    if path.is_symlink():
        path = Path(os.path.realpath(path))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with friendly_disk_errors(path):
        if path.exists() and not path.is_file():
            with open(path, "wb") as device:
                device.write(data)
            return
        try:
            with open(temporary, "wb", opener=partial(os.open, mode=mode)) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        flush(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, whole or not at all."""
    write_atomically(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def update_symlink(link: Path, target: str) -> None:
    """Make ``link`` a symbolic link to ``target`` (relative to it), replacing the old one in one step."""
    temporary = link.with_name(f".{link.name}.{os.getpid()}.tmp")
    with friendly_disk_errors(link):
        temporary.unlink(missing_ok=True)
        try:
            temporary.symlink_to(target)
            os.replace(temporary, link)
        finally:
            temporary.unlink(missing_ok=True)
        flush(link.parent)


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
