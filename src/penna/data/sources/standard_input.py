"""Standard input, saved as a file: training reads its text several times, and a resumed run must find it again."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import IO, Literal

from penna.data.cache import cache_folder
from penna.data.sources.files import Format
from penna.errors import DataError
from penna.storage import flush, friendly_disk_errors

_CHUNK = 1 << 20
_MAGIC = {b"\x1f\x8b": ".gz", b"\xfd7zXZ\0": ".xz", b"\x28\xb5\x2f\xfd": ".zst"}


def save_standard_input(stream: IO[bytes], format: Literal["auto"] | Format = "auto") -> Path:
    """Copy a stream into the cache folder, under the SHA-256 of its bytes and the suffix of its format.

    Compressed input, recognized by its first bytes, stays compressed. Without a format, input whose first line is a
    JSON object is JSON lines, and anything else plain text. Raises DataError if there is no input, DeviceError if the
    disk is full.
    """
    head = b"" if stream.isatty() else stream.read(_CHUNK)
    if not head:
        raise DataError(
            "The standard input is empty.",
            "The path - reads text from a pipe: `zcat my.txt.gz | penna train -`.",
            "Pipe text in, or name a file.",
        )
    folder = cache_folder() / "standard-input"
    digest = hashlib.sha256()
    with friendly_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=folder)
        try:
            with open(descriptor, "wb") as copy:
                chunk = head
                while chunk:
                    digest.update(chunk)
                    copy.write(chunk)
                    chunk = stream.read(_CHUNK)
                copy.flush()
                os.fsync(copy.fileno())
            file = folder / f"{digest.hexdigest()}{_suffix(head, format)}"
            os.replace(temporary, file)
        finally:
            Path(temporary).unlink(missing_ok=True)
        flush(folder)
    return file


def _suffix(head: bytes, format: Literal["auto"] | Format) -> str:
    compression = next((suffix for magic, suffix in _MAGIC.items() if head.startswith(magic)), "")
    if format == "auto":
        format = "jsonl" if not compression and _starts_with_record(head) else "txt"
    return f".{format}{compression}"


def _starts_with_record(head: bytes) -> bool:
    try:
        return isinstance(json.loads(head.lstrip().split(b"\n", 1)[0]), dict)
    except (ValueError, RecursionError):
        return False
