"""The split into training and validation: the method, and the part of each text.

The pass that counts a text decides the split. Later passes must read the same text; the functions at the end tell
cheaply whether they do.
"""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Literal

from penna.config.sections import DataConfig
from penna.data.sources.reader import Part, find_sources
from penna.errors import DataError

SplitMethod = Literal["document", "position", "files"]
Stamps = tuple[tuple[str, int, int, int, int], ...]
"""Per file: path, size, inode, modification time, change time."""

AUTO_DOCUMENTS = 20  # fewer documents than this are split by position
_RECENT = 2_000_000_000  # nanoseconds; file systems keep times to two seconds at worst


class TextChangedError(DataError):
    """The text differs from the text that was counted."""


def split_method(data: DataConfig, documents: int) -> SplitMethod:
    """How a source of ``documents`` documents or records is split."""
    if data.valid_path:
        return "files"
    if data.split != "auto":
        return data.split
    return "document" if documents >= AUTO_DOCUMENTS else "position"


def goes_to_validation(text: str, fraction: float) -> bool:
    """Whether the hash of a text puts it among the ``fraction`` of texts kept for validation.

    Exact duplicates therefore never end up in both parts.
    """
    digest = hashlib.blake2b(text.encode("utf-8"), digest_size=8).digest()
    return int.from_bytes(digest, "big") < fraction * 2**64


def describe_source(data: DataConfig, part: Part) -> str:
    """The paths of a part, for a message."""
    if part == "valid":
        return ", ".join(data.valid_path)
    return "Python's own documentation" if data.source == "python" else ", ".join(data.path)


def source_stamps(data: DataConfig, part: Part) -> Stamps | None:
    """Stamps of all files of a part; equal stamps before and after a pass prove that no file changed.

    None if they would prove nothing: for a hub dataset, a file that vanished, and a file written so recently that a
    further write could leave the same time. The caller then compares hashes instead.
    """
    if data.source == "python" and part == "train":
        return ()
    recent = time.time_ns() - _RECENT
    stamps: list[tuple[str, int, int, int, int]] = []
    for source in find_sources(data, part):
        if not isinstance(source, Path):
            return None
        try:
            found = os.stat(source)
        except OSError:
            return None
        if found.st_mtime_ns > recent:
            return None
        stamps.append((str(source), found.st_size, found.st_ino, found.st_mtime_ns, found.st_ctime_ns))
    return tuple(stamps)


def changed_error(what: str) -> TextChangedError:
    """The error for a source, such as "The text in a.txt", that changed between two passes."""
    return TextChangedError(
        f"{what} changed while it was being prepared.",
        "Every pass must read the same text.",
        "Run the command again when nothing writes to it any more.",
    )
