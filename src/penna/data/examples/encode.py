"""Items to a folder of examples, encoded a few thousand at a time and written as they come.

Items that make no example, such as one of an unknown class, are counted in the manifest with their numbers and reasons.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np

from penna.data.examples.example import Example, T
from penna.data.examples.split import SplitData, unknown_label_reason
from penna.data.examples.store import (
    ARRAYS,
    MANIFEST,
    Manifest,
    PartManifest,
    RefusedItems,
    file_name,
    flatten_examples,
    id_dtype,
)
from penna.data.sources.reader import PARTS, Part
from penna.data.sources.records import KEPT_BAD_RECORDS
from penna.storage import friendly_disk_errors, write_json
from penna.tokenizer.tokenizer import Tokenizer

_BATCH_ITEMS = 4096  # encoded together, or
_BATCH_CHARACTERS = 1 << 22  # as many as have this much text


def write_examples(folder: Path, data: SplitData[T], tokenizer: Tokenizer, labels: Sequence[str]) -> Manifest:
    """Write the examples of both parts and their manifest, in one pass over the items.

    Raises TextChangedError if the items are not the ones that were indexed, and DeviceError if the disk is full.
    """
    refusals: dict[Part, _Refusals] = {source: _Refusals() for source in data.indexes}
    with ExitStack() as stack:
        writers = {part: stack.enter_context(PartWriter(folder, part, tokenizer.vocab_size)) for part in PARTS}
        for batch in _batches(data, labels, refusals):
            encoded = data.format.encode([item for _, _, _, item in batch], tokenizer, labels)
            for part, writer in writers.items():
                examples: list[Example] = []
                texts: list[str] = []
                for (owner, source, number, item), example in zip(batch, encoded, strict=True):
                    if owner != part:
                        continue
                    if isinstance(example, str):
                        refusals[source].add(number, example)
                    else:
                        examples.extend([example] if isinstance(example, Example) else example)
                        texts.extend(data.format.texts(item))
                writer.write(examples, sum(map(len, texts)), sum(len(text.encode("utf-8")) for text in texts))
        parts: dict[str, PartManifest] = {part: writer.finish() for part, writer in writers.items()}
    manifest = Manifest(
        dtype=id_dtype(tokenizer.vocab_size),
        tokenizer_hash=tokenizer.fingerprint(),
        content_hash=data.content_hash,
        labels=list(labels),
        parts=parts,
        refused={source: RefusedItems(found.count, found.first) for source, found in refusals.items()},
    )
    write_manifest(folder, manifest)
    return manifest


def _batches(
    data: SplitData[T], labels: Sequence[str], refusals: dict[Part, _Refusals]
) -> Iterator[list[tuple[Part, Part, int, T]]]:
    """Items of known classes, each with its part, source and number; the others are refused."""
    known = frozenset(labels)
    batch: list[tuple[Part, Part, int, T]] = []
    characters = 0
    for found in data.split_items():
        _, source, number, item = found
        label = data.format.label(item)
        if label is not None and label not in known:
            refusals[source].add(number, unknown_label_reason(label, labels))
            continue
        batch.append(found)
        characters += sum(map(len, data.format.texts(item)))
        if len(batch) == _BATCH_ITEMS or characters >= _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


class _Refusals:
    """The items of one source that make no example. They are kept by number, because their files may move."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[tuple[int, str]] = []

    def add(self, number: int, reason: str) -> None:
        self.count += 1
        if len(self.first) < KEPT_BAD_RECORDS:
            self.first.append((number, reason))


class PartWriter:
    """Writes the examples of one part into a folder. Raises DeviceError if the disk is full."""

    def __init__(self, folder: Path, part: str, vocab_size: int) -> None:
        self._folder, self._part, self._vocab_size = folder, part, vocab_size
        self._dtypes = {name: np.dtype(dtype or id_dtype(vocab_size)) for name, dtype in ARRAYS.items()}
        self._open = ExitStack()
        self._checksums = {name: hashlib.sha256() for name in ARRAYS}
        with friendly_disk_errors(folder):
            self._files: dict[str, BinaryIO] = {
                name: self._open.enter_context(open(folder / file_name(part, name), "wb"))  # noqa: SIM115
                for name in ARRAYS
            }
        self._examples = self._tokens = self._targets = self._source_tokens = self._truncated = 0
        self._characters = self._bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with friendly_disk_errors(self._folder):
            self._open.close()

    def write(self, examples: Sequence[Example], characters: int, size: int) -> None:
        """Write further examples, made from texts with this many characters and bytes.

        Raises ValueError for an id outside the vocabulary.
        """
        arrays = flatten_examples(examples)
        for ids in (arrays.ids, arrays.sources):
            if len(ids) and int(ids.max()) >= self._vocab_size:
                raise ValueError(f"id {int(ids.max())} is outside the vocabulary of {self._vocab_size} tokens")
        with friendly_disk_errors(self._folder):
            for name, file in self._files.items():
                content = getattr(arrays, name).astype(self._dtypes[name]).tobytes()
                self._checksums[name].update(content)
                file.write(content)
        self._examples += len(examples)
        self._tokens += len(arrays.ids)
        self._targets += int(arrays.target_mask.sum())
        self._source_tokens += len(arrays.sources)
        self._truncated += sum(example.truncated for example in examples)
        self._characters += characters
        self._bytes += size

    def finish(self) -> PartManifest:
        """Flush all files to disk; the manifest of the part."""
        with friendly_disk_errors(self._folder):
            for file in self._files.values():
                file.flush()
                os.fsync(file.fileno())
        return PartManifest(
            examples=self._examples,
            tokens=self._tokens,
            targets=self._targets,
            source_tokens=self._source_tokens,
            truncated=self._truncated,
            characters=self._characters,
            bytes=self._bytes,
            files={file_name(self._part, name): checksum.hexdigest() for name, checksum in self._checksums.items()},
        )


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest, the last file of a folder."""
    write_json(folder / MANIFEST, asdict(manifest))
