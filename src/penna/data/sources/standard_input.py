"""Text that is piped in, kept as a file: a run reads its text more than once, and a resumed run must find it again."""

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
_PACKED = {b"\x1f\x8b": ".gz", b"\xfd7zXZ\0": ".xz", b"\x28\xb5\x2f\xfd": ".zst"}


def save_standard_input(stream: IO[bytes], format: Literal["auto"] | Format = "auto") -> Path:
    """Copy a stream into the cache folder, under the SHA-256 of its bytes and the ending of its format.

    Packed input keeps its packing, told by its first bytes. Without a format, input whose first line is a JSON object
    is taken as JSON lines, and anything else as plain text. The same input is kept once. Raises DataError where
    nothing is piped in, DeviceError where the disk is full.
    """
    head = b"" if stream.isatty() else stream.read(_CHUNK)
    if not head:
        raise DataError(
            "Nothing came in on the standard input.",
            "With - as the path, text is piped in: `zcat my.txt.gz | penna train -`.",
            "Pipe something in, or give a file.",
        )
    folder = cache_folder() / "standard-input"
    digest = hashlib.sha256()
    with friendly_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=folder)
        try:
            with open(descriptor, "wb") as kept:
                chunk = head
                while chunk:
                    digest.update(chunk)
                    kept.write(chunk)
                    chunk = stream.read(_CHUNK)
                kept.flush()
                os.fsync(kept.fileno())
            file = folder / f"{digest.hexdigest()}{_ending(head, format)}"
            os.replace(temporary, file)
        finally:
            Path(temporary).unlink(missing_ok=True)
        flush(folder)
    return file


def _ending(head: bytes, format: Literal["auto"] | Format) -> str:
    packed = next((ending for magic, ending in _PACKED.items() if head.startswith(magic)), "")
    if format == "auto":
        format = "jsonl" if not packed and _begins_with_record(head) else "txt"
    return f".{format}{packed}"


def _begins_with_record(head: bytes) -> bool:
    try:
        return isinstance(json.loads(head.lstrip().split(b"\n", 1)[0]), dict)
    except (ValueError, RecursionError):
        return False
