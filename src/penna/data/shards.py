"""Token shards: the token ids of a text on disk, with a manifest that describes them.

A folder holds ``train-00000.bin``, ``valid-00000.bin``, … (little-endian uint16, or uint32 for large vocabularies) and
``manifest.json`` with counts, bytes and words of the source text, hashes and checksums.

Shards are first written to a hidden partial folder. Whenever a file is full it is flushed, and a journal, itself
written atomically, records the finished files, their checksums and how many chunks of the source they hold. After a
kill the next attempt verifies those files, skips their chunks and continues; the result is the same to the byte. At
most one unfinished file per part is lost.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penna.data.encode import EncodedChunks
from penna.errors import DataError
from penna.storage import flush, friendly_disk_errors, sha256, write_json

MANIFEST, JOURNAL = "manifest.json", "journal.json"
DTYPES = ("<u2", "<u4")
_FILES = "shards"  # inside the partial folder: what becomes the final folder
_SHARD_TOKENS = 1 << 23  # 16 MB of uint16: some ten seconds of work; a billion tokens are 120 files

ChunkSource = Callable[[Mapping[str, int]], Generator[EncodedChunks]]
"""Yields the same chunks each time, without the first ones of each part; its argument says how many to omit."""


@dataclass(frozen=True)
class PartManifest:
    """One part (train or valid) of a shard folder."""

    tokens: int
    documents: int
    bytes: int  # of the source text in UTF-8
    words: int  # white-space words and line ends of the source text
    files: dict[str, str]  # file name -> SHA-256


@dataclass(frozen=True)
class Manifest:
    """The contents of a shard folder."""

    dtype: str
    tokenizer_hash: str
    content_hash: str
    parts: dict[str, PartManifest]


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a shard folder. Raises DataError if it is missing or damaged."""
    try:
        return manifest_from(json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise _damaged(folder / MANIFEST, str(error)) from error


def manifest_from(raw: dict[str, Any]) -> Manifest:
    """A manifest from its JSON form. Raises TypeError, KeyError or AttributeError for anything else."""
    parts = {name: PartManifest(**part) for name, part in raw["parts"].items()}
    return replace(Manifest(**raw), parts=parts)


def verify_files(folder: Path, manifest: Manifest, part: str) -> None:
    """Compare the files of a part with their checksums and token count. Raises DataError if they differ."""
    if part not in manifest.parts or manifest.dtype not in DTYPES:
        raise _damaged(folder / MANIFEST, f"it lacks the part {part!r}, or its type {manifest.dtype!r} is unknown")
    size = 0
    for name, checksum in manifest.parts[part].files.items():
        file = folder / name
        try:
            actual = sha256(file)
            size += file.stat().st_size
        except OSError as error:
            raise _damaged(file, error.strerror or str(error)) from error
        if actual != checksum:
            raise _damaged(file, "it is truncated or altered")
    tokens = manifest.parts[part].tokens
    if size != tokens * np.dtype(manifest.dtype).itemsize:
        raise _damaged(folder / MANIFEST, f"its files do not hold the {tokens} tokens that it counts")


def _damaged(file: Path, reason: str) -> DataError:
    return DataError(
        f"The prepared text {file} is damaged: {reason}.",
        "Shards must match the checksums in their manifest.",
        f"Remove the folder {file.parent}; the next run prepares the text again.",
    )


class TokenStream:
    """The token ids of one part, read from its shards as one sequence."""

    def __init__(self, folder: Path, part: str) -> None:
        manifest = read_manifest(folder)
        verify_files(folder, manifest, part)
        self.part = manifest.parts[part]
        files = [folder / name for name in self.part.files]
        self._shards: list[NDArray[Any]] = [np.memmap(file, dtype=manifest.dtype, mode="r") for file in files]
        self._ends = np.cumsum([len(shard) for shard in self._shards], dtype=np.int64)

    def __len__(self) -> int:
        return self.part.tokens

    def windows(self, starts: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        """``count`` token ids from each start: (len(starts), count)."""
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
        """``count`` token ids from position ``start``; after the end of the stream it continues from the beginning."""
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


def find_shards(folder: Path) -> Manifest | None:
    """The manifest of complete shards; None if there are none yet."""
    if not (folder / MANIFEST).exists():
        return None
    shutil.rmtree(partial_folder(folder), ignore_errors=True)  # a kill between the last two steps leaves it, emptied
    return read_manifest(folder)


def partial_folder(folder: Path) -> Path:
    """The folder that holds the shards until they are complete."""
    return folder.with_name(f".{folder.name}.partial")


def write_shards(
    folder: Path,
    source: ChunkSource,
    parts: Sequence[str],
    *,
    vocab_size: int,
    tokenizer_hash: str,
    content_hash: str,
    report: Callable[[str], None] = lambda _: None,
) -> Manifest:
    """Write the shards of all ``parts`` and the manifest, atomically, in one pass over the source.

    After an error or a kill the next call with the same hashes continues after the finished files, or starts anew if
    those are damaged. The caller must hold the ``exclusive_lock``. Raises DeviceError if the disk is full, and
    the errors of the source.
    """
    empty = Manifest(DTYPES[0] if vocab_size <= 1 << 16 else DTYPES[1], tokenizer_hash, content_hash, {})
    partial = partial_folder(folder)
    journal = _read_journal(partial, empty)
    if journal is None:
        with friendly_disk_errors(partial):
            shutil.rmtree(partial, ignore_errors=True)
            (partial / _FILES).mkdir(parents=True)
        journal = _Journal(empty, {})
    else:
        _remove_unfinished(partial, journal)
        tokens = sum(part.tokens for part in journal.manifest.parts.values())
        report(f"Resuming after {tokens:,} tokens that were prepared earlier")
    manifest = replace(empty, parts=_write_parts(partial, source, parts, journal))
    with friendly_disk_errors(folder):
        write_json(partial / _FILES / MANIFEST, asdict(manifest))
        if folder.exists():  # it has no manifest; else nothing would be written
            shutil.rmtree(folder)
        (partial / _FILES).rename(folder)
        flush(folder.parent)
        shutil.rmtree(partial)
    return manifest


def _write_parts(
    partial: Path, source: ChunkSource, parts: Sequence[str], journal: _Journal
) -> dict[str, PartManifest]:
    """Write the files of all parts, and the journal after each full one."""
    writers = {name: _PartWriter(partial / _FILES, name, journal) for name in parts}
    with contextlib.ExitStack() as stack:
        for writer in writers.values():
            stack.callback(writer.abandon)
        with contextlib.closing(source(journal.chunks)) as batches:
            for batch in batches:
                writer = writers[batch.part]
                for _ in writer.write(batch):
                    journal = journal.advanced(batch.part, writer.manifest, writer.chunks)
                    _write_journal(partial, journal)
        return {name: writer.finish() for name, writer in writers.items()}


class _PartWriter:
    """Writes the tokens of one part into files of about ``_SHARD_TOKENS`` tokens."""

    def __init__(self, folder: Path, name: str, journal: _Journal) -> None:
        self.manifest = journal.manifest.parts.get(name, PartManifest(0, 0, 0, 0, {}))  # of all that was written
        self.chunks = journal.chunks.get(name, 0)
        self._folder, self._name, self._dtype = folder, name, np.dtype(journal.manifest.dtype)
        self._file = self._next_file()

    def write(self, batch: EncodedChunks) -> Iterator[None]:
        """Write a batch, and yield after each file that it fills. A file ends with the first chunk that fills it."""
        begin = 0
        while begin < len(batch.ends):
            offset = int(batch.ends[begin - 1]) if begin else 0
            full = int(np.searchsorted(batch.ends, offset + _SHARD_TOKENS - self._file.tokens))
            end = min(full + 1, len(batch.ends))
            ids = batch.ids[offset : batch.ends[end - 1]]
            self._file.write(ids.astype(self._dtype).tobytes(), len(ids))
            self.chunks += end - begin
            self.manifest = PartManifest(
                tokens=self.manifest.tokens + len(ids),
                documents=self.manifest.documents + int(batch.documents[begin:end].sum()),
                bytes=self.manifest.bytes + int(batch.bytes[begin:end].sum()),
                words=self.manifest.words + int(batch.words[begin:end].sum()),
                files=self.manifest.files,
            )
            begin = end
            if self._file.tokens >= _SHARD_TOKENS:
                self.finish()
                self._file = self._next_file()
                yield

    def finish(self) -> PartManifest:
        """Finish the current file; the manifest of the part."""
        self.manifest = replace(self.manifest, files={**self.manifest.files, **self._file.finish()})
        return self.manifest

    def abandon(self) -> None:
        """Remove an unfinished file."""
        self._file.abandon()

    def _next_file(self) -> _ShardFile:
        return _ShardFile(self._folder / f"{self._name}-{len(self.manifest.files):05d}.bin")


class _ShardFile:
    """One shard file while it is being written; it is created with its first token."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stream: Any = None
        self._checksum = hashlib.sha256()
        self.tokens = 0

    def write(self, encoded: bytes, tokens: int) -> None:
        with friendly_disk_errors(self._path):
            if self._stream is None:
                self._stream = open(self._path, "wb")  # noqa: SIM115 (closed by finish or abandon)
            self._stream.write(encoded)
        self._checksum.update(encoded)
        self.tokens += tokens

    def finish(self) -> dict[str, str]:
        """Flush the file to disk; its name and SHA-256, or nothing if it has no token."""
        if self._stream is None:
            return {}
        with friendly_disk_errors(self._path):
            self._stream.flush()
            os.fsync(self._stream.fileno())
            self._stream.close()
        self._stream = None
        return {self._path.name: self._checksum.hexdigest()}

    def abandon(self) -> None:
        """Remove an unfinished file; after a full disk its space is needed."""
        if self._stream is not None:
            with contextlib.suppress(OSError):  # closing flushes, which fails again on a full disk
                self._stream.close()
            self._stream = None
            self._path.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Journal:
    """The finished files of a partial folder."""

    manifest: Manifest
    chunks: dict[str, int]  # part -> chunks of its source that its finished files hold

    def advanced(self, name: str, part: PartManifest, chunks: int) -> _Journal:
        """The journal with further files of one part."""
        manifest = replace(self.manifest, parts={**self.manifest.parts, name: part})
        return _Journal(manifest, {**self.chunks, name: chunks})


def _write_journal(partial: Path, journal: _Journal) -> None:
    with friendly_disk_errors(partial):
        flush(partial / _FILES)  # the names of the files must be on disk before the journal that counts on them
    write_json(partial / JOURNAL, asdict(journal))


def _read_journal(partial: Path, expected: Manifest) -> _Journal | None:
    """The journal of a partial folder whose finished files are intact; None if there is none."""
    try:
        raw: dict[str, Any] = json.loads((partial / JOURNAL).read_text(encoding="utf-8"))
        journal = _Journal(manifest_from(raw["manifest"]), dict(raw["chunks"]))
        if replace(journal.manifest, parts={}) != expected or journal.chunks.keys() != journal.manifest.parts.keys():
            return None
        for name in journal.manifest.parts:
            verify_files(partial / _FILES, journal.manifest, name)
    except (DataError, OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return journal


def _remove_unfinished(partial: Path, journal: _Journal) -> None:
    """Remove the files that a kill left half-written next to the finished ones."""
    finished = {name for part in journal.manifest.parts.values() for name in part.files}
    with friendly_disk_errors(partial):
        for file in (partial / _FILES).iterdir():
            if file.name not in finished:
                file.unlink()
