"""The items of a recipe, split into training and validation.

An item is a record as a task reads it. One pass counts the items, hashes them, and notes the location, label and part
of each; it keeps about twenty bytes per item and none of the text. Later passes verify that the items are still the
same.
"""

from __future__ import annotations

import hashlib
import re
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Generic

import numpy as np
from numpy.typing import NDArray

from penna.config.sections import DataConfig
from penna.data.examples.example import ExampleFormat, T
from penna.data.sources.reader import Part, read_records
from penna.data.sources.records import BadRecord, BadRecords, check_bad_records
from penna.data.split import (
    SplitMethod,
    Stamps,
    changed_error,
    describe_source,
    goes_to_validation,
    source_stamps,
    split_method,
)
from penna.errors import DataError, RecipeError

_UNLABELED = -1
_LISTED = 12  # labels named in a message


@dataclass(frozen=True)
class ItemIndex:
    """What one pass over the records of ``path``, or of ``valid_path``, found; items are numbered from 0."""

    items: int
    content_hash: str  # SHA-256 of all items in order, independent of paths
    texts_hash: str  # SHA-256 of their texts, which a tokenizer may be trained on
    held_out: bytearray  # per item, 1 if the hash of its texts puts it in validation
    labels: tuple[str, ...]  # in the order of their first items
    codes: array[int]  # per item, the index of its label, or -1
    bad: BadRecords  # records that make no item
    files: tuple[tuple[int, str], ...]  # each file, with the number of its first item
    lines: array[int]  # per item, the line of its record
    stamps: Stamps | None

    @property
    def records(self) -> int:
        """All records that were read, including bad ones."""
        return self.items + self.bad.count

    def location(self, number: int) -> tuple[str, int]:
        """The file and line of an item."""
        file = self.files[bisect_right(self.files, number, key=lambda found: found[0]) - 1][1]
        return file, self.lines[number]


@dataclass(frozen=True)
class SplitData(Generic[T]):
    """Indexed items with a fixed split.

    By document, the hash of an item's texts decides. By position, the last share of the items is validation. With
    ``valid_path``, its items are validation.
    """

    data: DataConfig
    format: ExampleFormat[T]
    indexes: Mapping[Part, ItemIndex]  # of ``path``, and of ``valid_path`` if it is given
    split: SplitMethod

    @property
    def content_hash(self) -> str:
        """A hash of all items and their split, independent of paths."""
        return self._hash([index.content_hash for index in self.indexes.values()])

    @property
    def texts_hash(self) -> str:
        """A hash of what the tokenizer is trained on."""
        return self._hash([self.indexes["train"].texts_hash])

    def _hash(self, hashes: list[str]) -> str:
        return hashlib.sha256("\n".join([*hashes, self.split, str(self.data.valid_fraction)]).encode()).hexdigest()

    def in_validation(self, source: Part) -> NDArray[np.bool_]:
        """Which items of a source belong to validation: (items,)."""
        index = self.indexes[source]
        if self.split == "files":
            return np.full(index.items, source == "valid")
        if self.split == "document":
            return np.frombuffer(index.held_out, dtype=np.uint8) != 0
        return np.arange(index.items) >= int(index.items * (1 - self.data.valid_fraction))

    def split_items(self) -> Iterator[tuple[Part, Part, int, T]]:
        """All items as (part, source, number in the source, item), each source read once. Raises TextChangedError."""
        for source, index in self.indexes.items():
            held_out = self.in_validation(source)
            for number, item in verified_items(self.data, self.format, source, index):
                yield "valid" if held_out[number] else "train", source, number, item

    def items(self, part: Part) -> Iterator[tuple[Part, int, T]]:
        """The items of one part, each with its source and its number there. Raises TextChangedError."""
        for source, index in self.indexes.items():
            chosen = self.in_validation(source) == (part == "valid")
            if chosen.any():
                for number, item in verified_items(self.data, self.format, source, index):
                    if chosen[number]:
                        yield source, number, item

    def label_counts(self) -> dict[str, int]:
        """How many training items each label has, sorted by number if all labels are whole numbers, else by name."""
        index = self.indexes["train"]
        codes = np.frombuffer(index.codes, dtype=np.int32)[~self.in_validation("train")]
        counts = np.bincount(codes[codes >= 0], minlength=len(index.labels)).tolist()
        found = {label: count for label, count in zip(index.labels, counts, strict=True) if count}
        whole_numbers = all(re.fullmatch("[+-]?[0-9]+", label) for label in found)
        ordered = sorted(found, key=lambda label: (int(label) if whole_numbers else 0, label))
        return {label: found[label] for label in ordered}


def split(data: DataConfig, format: ExampleFormat[T]) -> SplitData[T]:
    """Index a recipe's items and fix their split.

    Raises DataError if there are none, more bad records than ``allow_bad_records``, or a part without an item.
    """
    if data.source == "files" and not data.path:
        raise DataError(
            "The recipe names no data.",
            "data.path must be a file or folder of records.",
            "Name one: --data.path my.jsonl.",
        )
    indexes: dict[Part, ItemIndex] = {"train": index_items(data, format, "train")}
    method = split_method(data, indexes["train"].items)
    if method == "files":
        indexes["valid"] = index_items(data, format, "valid")
        return SplitData(data, format, indexes, method)
    found = SplitData(data, format, indexes, method)
    items, held_out = indexes["train"].items, int(found.in_validation("train").sum())
    if held_out in (0, items):
        empty, other = ("validation", "training") if held_out == 0 else ("training", "validation")
        chosen = "by a hash of their texts" if method == "document" else "from the end"
        raise DataError(
            f"All {items:,} usable records in {describe_source(data, 'train')} go to the {other} part, and the {empty} "
            "part is empty.",
            f"Both parts need records. Validation takes {data.valid_fraction:.0%} (data.valid_fraction), {chosen}.",
            f"Give more records, another share (--data.valid-fraction {0.5 if held_out == 0 else 0.1}), or a separate "
            "validation file (--data.valid-path).",
        )
    return found


def index_items(data: DataConfig, format: ExampleFormat[T], source: Part) -> ItemIndex:
    """Read the records of ``path``, or for "valid" of ``valid_path``, once.

    Raises DataError if they make no item, or if too many are bad.
    """
    stamps = source_stamps(data, source)
    content, texts_hash = hashlib.sha256(), hashlib.sha256()
    held_out, codes, lines = bytearray(), array("i"), array("q")
    labels: dict[str, int] = {}
    files: list[tuple[int, str]] = []
    bad = BadRecords()
    for item, file, line in _read_items(data, format, source, bad):
        texts = format.texts(item)
        content.update(_marked(item))
        texts_hash.update(_marked(texts))
        held_out.append(goes_to_validation("\n".join(texts), data.valid_fraction))
        label = format.label(item)
        codes.append(_UNLABELED if label is None else labels.setdefault(label, len(labels)))
        if not files or files[-1][1] != file:
            files.append((len(lines), file))
        lines.append(line)
    check_bad_records(bad.count, bad.first, len(lines) + bad.count, data)
    if not lines:
        raise DataError(
            f"There is no usable record in {describe_source(data, source)} ({bad.count} bad ones).",
            "Evaluation needs at least one record, and training one more for validation.",
            "Check that this is the right file and that it is not empty.",
        )
    return ItemIndex(
        items=len(lines),
        content_hash=content.hexdigest(),
        texts_hash=texts_hash.hexdigest(),
        held_out=held_out,
        labels=tuple(labels),
        codes=codes,
        bad=bad,
        files=tuple(files),
        lines=lines,
        stamps=stamps if stamps == source_stamps(data, source) else None,
    )


def verified_items(
    data: DataConfig, format: ExampleFormat[T], source: Part, index: ItemIndex
) -> Iterator[tuple[int, T]]:
    """Every indexed item with its number.

    Raises TextChangedError, after the last item at the latest, if they are not the items that were indexed.
    """
    stamps = source_stamps(data, source)
    content = hashlib.sha256() if stamps is None or stamps != index.stamps else None
    number = -1
    for number, (item, _, _) in enumerate(_read_items(data, format, source, BadRecords())):
        if number == index.items:
            break
        if content is not None:
            content.update(_marked(item))
        yield number, item
    unchanged = stamps == source_stamps(data, source) if content is None else content.hexdigest() == index.content_hash
    if number + 1 != index.items or not unchanged:
        raise changed_error(f"The text in {describe_source(data, source)}")


def _read_items(
    data: DataConfig, format: ExampleFormat[T], source: Part, bad: BadRecords
) -> Iterator[tuple[T, str, int]]:
    """Items with the file and line of their records; bad records are added to ``bad``."""
    for record in read_records(data, source):
        item = record if isinstance(record, BadRecord) else format.read(record, data)
        if isinstance(item, BadRecord):
            bad.add(item)
        else:
            yield item, record.file, record.line


def _marked(value: Any) -> bytes:
    """The content of an item, for a hash.

    Bytes that UTF-8 never contains mark borders and types. The names of classes and fields are not part of it.
    """
    if isinstance(value, str):
        return b"\xff" + value.encode("utf-8")
    if isinstance(value, list | tuple):
        return b"\xfe" + b"".join(_marked(member) for member in value) + b"\xfd"
    if is_dataclass(value):
        return _marked([getattr(value, field.name) for field in fields(value)])
    if value is None or isinstance(value, int | float):
        return b"\xfc" + repr(value).encode()
    raise TypeError(f"an item holds a {type(value).__name__}, whose content cannot be hashed")


def choose_labels(found: Mapping[str, int], given: Sequence[str]) -> tuple[str, ...]:
    """The classes to train on: the given ones, else those of the training part; empty if there are no labels.

    ``found`` are the classes of the training part. Raises RecipeError if it has no example of a given class, DataError
    if it has a single class.
    """
    if missing := [label for label in given if label not in found]:
        raise RecipeError(
            f"task.labels names {join_labels(missing)}, but the training part has no example of it."
            if len(missing) == 1
            else f"task.labels names {join_labels(missing)}, but the training part has no examples of them.",
            f"Its classes are {join_labels(list(found))}.",
            "Correct task.labels, or add training records of each class. If the records are sorted by class, do not "
            "split them by position.",
        )
    if len(found) == 1:
        raise DataError(
            f"The training part has a single class, {join_labels(list(found))}.",
            "A classifier needs examples of at least two classes.",
            "Check the label column (--data.label-column). If the records are sorted by class, do not split them by "
            "position.",
        )
    return tuple(given or found)


def unknown_label_reason(label: str, labels: Sequence[str]) -> str:
    """Why a record with this label cannot be used."""
    return f"the label {label!r} is not one of the classes {join_labels(labels)}"


def join_labels(labels: Sequence[str]) -> str:
    """Labels for a message; of many, the first ones."""
    more = f" and {len(labels) - _LISTED:,} more" if len(labels) > _LISTED else ""
    return ", ".join(map(repr, labels[:_LISTED])) + more or "none"
