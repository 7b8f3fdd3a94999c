"""Examples as flat arrays of ids, target masks, labels and sources, in memory or on disk.

A folder holds, for each part, the files that ``ARRAYS`` names (little-endian, without a header) and a
``manifest.json`` with counts, hashes and checksums. ``encode`` writes it. Reading verifies the checksums and maps ids
and masks into memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penna.data.examples.example import Example
from penna.errors import DataError
from penna.storage import sha256

MANIFEST = "manifest.json"
DTYPES = ("<u2", "<u4")
UNLABELED = -1  # in ``labels``, an example without a label


@dataclass(frozen=True)
class PartManifest:
    """One part (train or valid) of a folder of examples."""

    examples: int
    tokens: int  # ids
    targets: int
    source_tokens: int  # ids of all sources
    truncated: int  # examples that lack a part of their record
    characters: int  # of the texts of the examples
    bytes: int  # the same in UTF-8
    files: dict[str, str]  # file name -> SHA-256


@dataclass(frozen=True)
class RefusedItems:
    """The items of one source that make no example: how many, and the numbers and reasons of the first."""

    count: int
    first: list[tuple[int, str]]


@dataclass(frozen=True)
class Manifest:
    """The contents of a folder of examples."""

    dtype: str
    tokenizer_hash: str
    content_hash: str
    labels: list[str]
    parts: dict[str, PartManifest]
    refused: dict[str, RefusedItems]


@dataclass(frozen=True)
class Arrays:
    """Examples, concatenated."""

    ids: NDArray[Any]
    target_mask: NDArray[np.uint8]  # per id
    lengths: NDArray[np.int64]  # ids of each example
    labels: NDArray[np.int32]  # UNLABELED for none
    sources: NDArray[Any]
    source_lengths: NDArray[np.int64]

    @property
    def sizes(self) -> dict[str, int]:
        """How many entries each array has, by name."""
        return {name: len(getattr(self, name)) for name in ARRAYS}


# The type of each array on disk; None: the manifest's type of ids.
ARRAYS: dict[str, str | None] = {
    "ids": None,
    "target_mask": "<u1",
    "lengths": "<u4",
    "labels": "<i4",
    "sources": None,
    "source_lengths": "<u4",
}


class Examples:
    """The examples of one part, memory-mapped or in memory."""

    def __init__(self, arrays: Arrays) -> None:
        self.ids, self.target_mask = arrays.ids, arrays.target_mask  # flat, (tokens,) each
        self.lengths = arrays.lengths  # (N,) ids each
        self.labels = arrays.labels if (arrays.labels != UNLABELED).any() else None  # (N,)
        self.starts = _starts(arrays.lengths)  # (N,) start of each in ``ids``
        self.source_ids = arrays.sources  # flat
        self.source_lengths = arrays.source_lengths if len(arrays.sources) else None  # (N,)
        self.source_starts = _starts(arrays.source_lengths)
        # (N,) ids of each that a model reads: without a label all but the last, after which nothing is predicted.
        self.read_lengths = arrays.lengths if self.labels is not None else np.maximum(arrays.lengths - 1, 1)
        self.longest = int(self.read_lengths.max(initial=1))
        self.tokens = len(arrays.ids)
        self.targets = int(np.count_nonzero(arrays.target_mask))

    def __len__(self) -> int:
        return len(self.lengths)


def _starts(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.cumsum(lengths) - lengths


def flatten_examples(examples: Sequence[Example]) -> Arrays:
    """Examples as arrays, ids of uint32; the first id of an example is never a target.

    Raises ValueError for an example without an id, or with a mask of another length.
    """
    lengths = np.fromiter((len(example.ids) for example in examples), dtype=np.int64, count=len(examples))
    if not lengths.all():
        raise ValueError("an example must have at least one id")
    for example in examples:
        if example.target_mask is not None and len(example.target_mask) != len(example.ids):
            raise ValueError(f"an example of {len(example.ids)} ids has a mask of {len(example.target_mask)}")
    target_mask = _flat((_mask(example) for example in examples), np.uint8)
    target_mask[_starts(lengths)] = 0
    return Arrays(
        ids=_flat((example.ids for example in examples), np.uint32),
        target_mask=target_mask,
        lengths=lengths,
        labels=np.array([UNLABELED if example.label is None else example.label for example in examples], np.int32),
        sources=_flat((example.source for example in examples), np.uint32),
        source_lengths=np.fromiter((len(example.source) for example in examples), np.int64, len(examples)),
    )


def _mask(example: Example) -> Sequence[bool]:
    return (True,) * len(example.ids) if example.target_mask is None else example.target_mask


def _flat(sequences: Iterable[Sequence[int]], dtype: type[np.unsignedinteger[Any]]) -> NDArray[Any]:
    return np.fromiter(chain.from_iterable(sequences), dtype=dtype)


def pack_examples(examples: Sequence[Example]) -> Examples:
    """Examples in memory."""
    return Examples(flatten_examples(examples))


def id_dtype(vocab_size: int) -> str:
    """The narrowest type on disk that holds the ids of a vocabulary."""
    return DTYPES[0] if vocab_size <= 1 << 16 else DTYPES[1]


def file_name(part: str, array: str) -> str:
    """The file of one array of a part."""
    return f"{part}-{array}.bin"


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a folder of examples. Raises DataError if it is missing or damaged."""
    try:
        raw: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        parts = {name: PartManifest(**part) for name, part in raw["parts"].items()}
        refused = {
            name: RefusedItems(given["count"], [(int(number), str(reason)) for number, reason in given["first"]])
            for name, given in raw["refused"].items()
        }
        manifest = replace(Manifest(**raw), parts=parts, refused=refused)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise _damaged(folder / MANIFEST, str(error)) from error
    if manifest.dtype not in DTYPES:
        raise _damaged(folder / MANIFEST, f"its type of ids {manifest.dtype!r} is unknown")
    return manifest


def open_examples(folder: Path, part: str) -> Examples:
    """The examples of one part. Raises DataError if a file differs from its checksum or its count."""
    manifest = read_manifest(folder)
    if part not in manifest.parts:
        raise _damaged(folder / MANIFEST, f"it has no part {part!r}")
    arrays = Arrays(**{array: _open_array(folder, manifest, part, array) for array in ARRAYS})
    counted = manifest.parts[part]
    agrees = (
        arrays.sizes
        == {
            "ids": counted.tokens,
            "target_mask": counted.tokens,
            "lengths": counted.examples,
            "labels": counted.examples,
            "sources": counted.source_tokens,
            "source_lengths": counted.examples,
        }
        and int(arrays.lengths.sum()) == counted.tokens
        and int(arrays.source_lengths.sum()) == counted.source_tokens
    )
    if not agrees:
        raise _damaged(folder / MANIFEST, f"its files do not hold the {counted.examples} examples that it counts")
    return Examples(arrays)


def _open_array(folder: Path, manifest: Manifest, part: str, array: str) -> NDArray[Any]:
    name = file_name(part, array)
    file, dtype = folder / name, ARRAYS[array] or manifest.dtype
    try:
        actual = sha256(file)
        size = file.stat().st_size
    except OSError as error:
        raise _damaged(file, error.strerror or str(error)) from error
    if actual != manifest.parts[part].files.get(name):
        raise _damaged(file, "it is truncated or altered")
    if array in ("lengths", "source_lengths"):
        return np.fromfile(file, dtype=dtype).astype(np.int64)
    if array == "labels" or size == 0:  # an empty file cannot be mapped
        return np.fromfile(file, dtype=dtype)
    return np.memmap(file, dtype=dtype, mode="r")


def _damaged(file: Path, reason: str) -> DataError:
    return DataError(
        f"The prepared examples {file} are damaged: {reason}.",
        "They must match the checksums in their manifest.",
        f"Remove the folder {file.parent}; the next run prepares the examples again.",
    )
