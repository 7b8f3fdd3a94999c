"""A log that grows, read as it grows: each look reads what was added, and all of it where the file became another."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from penna.runs.metrics import read_rows


class GrowingRows:
    """The rows of a JSONL file: all of them, or those to be kept, and the last one in any case."""

    def __init__(self, file: Path, keep: Callable[[dict[str, Any]], bool] = lambda _: True) -> None:
        self.rows: list[dict[str, Any]] = []
        self.last: dict[str, Any] | None = None
        self.changed = 0.0  # seconds since 1970
        self._file, self._keep, self._inode, self._end = file, keep, 0, 0

    def refresh(self) -> bool:
        """Look again; whether there is anything new. Half a last line waits until it is whole.

        Raises RunError for a line that is not JSON, at this look and at every later one.
        """
        try:
            with open(self._file, "rb") as log:
                found = os.fstat(log.fileno())
                is_other = found.st_ino != self._inode or found.st_size < self._end
                if is_other:
                    self._begin(found.st_ino)
                log.seek(self._end)
                whole, newline, _ = log.read().rpartition(b"\n")
        except FileNotFoundError:
            was_there = bool(self._inode)
            self._begin(0)
            return was_there
        added = self._read(whole)
        self._end += len(whole) + len(newline)
        self.changed = found.st_mtime
        self.rows.extend(filter(self._keep, added))
        self.last = added[-1] if added else self.last
        return is_other or bool(added)

    def _begin(self, inode: int) -> None:
        """Know nothing of the file as it was."""
        self.rows, self.last, self.changed, self._inode, self._end = [], None, 0.0, inode, 0

    def _read(self, lines: bytes) -> list[dict[str, Any]]:
        try:
            rows = [json.loads(line) for line in lines.split(b"\n") if line]
            if not all(isinstance(row, dict) for row in rows):
                raise ValueError("a row is no object")
        except ValueError:
            read_rows(self._file)  # says which line it is
            raise
        return rows


def thinned(points: Sequence[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    """At most about so many of the points, evenly, the last one always among them."""
    stride = -(-len(points) // most) if points else 1
    kept = list(points[::stride])
    if points and kept[-1] != points[-1]:
        kept.append(points[-1])
    return kept
