"""Examples as flat arrays: ids one behind another, what of them is due, labels and sources; in memory or on disk.

A folder holds, for each part, the files that ``ARRAYS`` names (little-endian, without a header) and a
``manifest.json`` with counts, hashes and checksums. `penna.data.examples.encode` writes it; here it is read: checksums
are verified, ids and masks mapped into memory, and the rest, a few numbers for an example, read.
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
UNLABELED = -1  # in ``labels``, an example without one among others that have one


@dataclass(frozen=True)
class PartManifest:
    """One part (train or valid) of a folder of examples."""

    examples: int
    tokens: int  # ids in all
    targets: int  # targets in all
    source_tokens: int  # ids of all sources
    truncated: int  # examples that lack a part of their record
    characters: int  # of the texts the examples were made of
    bytes: int  # the same in UTF-8
    files: dict[str, str]  # file name -> SHA-256


@dataclass(frozen=True)
class Refused:
    """Records that no example could be made of, of one source: how many, and the first ones' numbers and reasons."""

    count: int
    first: list[tuple[int, str]]


@dataclass(frozen=True)
class Manifest:
    """What a folder of examples holds."""

    dtype: str
    tokenizer_hash: str
    content_hash: str
    labels: list[str]
    parts: dict[str, PartManifest]
    refused: dict[str, Refused]


@dataclass(frozen=True)
class Arrays:
    """Examples one behind another."""

    ids: NDArray[Any]
    target_mask: NDArray[np.uint8]  # per id
    lengths: NDArray[np.int64]  # ids of each example
    labels: NDArray[np.int32]  # UNLABELLED where there is none
    sources: NDArray[Any]
    source_lengths: NDArray[np.int64]

    @property
    def sizes(self) -> dict[str, int]:
        """How many entries each array has, by name."""
        return {name: len(getattr(self, name)) for name in ARRAYS}


# What each array is on disk; None: the manifest's type of ids.
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
        self.starts = _starts(arrays.lengths)  # (N,) where in ``ids`` each begins
        self.source_ids = arrays.sources  # flat
        self.source_lengths = arrays.source_lengths if len(arrays.sources) else None  # (N,)
        self.source_starts = _starts(arrays.source_lengths)
        # (N,) how many ids of each a batch shows: without a label all but the last, behind which nothing is predicted.
        self.read_lengths = arrays.lengths if self.labels is not None else np.maximum(arrays.lengths - 1, 1)
        self.longest = int(self.read_lengths.max(initial=1))
        self.tokens = len(arrays.ids)
        self.due = int(np.count_nonzero(arrays.target_mask))

    def __len__(self) -> int:
        return len(self.lengths)


def _starts(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.cumsum(lengths) - lengths


def flatten_examples(examples: Sequence[Example]) -> Arrays:
    """Examples as arrays, ids of uint32; the first id of none is due. Raises ValueError where one has no id, or a mask
    of another length."""
    lengths = np.fromiter((len(example.ids) for example in examples), dtype=np.int64, count=len(examples))
    if not lengths.all():
        raise ValueError("an example has at least one id")
    for example in examples:
        if example.target_mask is not None and len(example.target_mask) != len(example.ids):
            raise ValueError(f"an example of {len(example.ids)} ids has a mask of {len(example.target_mask)}")
    due = _flat((_mask(example) for example in examples), np.uint8)
    due[_starts(lengths)] = 0
    return Arrays(
        ids=_flat((example.ids for example in examples), np.uint32),
        target_mask=due,
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


def file_name(part: str, array: str) -> str:
    """The file of one array of a part."""
    return f"{part}-{array}.bin"


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a folder of examples. Raises DataError where it is missing or damaged."""
    try:
        raw: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        parts = {name: PartManifest(**part) for name, part in raw["parts"].items()}
        refused = {
            name: Refused(given["count"], [(int(number), str(reason)) for number, reason in given["first"]])
            for name, given in raw["refused"].items()
        }
        manifest = replace(Manifest(**raw), parts=parts, refused=refused)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise _damaged(folder / MANIFEST, str(error)) from error
    if manifest.dtype not in DTYPES:
        raise _damaged(folder / MANIFEST, f"ids of an unknown type {manifest.dtype!r}")
    return manifest


def open_examples(folder: Path, part: str) -> Examples:
    """The examples of one part. Raises DataError where a file differs from its checksum, or is not what is counted."""
    manifest = read_manifest(folder)
    if part not in manifest.parts:
        raise _damaged(folder / MANIFEST, f"it names no part {part!r}")
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
        raise _damaged(folder / MANIFEST, f"its files do not hold the {counted.examples} examples it counts")
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
        f"Remove the folder {file.parent}; it is made again from the source text.",
    )
