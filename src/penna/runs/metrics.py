"""The metrics log: one JSON object per line, appended as the run proceeds.

A kill can leave half a line at the end; readers skip it. Resuming drops it and all rows after the checkpoint, which
will be written again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from penna.errors import RunError
from penna.storage import friendly_disk_errors, write_atomically


def append_row(path: Path, row: dict[str, Any]) -> None:
    """Append a row to a JSONL file."""
    with friendly_disk_errors(path), open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """All complete rows of a JSONL file; none if it does not exist."""
    return list(iter_rows(path))


def iter_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of ``read_rows``, one at a time."""
    if not path.exists():
        return
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                row = json.loads(line) if line.strip() else None
            except ValueError as error:
                if not line.endswith(b"\n"):  # a kill cut it short, perhaps within a character
                    return
                raise RunError(
                    f"{path}:{number} is not JSON: {line[:60].decode(errors='replace')!r}.",
                    "Each line must be a JSON object.",
                    "Remove that line; the rest of the log stays usable.",
                ) from error
            if row is None:
                continue
            if not isinstance(row, dict):
                raise RunError(
                    f"{path}:{number} is not a JSON object: {line[:60].decode(errors='replace')!r}.",
                    "Each line must be a JSON object.",
                    "Remove that line; the rest of the log stays usable.",
                )
            yield row


def drop_rows_after(path: Path, step: int) -> None:
    """Drop the rows after ``step``, and half a line at the end."""
    if path.exists():
        rows = [row for row in read_rows(path) if row.get("step", 0) <= step]
        write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
