"""Examples to disk as they come: one file for each array of a part, and the manifest when all are finished."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np

from penna.data.examples.example import Example
from penna.data.examples.store import ARRAYS, DTYPES, MANIFEST, Manifest, PartManifest, file_name, flatten
from penna.storage import explained_disk_errors, write_json


def dtype_for(vocab_size: int) -> str:
    """The narrowest type on disk that holds the ids of a vocabulary."""
    return DTYPES[0] if vocab_size <= 1 << 16 else DTYPES[1]


class PartWriter:
    """Writes the examples of one part into a folder. Raises DeviceError where the disk is full."""

    def __init__(self, folder: Path, part: str, vocab_size: int) -> None:
        self._folder, self._part, self._vocab_size = folder, part, vocab_size
        self._dtypes = {name: np.dtype(dtype or dtype_for(vocab_size)) for name, dtype in ARRAYS.items()}
        self._open = ExitStack()
        self._checksums = {name: hashlib.sha256() for name in ARRAYS}
        with explained_disk_errors(folder):
            self._files: dict[str, BinaryIO] = {
                name: self._open.enter_context(open(folder / file_name(part, name), "wb"))  # noqa: SIM115
                for name in ARRAYS
            }
        self._examples = self._tokens = self._due = self._source_tokens = self._cut = self._characters = self._bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with explained_disk_errors(self._folder):
            self._open.close()

    def write(self, examples: Sequence[Example], characters: int, size: int) -> None:
        """Write further examples, made of texts of so many characters and bytes.

        Raises ValueError for an id beyond the vocabulary.
        """
        arrays = flatten(examples)
        for ids in (arrays.ids, arrays.sources):
            if len(ids) and int(ids.max()) >= self._vocab_size:
                raise ValueError(f"id {int(ids.max())} is beyond the vocabulary of {self._vocab_size} tokens")
        with explained_disk_errors(self._folder):
            for name, file in self._files.items():
                content = getattr(arrays, name).astype(self._dtypes[name]).tobytes()
                self._checksums[name].update(content)
                file.write(content)
        self._examples += len(examples)
        self._tokens += len(arrays.ids)
        self._due += int(arrays.due.sum())
        self._source_tokens += len(arrays.sources)
        self._cut += sum(example.cut for example in examples)
        self._characters += characters
        self._bytes += size

    def finish(self) -> PartManifest:
        """Flush all files to the disk; what they hold."""
        with explained_disk_errors(self._folder):
            for file in self._files.values():
                file.flush()
                os.fsync(file.fileno())
        return PartManifest(
            examples=self._examples,
            tokens=self._tokens,
            due=self._due,
            source_tokens=self._source_tokens,
            cut=self._cut,
            characters=self._characters,
            bytes=self._bytes,
            files={file_name(self._part, name): checksum.hexdigest() for name, checksum in self._checksums.items()},
        )


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest, the last file of a folder."""
    write_json(folder / MANIFEST, asdict(manifest))
