"""Token shards: token ids flat on disk, with a manifest that says what they are.

A folder holds ``train-00000.bin``, ``valid-00000.bin`` … (little-endian uint16, or uint32 for large vocabularies) and
``manifest.json`` with counts, bytes and words of source text, hashes and checksums. `penna.data.shards` writes
it; here it is read: checksums are verified, and the files mapped into memory as one sequence of tokens.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penna.data.encode import EncodedChunks
from penna.errors import DataError
from penna.storage import flush, friendly_disk_errors, sha256, write_json

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


def verify_files(folder: Path, manifest: Manifest, part: str) -> None:
    """Compare the files of a part with their checksums and count. Raises DataError where they differ."""
    if part not in manifest.parts or manifest.dtype not in DTYPES:
        raise _damaged(folder / MANIFEST, f"it names no part {part!r}, or an unknown type {manifest.dtype!r}")
    held = 0
    for name, checksum in manifest.parts[part].files.items():
        file = folder / name
        try:
            actual = sha256(file)
            held += file.stat().st_size
        except OSError as error:
            raise _damaged(file, error.strerror or str(error)) from error
        if actual != checksum:
            raise _damaged(file, "it is truncated or altered")
    tokens = manifest.parts[part].tokens
    if held != tokens * np.dtype(manifest.dtype).itemsize:
        raise _damaged(folder / MANIFEST, f"its shards do not hold the {tokens} tokens it counts")


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


# MERGED data.shard_writer: Token shards written so that a stop at any moment costs one shard file at most.
#
# Files grow in a partial folder beside the final one, under a name that the next attempt finds again. Whenever a
# file is
# full it is flushed, and the journal, itself written whole or not at all, says so: which files are finished, with
# their
# checksums, and how many pieces of the source they hold. The next attempt checks those files, skips that many
# pieces and
# goes on; the result is the same to the byte as if nothing had happened. Then the folder gets its final name in one
# step.
# Whoever writes must be alone (see `penna.data.prepare`).


JOURNAL = "journal.json"
_FILES = "shards"  # inside the partial folder: what becomes the final folder
_SHARD_TOKENS = 1 << 23  # 16 MB of uint16: some ten seconds of work, and a billion tokens are 120 files

PartSource = Callable[[int], Generator[EncodedChunks]]
"""Gives the pieces of a part in order, from the piece of the given number on; the same ones each time."""


@dataclass(frozen=True)
class _Journal:
    """How far a partial folder got."""

    manifest: Manifest  # of the finished files
    pieces: dict[str, int]  # part -> pieces of its source that its finished files hold
    finished: list[str]  # parts that are complete

    def advanced(self, name: str, part: PartManifest, pieces: int, *, finished: bool = False) -> _Journal:
        """The journal with one part further on."""
        return _Journal(
            replace(self.manifest, parts={**self.manifest.parts, name: part}),
            {**self.pieces, name: pieces},
            [*self.finished, name] if finished else self.finished,
        )


def find_shards(folder: Path) -> Manifest | None:
    """The manifest of finished shards; None where there are none yet."""
    if not (folder / MANIFEST).exists():
        return None
    shutil.rmtree(partial_folder(folder), ignore_errors=True)  # a kill between the last two steps leaves it, emptied
    return read_manifest(folder)


def partial_folder(folder: Path) -> Path:
    """Where shards grow until they are complete."""
    return folder.with_name(f".{folder.name}.partial")


def write_shards(
    folder: Path,
    parts: Mapping[str, PartSource],
    *,
    vocab_size: int,
    tokenizer_hash: str,
    content_hash: str,
    report: Callable[[str], None] = lambda _: None,
) -> Manifest:
    """Write all parts and the manifest under ``folder``, whole or not at all.

    An error or a kill leaves what was finished, and the next call with the same hashes goes on behind it; where that
    is damaged it begins anew. Raises DeviceError where the disk is full, and whatever a source raises.
    """
    empty = Manifest(DTYPES[0] if vocab_size <= 1 << 16 else DTYPES[1], tokenizer_hash, content_hash, {})
    partial = partial_folder(folder)
    journal = _read_journal(partial, empty)
    if journal is None:
        with friendly_disk_errors(partial):
            shutil.rmtree(partial, ignore_errors=True)
            (partial / _FILES).mkdir(parents=True)
        journal = _Journal(empty, {}, [])
    else:
        _remove_unfinished(partial, journal)
        tokens = sum(part.tokens for part in journal.manifest.parts.values())
        report(f"Going on behind {tokens:,} tokens that were prepared before")
    for name, source in parts.items():
        if name not in journal.finished:
            journal = _write_part(partial, name, source, journal)
    manifest = replace(journal.manifest, parts={name: journal.manifest.parts[name] for name in parts})
    with friendly_disk_errors(folder):
        write_json(partial / _FILES / MANIFEST, asdict(manifest))
        if folder.exists():  # without a manifest, or nobody would write here
            shutil.rmtree(folder)
        (partial / _FILES).rename(folder)
        flush(folder.parent)
        shutil.rmtree(partial)
    return manifest


def _write_part(partial: Path, name: str, source: PartSource, journal: _Journal) -> _Journal:
    part = journal.manifest.parts.get(name, PartManifest(0, 0, 0, 0, {}))
    pieces = journal.pieces.get(name, 0)
    dtype = np.dtype(journal.manifest.dtype)
    file = _ShardFile(partial / _FILES, name, len(part.files))
    try:
        with closing(source(pieces)) as batches:
            for batch in batches:
                begin = 0
                while begin < len(batch.ends):
                    # A file ends with the first piece that fills it.
                    offset = int(batch.ends[begin - 1]) if begin else 0
                    full = int(np.searchsorted(batch.ends, offset + _SHARD_TOKENS - file.tokens))
                    end = min(full + 1, len(batch.ends))
                    ids = batch.ids[offset : batch.ends[end - 1]]
                    file.write(ids.astype(dtype).tobytes(), len(ids))
                    pieces += end - begin
                    part = PartManifest(
                        tokens=part.tokens + len(ids),
                        documents=part.documents + int(batch.documents[begin:end].sum()),
                        bytes=part.bytes + int(batch.bytes[begin:end].sum()),
                        words=part.words + int(batch.words[begin:end].sum()),
                        files=part.files,
                    )
                    begin = end
                    if file.tokens >= _SHARD_TOKENS:
                        part = replace(part, files={**part.files, **file.finish()})
                        journal = journal.advanced(name, part, pieces)
                        _write_journal(partial, journal)
                        file = _ShardFile(partial / _FILES, name, len(part.files))
        part = replace(part, files={**part.files, **file.finish()})
        journal = journal.advanced(name, part, pieces, finished=True)
        _write_journal(partial, journal)
        return journal
    finally:
        file.abandon()


class _ShardFile:
    """One shard file while it is being written; it is made with its first token."""

    def __init__(self, folder: Path, part: str, number: int) -> None:
        self._path = folder / f"{part}-{number:05d}.bin"
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
        """Flush the file to the disk; its name and SHA-256, or nothing where it was never begun."""
        if self._stream is None:
            return {}
        with friendly_disk_errors(self._path):
            self._stream.flush()
            os.fsync(self._stream.fileno())
            self._stream.close()
        self._stream = None
        return {self._path.name: self._checksum.hexdigest()}

    def abandon(self) -> None:
        """Remove a file that was begun and not finished; a full disk needs the space."""
        if self._stream is not None:
            with contextlib.suppress(OSError):  # closing flushes, which on a full disk fails again
                self._stream.close()
            self._stream = None
            self._path.unlink(missing_ok=True)


def _write_journal(partial: Path, journal: _Journal) -> None:
    with friendly_disk_errors(partial):
        flush(partial / _FILES)  # the names of the files, before the journal that counts on them
    write_json(partial / JOURNAL, asdict(journal))


def _remove_unfinished(partial: Path, journal: _Journal) -> None:
    """Remove what a kill left half-written beside the finished files."""
    finished = {name for part in journal.manifest.parts.values() for name in part.files}
    with friendly_disk_errors(partial):
        for file in (partial / _FILES).iterdir():
            if file.name not in finished:
                file.unlink()


def _read_journal(partial: Path, expected: Manifest) -> _Journal | None:
    """The journal of a partial folder whose finished files are as they were; None where there is none such."""
    try:
        raw: dict[str, Any] = json.loads((partial / JOURNAL).read_text(encoding="utf-8"))
        journal = _Journal(manifest_from(raw["manifest"]), dict(raw["pieces"]), list(raw["finished"]))
        if replace(journal.manifest, parts={}) != expected or journal.pieces.keys() != journal.manifest.parts.keys():
            return None
        for name in journal.manifest.parts:
            verify_files(partial / _FILES, journal.manifest, name)
    except (DataError, OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return journal
