"""Token shards: token ids flat on disk, with a manifest that says what they are.

A folder holds ``train-00000.bin``, ``valid-00000.bin`` … (little-endian uint16, or uint32 for large vocabularies) and
``manifest.json`` with counts, bytes of source text, hashes and checksums. A folder is written under a temporary name
and renamed, so it is whole or not there; reading verifies checksums and maps the files into memory.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penna.errors import DataError

MANIFEST = "manifest.json"
_DTYPES = ("<u2", "<u4")
_SHARD_TOKENS = 1 << 27


@dataclass(frozen=True)
class PartManifest:
    """One part (train or valid) of a shard folder."""

    tokens: int
    documents: int
    bytes: int  # UTF-8 bytes of the source text
    files: dict[str, str]  # file name -> SHA-256


@dataclass(frozen=True)
class Manifest:
    """What a shard folder holds."""

    dtype: str
    tokenizer_hash: str
    content_hash: str
    parts: dict[str, PartManifest]


@dataclass(frozen=True)
class EncodedDocument:
    """Token ids of a document, its separator included, and the bytes of its text."""

    ids: list[int]
    bytes: int
    starts: bool  # False for a further piece of the same document


def write_shards(
    folder: Path,
    parts: dict[str, Iterable[EncodedDocument]],
    *,
    vocab_size: int,
    tokenizer_hash: str,
    content_hash: str,
) -> Manifest:
    """Write all parts and the manifest under ``folder``, whole or not at all."""
    dtype = _DTYPES[0] if vocab_size <= 1 << 16 else _DTYPES[1]
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        written = {name: _write_part(temporary, name, documents, dtype) for name, documents in parts.items()}
        manifest = Manifest(dtype, tokenizer_hash, content_hash, written)
        (temporary / MANIFEST).write_text(json.dumps(asdict(manifest), indent=2), encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return manifest


def _write_part(folder: Path, name: str, documents: Iterable[EncodedDocument], dtype: str) -> PartManifest:
    files: dict[str, str] = {}
    tokens = count = size = 0
    for number, chunk in enumerate(_chunks(documents)):
        file = folder / f"{name}-{number:05d}.bin"
        checksum = hashlib.sha256()
        with open(file, "wb") as stream:
            for document in chunk:
                encoded = np.asarray(document.ids, dtype=dtype).tobytes()
                checksum.update(encoded)
                stream.write(encoded)
                tokens, count, size = tokens + len(document.ids), count + document.starts, size + document.bytes
            stream.flush()
            os.fsync(stream.fileno())
        files[file.name] = checksum.hexdigest()
    return PartManifest(tokens, count, size, files)


def _chunks(documents: Iterable[EncodedDocument]) -> Iterator[Iterator[EncodedDocument]]:
    """Cut a stream of documents into streams of about _SHARD_TOKENS tokens each."""
    source = iter(documents)
    held: list[EncodedDocument] = []

    def chunk() -> Iterator[EncodedDocument]:
        filled = 0
        while held or filled < _SHARD_TOKENS:
            document = held.pop() if held else next(source, None)
            if document is None:
                return
            filled += len(document.ids)
            yield document

    while (first := next(source, None)) is not None:
        held.append(first)
        yield chunk()


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a shard folder. Raises DataError where it is missing or damaged."""
    try:
        raw: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        parts = {name: PartManifest(**part) for name, part in raw.pop("parts").items()}
        return Manifest(**raw, parts=parts)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise _damaged(folder / MANIFEST, str(error)) from error


class TokenStream:
    """The token ids of one part, read from its shards as one sequence."""

    def __init__(self, folder: Path, part: str) -> None:
        manifest = read_manifest(folder)
        if part not in manifest.parts or manifest.dtype not in _DTYPES:
            raise _damaged(folder / MANIFEST, f"it names no part {part!r}, or an unknown type {manifest.dtype!r}")
        self.part = manifest.parts[part]
        held = 0
        for name, checksum in self.part.files.items():
            file = folder / name
            try:
                with open(file, "rb") as stream:
                    actual = hashlib.file_digest(stream, "sha256").hexdigest()
            except OSError as error:
                raise _damaged(file, error.strerror or str(error)) from error
            if actual != checksum:
                raise _damaged(file, "it was truncated or altered")
            held += file.stat().st_size
        if held != self.part.tokens * np.dtype(manifest.dtype).itemsize:
            raise _damaged(folder / MANIFEST, f"its shards do not hold the {self.part.tokens} tokens it counts")
        files = [folder / name for name in self.part.files if (folder / name).stat().st_size]
        self._shards: list[NDArray[Any]] = [np.memmap(file, dtype=manifest.dtype, mode="r") for file in files]
        self._ends = np.cumsum([len(shard) for shard in self._shards], dtype=np.int64)

    def __len__(self) -> int:
        return self.part.tokens

    def windows(self, starts: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        """``count`` token ids from each start on: (len(starts), count)."""
        if len(self._shards) == 1:
            return self._shards[0][(starts[:, None] + np.arange(count)) % len(self)].astype(np.int64)
        return np.array([self.read(int(start), count) for start in starts]).reshape(-1, count)

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
