"""Items to a folder of examples: encoded some thousands at a time, written as they come.

What no example can be made of, such as a record of an unknown class, or whose target is beyond the block, is counted in
the manifest with its number and the reason.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np

from penna.data.examples.example import Example, ExampleFormat, T
from penna.data.examples.split import PARTS, SplitData, unknown_label_reason
from penna.data.examples.store import (
    ARRAYS,
    DTYPES,
    MANIFEST,
    Manifest,
    PartManifest,
    Refused,
    file_name,
    flatten_examples,
)
from penna.data.sources.reader import Part
from penna.data.sources.records import KEPT_BAD_RECORDS
from penna.storage import friendly_disk_errors, write_json
from penna.tokenizer.tokenizer import Tokenizer

# MERGED data.examples.writer: Examples to disk as they come: one file for each array of a part, and the manifest
# when all are finished.


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
        with friendly_disk_errors(folder):
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
        with friendly_disk_errors(self._folder):
            self._open.close()

    def write(self, examples: Sequence[Example], characters: int, size: int) -> None:
        """Write further examples, made of texts of so many characters and bytes.

        Raises ValueError for an id beyond the vocabulary.
        """
        arrays = flatten_examples(examples)
        for ids in (arrays.ids, arrays.sources):
            if len(ids) and int(ids.max()) >= self._vocab_size:
                raise ValueError(f"id {int(ids.max())} is beyond the vocabulary of {self._vocab_size} tokens")
        with friendly_disk_errors(self._folder):
            for name, file in self._files.items():
                content = getattr(arrays, name).astype(self._dtypes[name]).tobytes()
                self._checksums[name].update(content)
                file.write(content)
        self._examples += len(examples)
        self._tokens += len(arrays.ids)
        self._due += int(arrays.target_mask.sum())
        self._source_tokens += len(arrays.sources)
        self._cut += sum(example.truncated for example in examples)
        self._characters += characters
        self._bytes += size

    def finish(self) -> PartManifest:
        """Flush all files to the disk; what they hold."""
        with friendly_disk_errors(self._folder):
            for file in self._files.values():
                file.flush()
                os.fsync(file.fileno())
        return PartManifest(
            examples=self._examples,
            tokens=self._tokens,
            targets=self._due,
            source_tokens=self._source_tokens,
            truncated=self._cut,
            characters=self._characters,
            bytes=self._bytes,
            files={file_name(self._part, name): checksum.hexdigest() for name, checksum in self._checksums.items()},
        )


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest, the last file of a folder."""
    write_json(folder / MANIFEST, asdict(manifest))


_BATCH_ITEMS = 4096  # encoded side by side, or
_BATCH_CHARACTERS = 1 << 22  # as many as have so much text


def write_examples(folder: Path, dealt: SplitData[T], tokenizer: Tokenizer, labels: Sequence[str]) -> Manifest:
    """Write the examples of both parts and their manifest, which counts what no example could be made of.

    Raises TextChangedError where the items are not the ones that were surveyed, and DeviceError where the disk is full.
    """
    refused: dict[Part, _Refusals] = {source: _Refusals() for source in dealt.surveys}
    parts: dict[str, PartManifest] = {}
    for part in PARTS:
        with PartWriter(folder, part, tokenizer.vocab_size) as writer:
            for batch in _batches(_of_known_class(dealt, dealt.items(part), labels, refused), dealt.format):
                items = [item for _, _, item in batch]
                encoded = dealt.format.encode(items, tokenizer, labels)
                kept: list[Example] = []
                texts: list[str] = []
                for (source, number, item), example in zip(batch, encoded, strict=True):
                    if isinstance(example, str):
                        refused[source].add(number, example)
                    else:
                        kept.extend([example] if isinstance(example, Example) else example)
                        texts.extend(dealt.format.texts(item))
                writer.write(kept, sum(map(len, texts)), sum(len(text.encode("utf-8")) for text in texts))
            parts[part] = writer.finish()
    manifest = Manifest(
        dtype=dtype_for(tokenizer.vocab_size),
        tokenizer_hash=tokenizer.fingerprint(),
        content_hash=dealt.content_hash,
        labels=list(labels),
        parts=parts,
        refused={source: Refused(found.count, found.first) for source, found in refused.items()},
    )
    write_manifest(folder, manifest)
    return manifest


class _Refusals:
    """Items of one source that no example could be made of: by number, since the same items may lie elsewhere."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[tuple[int, str]] = []

    def add(self, number: int, reason: str) -> None:
        self.count += 1
        if len(self.first) < KEPT_BAD_RECORDS:
            self.first.append((number, reason))


def _of_known_class(
    dealt: SplitData[T], items: Iterable[tuple[Part, int, T]], labels: Sequence[str], refused: dict[Part, _Refusals]
) -> Iterator[tuple[Part, int, T]]:
    """Items without those of a class that is not learned."""
    known = frozenset(labels)
    for source, number, item in items:
        label = dealt.format.label(item)
        if label is None or label in known:
            yield source, number, item
        else:
            refused[source].add(number, unknown_label_reason(label, labels))


def _batches(items: Iterable[tuple[Part, int, T]], form: ExampleFormat[T]) -> Iterator[list[tuple[Part, int, T]]]:
    batch: list[tuple[Part, int, T]] = []
    characters = 0
    for found in items:
        batch.append(found)
        characters += sum(map(len, form.texts(found[2])))
        if len(batch) == _BATCH_ITEMS or characters >= _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
