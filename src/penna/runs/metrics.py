"""The metrics log: one JSON object a line, appended as the run goes.

A kill can leave half a last line; it is left out on reading and cut off when a run goes on. Rows behind the checkpoint
that a run goes on from are dropped, for they will be written again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from penna.errors import RunError
from penna.storage import friendly_disk_errors, write_atomically


def append_row(path: Path, row: dict[str, Any]) -> None:
    """Add one row to a JSONL file."""
    with friendly_disk_errors(path), open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """All whole rows of a JSONL file; none where it does not exist."""
    return list(iter_rows(path))


def iter_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The same row by row, for whoever needs the first of a kind."""
    if not path.exists():
        return
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                row = json.loads(line) if line.strip() else None
            except ValueError as error:
                if not line.endswith(b"\n"):  # a kill cut it short, perhaps in half a character
                    return
                raise RunError(
                    f"{path}:{number} is not JSON: {line[:60].decode(errors='replace')!r}.",
                    "One JSON object a line.",
                    "Remove that line; the rest of the log stays usable.",
                ) from error
            if row is None:
                continue
            if not isinstance(row, dict):
                raise RunError(
                    f"{path}:{number} is no JSON object: {line[:60].decode(errors='replace')!r}.",
                    "One JSON object a line.",
                    "Remove that line; the rest of the log stays usable.",
                )
            yield row


def drop_rows_after(path: Path, step: int) -> None:
    """Keep only rows up to ``step``."""
    if path.exists():
        rows = [row for row in read_rows(path) if row.get("step", 0) <= step]
        write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
