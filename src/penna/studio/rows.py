"""A log that grows, read as it grows: each look reads what was added, and all of it where the file became another."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class GrowingRows:
    """The rows of a JSONL file."""

    def __init__(self, file: Path) -> None:
        self.rows: list[dict[str, Any]] = []
        self._file, self._inode, self._end = file, 0, 0

    def refresh(self) -> bool:
        """Look again; whether there is anything new. Half a last line waits until it is whole."""
        try:
            with open(self._file, "rb") as log:
                found = os.fstat(log.fileno())
                is_other = found.st_ino != self._inode or found.st_size < self._end
                if is_other:
                    self.rows, self._inode, self._end = [], found.st_ino, 0
                log.seek(self._end)
                whole, newline, _ = log.read().rpartition(b"\n")
        except FileNotFoundError:
            was_there, self.rows, self._inode, self._end = bool(self._inode), [], 0, 0
            return was_there
        self._end += len(whole) + len(newline)
        added = [json.loads(line) for line in whole.splitlines() if line]
        self.rows.extend(added)
        return is_other or bool(added)


def thinned(points: Sequence[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    """At most about so many of the points, evenly, the last one always among them."""
    stride = -(-len(points) // most) if points else 1
    kept = list(points[::stride])
    if points and kept[-1] != points[-1]:
        kept.append(points[-1])
    return kept
