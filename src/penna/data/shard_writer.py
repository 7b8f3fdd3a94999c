"""Token shards written so that a stop at any moment costs one shard file at most.

Files grow in a partial folder beside the final one, under a name that the next attempt finds again. Whenever a file is
full it is flushed, and the journal, itself written whole or not at all, says so: which files are finished, with their
checksums, and how many pieces of the source they hold. The next attempt checks those files, skips that many pieces and
goes on; the result is the same to the byte as if nothing had happened. Then the folder gets its final name in one step.
Whoever writes must be alone (see `penna.data.prepare`).
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

from penna.data.encode import EncodedPieces
from penna.data.shards import DTYPES, MANIFEST, Manifest, PartManifest, check_files, manifest_from, read_manifest
from penna.errors import DataError
from penna.storage import explained_disk_errors, flush, write_json

JOURNAL = "journal.json"
_FILES = "shards"  # inside the partial folder: what becomes the final folder
_SHARD_TOKENS = 1 << 23  # 16 MB of uint16: some ten seconds of work, and a billion tokens are 120 files

PartSource = Callable[[int], Generator[EncodedPieces]]
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
    say: Callable[[str], None] = lambda _: None,
) -> Manifest:
    """Write all parts and the manifest under ``folder``, whole or not at all.

    An error or a kill leaves what was finished, and the next call with the same hashes goes on behind it; where that
    is damaged it begins anew. Raises DeviceError where the disk is full, and whatever a source raises.
    """
    empty = Manifest(DTYPES[0] if vocab_size <= 1 << 16 else DTYPES[1], tokenizer_hash, content_hash, {})
    partial = partial_folder(folder)
    journal = _read_journal(partial, empty)
    if journal is None:
        with explained_disk_errors(partial):
            shutil.rmtree(partial, ignore_errors=True)
            (partial / _FILES).mkdir(parents=True)
        journal = _Journal(empty, {}, [])
    else:
        _remove_unfinished(partial, journal)
        tokens = sum(part.tokens for part in journal.manifest.parts.values())
        say(f"Going on behind {tokens:,} tokens that were prepared before")
    for name, source in parts.items():
        if name not in journal.finished:
            journal = _write_part(partial, name, source, journal)
    manifest = replace(journal.manifest, parts={name: journal.manifest.parts[name] for name in parts})
    with explained_disk_errors(folder):
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
        with explained_disk_errors(self._path):
            if self._stream is None:
                self._stream = open(self._path, "wb")  # noqa: SIM115 (closed by finish or abandon)
            self._stream.write(encoded)
        self._checksum.update(encoded)
        self.tokens += tokens

    def finish(self) -> dict[str, str]:
        """Flush the file to the disk; its name and SHA-256, or nothing where it was never begun."""
        if self._stream is None:
            return {}
        with explained_disk_errors(self._path):
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
    with explained_disk_errors(partial):
        flush(partial / _FILES)  # the names of the files, before the journal that counts on them
    write_json(partial / JOURNAL, asdict(journal))


def _remove_unfinished(partial: Path, journal: _Journal) -> None:
    """Remove what a kill left half-written beside the finished files."""
    finished = {name for part in journal.manifest.parts.values() for name in part.files}
    with explained_disk_errors(partial):
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
            check_files(partial / _FILES, journal.manifest, name)
    except (DataError, OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return journal
