"""Atomic file writes, and JSON.

A file is written under a temporary name, flushed to disk and renamed, so that readers see the old content or the new.
Full disks and missing permissions raise DeviceError.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

from penna.errors import DeviceError

# EFBIG means the shell's file-size limit (ulimit -f); the remedy is the same.
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def is_disk_full(error: BaseException) -> bool:
    """Whether the disk, a quota or a file-size limit is full.

    safetensors reports the system's error only as text.
    """
    if isinstance(error, OSError) and error.errno in _NO_SPACE:
        return True
    return any(f"os error {number}" in str(error) for number in _NO_SPACE)


@contextmanager
def friendly_disk_errors(path: Path) -> Generator[None]:
    """Turn the operating system's errors about writing ``path`` into DeviceErrors."""
    try:
        yield
    except Exception as error:
        if is_disk_full(error):
            raise DeviceError(
                f"The disk is full: {path} was not written ({free_disk(path) / 1e6:.0f} MB free).",
                "The previous file is unchanged.",
                "Free some space (for example, delete old runs) or choose another disk.",
            ) from error
        if isinstance(error, PermissionError) or (isinstance(error, OSError) and error.errno == errno.EROFS):
            raise DeviceError(
                f"{path} cannot be written: {error.strerror}.",
                "The folder must be writable.",
                "Change its permissions or choose another folder.",
            ) from error
        if isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError) and _concerns(error, path):
            raise DeviceError(
                f"{path} cannot be written: {error.strerror}.",
                "Its folder must exist.",
                "Create the folder or choose another path.",
            ) from error
        raise


def _concerns(error: OSError, path: Path) -> bool:
    """Whether an error is about ``path`` or its folder, and not about some file that was being read."""
    return error.filename is not None and Path(str(error.filename)).is_relative_to(path.parent)


def free_disk(path: Path) -> int:
    """The free bytes of the disk that holds ``path``, or will hold it."""
    path = path.resolve()
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def flush(path: Path) -> None:
    """Flush a file or folder to disk (fsync)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, content: str | bytes, mode: int = 0o666) -> None:
    """Write a file atomically, following links. A device (``/dev/stdout``) is written directly.

    ``mode`` is the permission of a new file, before the umask.
    """
    if not path.name or path.is_dir():
        raise DeviceError(
            f"{path} is a folder.", "A file name is needed.", f"Name a file in it, for example {path / 'name'}."
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
    """Write a value (see ``to_json``) as indented JSON, atomically."""
    write_atomically(path, json.dumps(to_json(value), indent=2, ensure_ascii=False) + "\n")


def to_json(value: Any) -> Any:
    """Turn dataclasses, mappings, sequences, paths, pydantic models and numpy values into plain JSON values.

    A dataclass becomes a dictionary of its fields, less those with ``metadata={"json": False}``, and of the properties
    that its class names in ``json_properties``. The keys of a field with ``metadata={"json": "inline"}`` are merged
    into that dictionary. JSON has no infinity and no NaN: both become None.
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_json(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "model_dump"):  # pydantic
        return to_json(value.model_dump(mode="json"))
    if hasattr(value, "tolist"):  # numpy
        return to_json(value.tolist())
    if is_dataclass(value) and not isinstance(value, type):
        found: dict[str, Any] = {}
        for field in fields(value):
            form = field.metadata.get("json", True)
            if form:
                item = to_json(getattr(value, field.name))
                found |= item if form == "inline" else {field.name: item}
        return found | {name: to_json(getattr(value, name)) for name in getattr(value, "json_properties", ())}
    raise TypeError(f"{type(value).__name__} has no JSON form")


def update_symlink(link: Path, target: str) -> None:
    """Point ``link`` to ``target``, a path relative to the link, atomically."""
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
    """The SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
