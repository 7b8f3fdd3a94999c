"""Token shards: token ids flat on disk, with a manifest that says what they are.

A folder holds ``train-00000.bin``, ``valid-00000.bin`` … (little-endian uint16, or uint32 for large vocabularies) and
``manifest.json`` with counts, bytes and words of source text, hashes and checksums. `penna.data.shard_writer` writes
it; here it is read: checksums are verified, and the files mapped into memory as one sequence of tokens.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penna.errors import DataError
from penna.storage import sha256_of

MANIFEST = "manifest.json"
DTYPES = ("<u2", "<u4")


@dataclass(frozen=True)
class PartManifest:
    """One part (train or valid) of a shard folder."""

    tokens: int
    documents: int
    bytes: int  # UTF-8 bytes of the source text
    words: int  # white-space words and line ends of the source text
    files: dict[str, str]  # file name -> SHA-256


@dataclass(frozen=True)
class Manifest:
    """What a shard folder holds."""

    dtype: str
    tokenizer_hash: str
    content_hash: str
    parts: dict[str, PartManifest]


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a shard folder. Raises DataError where it is missing or damaged."""
    try:
        return manifest_from(json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise _damaged(folder / MANIFEST, str(error)) from error


def manifest_from(raw: dict[str, Any]) -> Manifest:
    """A manifest from its JSON form. Raises TypeError, KeyError or AttributeError where it is none."""
    parts = {name: PartManifest(**part) for name, part in raw["parts"].items()}
    return replace(Manifest(**raw), parts=parts)


def check_files(folder: Path, manifest: Manifest, part: str) -> None:
    """Compare the files of a part with their checksums and count. Raises DataError where they differ."""
    if part not in manifest.parts or manifest.dtype not in DTYPES:
        raise _damaged(folder / MANIFEST, f"it names no part {part!r}, or an unknown type {manifest.dtype!r}")
    held = 0
    for name, checksum in manifest.parts[part].files.items():
        file = folder / name
        try:
            actual = sha256_of(file)
            held += file.stat().st_size
        except OSError as error:
            raise _damaged(file, error.strerror or str(error)) from error
        if actual != checksum:
            raise _damaged(file, "it was truncated or altered")
    tokens = manifest.parts[part].tokens
    if held != tokens * np.dtype(manifest.dtype).itemsize:
        raise _damaged(folder / MANIFEST, f"its shards do not hold the {tokens} tokens it counts")


class TokenStream:
    """The token ids of one part, read from its shards as one sequence."""

    def __init__(self, folder: Path, part: str) -> None:
        manifest = read_manifest(folder)
        check_files(folder, manifest, part)
        self.part = manifest.parts[part]
        files = [folder / name for name in self.part.files]
        self._shards: list[NDArray[Any]] = [np.memmap(file, dtype=manifest.dtype, mode="r") for file in files]
        self._ends = np.cumsum([len(shard) for shard in self._shards], dtype=np.int64)

    def __len__(self) -> int:
        return self.part.tokens

    def windows(self, starts: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        """``count`` token ids from each start on: (len(starts), count)."""
        if len(self._shards) == 1:
            return self._shards[0][(starts[:, None] + np.arange(count)) % len(self)].astype(np.int64)
        windows = np.empty((len(starts), count), dtype=np.int64)
        starts = starts % len(self)
        shards = np.searchsorted(self._ends, starts, side="right")
        left = self._ends[shards] - starts  # tokens from each start to the end of its shard
        for row, (start, shard, inside) in enumerate(zip(starts.tolist(), shards.tolist(), left.tolist(), strict=True)):
            if inside >= count:
                tokens = self._shards[shard]
                windows[row] = tokens[len(tokens) - inside : len(tokens) - inside + count]
            else:
                windows[row] = self.read(start, count)
        return windows

    def read(self, start: int, count: int) -> NDArray[np.int64]:
        """``count`` token ids from position ``start`` on; behind the end it goes on from the beginning."""
        pieces: list[NDArray[Any]] = []
        while count > 0:
            start %= len(self)
            shard = int(np.searchsorted(self._ends, start, side="right"))
            offset = start - (int(self._ends[shard - 1]) if shard else 0)
            piece = self._shards[shard][offset : offset + count]
            pieces.append(piece)
            start, count = start + len(piece), count - len(piece)
        joined: NDArray[Any] = np.concatenate(pieces) if pieces else np.empty(0)
        return joined.astype(np.int64)


def _damaged(file: Path, reason: str) -> DataError:
    return DataError(
        f"The prepared text {file} is damaged: {reason}.",
        "Shards must match the checksums in their manifest.",
        f"Remove the folder {file.parent}; it is made again from the source text.",
    )
