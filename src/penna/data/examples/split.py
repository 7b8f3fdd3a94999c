"""A recipe's items, dealt out to training and validation, with the classes the training part has.

Where ``valid_path`` is given its items are the validation part. Else items go there by a hash of their texts, so exact
duplicates stand on one side; by position, the last share of them is cut off.
"""

from __future__ import annotations

import hashlib
import re
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Generic, Literal

import numpy as np
from numpy.typing import NDArray

from penna.config.sections import DataConfig
from penna.data.corpus import TextChangedError
from penna.data.examples.example import ExampleFormat, T
from penna.data.sources.reader import Part, read_records
from penna.data.sources.records import BadRecord, BadRecords, check_bad_records
from penna.data.split import AUTO_DOCUMENTS, goes_to_validation
from penna.errors import DataError, RecipeError

# MERGED data.examples.survey: A source's records as a task sees them, gone through once: counted, hashed, and where
# each one stands.
#
# The pass keeps some twenty bytes for a record and none of its text. Every later pass hashes the items again: what is
# made from records that were changed meanwhile must not be kept under the old ones' name.


_UNLABELLED = -1


@dataclass(frozen=True)
class ItemIndex:
    """What one pass over the records of ``path``, or of ``valid_path``, found; items are numbered from 0."""

    items: int
    content_hash: str  # SHA-256 of all items in order, wherever they lie
    texts_hash: str  # SHA-256 of their texts, which a tokenizer may learn from
    held_out: bytearray  # per item, 1 where its text's hash sends it to validation
    labels: tuple[str, ...]  # the classes met, in the order of their first items
    codes: array[int]  # per item, which of them it has, or -1
    bad: BadRecords  # records that are no items
    files: tuple[tuple[int, str], ...]  # each file, with the number of its first item
    lines: array[int]  # per item, where its record begins

    @property
    def records(self) -> int:
        """Records read, bad ones counted in."""
        return self.items + self.bad.count

    def location(self, number: int) -> tuple[str, int]:
        """The file and line of an item."""
        file = self.files[bisect_right(self.files, number, key=lambda found: found[0]) - 1][1]
        return file, self.lines[number]


def survey_items(data: DataConfig, form: ExampleFormat[T], source: Part) -> ItemIndex:
    """Go through the records of ``path``, or for "valid" of ``valid_path``."""
    content, texts_hash = hashlib.sha256(), hashlib.sha256()
    held_out, codes, lines = bytearray(), array("i"), array("q")
    labels: dict[str, int] = {}
    files: list[tuple[int, str]] = []
    bad = BadRecords()
    for item, file, line in _read_items(data, form, source, bad):
        texts = form.texts(item)
        content.update(_marked(item))
        texts_hash.update(_marked(texts))
        held_out.append(goes_to_validation("\n".join(texts), data.valid_fraction))
        label = form.label(item)
        codes.append(_UNLABELLED if label is None else labels.setdefault(label, len(labels)))
        if not files or files[-1][1] != file:
            files.append((len(lines), file))
        lines.append(line)
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
    )


def verified_items(
    data: DataConfig, form: ExampleFormat[T], source: Part, survey: ItemIndex
) -> Iterator[tuple[int, T]]:
    """Every item that was surveyed, with its number.

    Raises TextChangedError, behind the last one at the latest, where they are not the ones that were surveyed.
    """
    content = hashlib.sha256()
    number = -1
    for number, (item, _, _) in enumerate(_read_items(data, form, source, BadRecords())):
        if number == survey.items:
            break
        content.update(_marked(item))
        yield number, item
    if number + 1 != survey.items or content.hexdigest() != survey.content_hash:
        raise TextChangedError(
            f"The records in {', '.join(data.path if source == 'train' else data.valid_path)} were changed while they "
            "were being prepared.",
            "The same records each time they are read: to be counted, learned from and turned into tokens.",
            "Start again when nothing writes to them any more.",
        )


def _read_items(
    data: DataConfig, form: ExampleFormat[T], source: Part, bad: BadRecords
) -> Iterator[tuple[T, str, int]]:
    """Items with the file and line of their records; what is none is added to ``bad``."""
    for record in read_records(data, source):
        item = record if isinstance(record, BadRecord) else form.read(record, data)
        if isinstance(item, BadRecord):
            bad.add(item)
        else:
            yield item, record.file, record.line


def _marked(value: Any) -> bytes:
    """An item's content for a hash. Bytes that stand in no UTF-8 mark its borders and kinds of values; the names of its
    class and fields are no part of it."""
    if isinstance(value, str):
        return b"\xff" + value.encode("utf-8")
    if isinstance(value, list | tuple):
        return b"\xfe" + b"".join(_marked(member) for member in value) + b"\xfd"
    if is_dataclass(value):
        return _marked([getattr(value, field.name) for field in fields(value)])
    if value is None or isinstance(value, int | float):
        return b"\xfc" + repr(value).encode()
    raise TypeError(f"an item holds a {type(value).__name__}, whose content cannot be hashed")


PARTS: tuple[Part, ...] = ("train", "valid")
_LISTED = 12  # labels named in a message


@dataclass(frozen=True)
class SplitData(Generic[T]):
    """Surveyed items with a fixed split."""

    data: DataConfig
    format: ExampleFormat[T]
    surveys: Mapping[Part, ItemIndex]  # of ``path``, and of ``valid_path`` where it is given
    split: Literal["document", "position", "files"]

    @property
    def content_hash(self) -> str:
        """A hash of all items and of how they are split; the same ones give the same hash wherever they lie."""
        return self._hash([survey.content_hash for survey in self.surveys.values()])

    @property
    def texts_hash(self) -> str:
        """A hash of what the tokenizer learns from."""
        return self._hash([self.surveys["train"].texts_hash])

    def _hash(self, hashes: list[str]) -> str:
        return hashlib.sha256("\n".join([*hashes, self.split, str(self.data.valid_fraction)]).encode()).hexdigest()

    def in_validation(self, source: Part) -> NDArray[np.bool_]:
        """Which items of a source the validation part has: (items,)."""
        survey = self.surveys[source]
        if self.split == "files":
            return np.full(survey.items, source == "valid")
        if self.split == "document":
            return np.frombuffer(survey.held_out, dtype=np.uint8) != 0
        return np.arange(survey.items) >= int(survey.items * (1 - self.data.valid_fraction))

    def items(self, part: Part) -> Iterator[tuple[Part, int, T]]:
        """The items of one part, each with its source and its number there. Raises TextChangedError."""
        for source, survey in self.surveys.items():
            wanted = self.in_validation(source) == (part == "valid")
            if wanted.any():
                for number, item in verified_items(self.data, self.format, source, survey):
                    if wanted[number]:
                        yield source, number, item

    def label_counts(self) -> dict[str, int]:
        """How many items of each class the training part has, by whole numbers or by name; none without a label."""
        survey = self.surveys["train"]
        codes = np.frombuffer(survey.codes, dtype=np.int32)[~self.in_validation("train")]
        counts = np.bincount(codes[codes >= 0], minlength=len(survey.labels)).tolist()
        found = {label: count for label, count in zip(survey.labels, counts, strict=True) if count}
        whole_numbers = all(re.fullmatch("[+-]?[0-9]+", label) for label in found)
        ordered = sorted(found, key=lambda label: (int(label) if whole_numbers else 0, label))
        return {label: found[label] for label in ordered}


def split(data: DataConfig, form: ExampleFormat[T]) -> SplitData[T]:
    """Survey a recipe's items and fix their split.

    Raises DataError where there are none, more bad records than ``allow_bad_records``, or a part without an item.
    """
    if data.source == "files" and not data.path:
        raise DataError(
            "The recipe names no data.",
            "data.path is a file or a folder of records.",
            "Give it: --data.path my.jsonl.",
        )
    surveys: dict[Part, ItemIndex] = {"train": index_items(data, form, "train")}
    if data.valid_path:
        return SplitData(data, form, {**surveys, "valid": index_items(data, form, "valid")}, "files")
    split = data.split
    if split == "auto":
        split = "document" if surveys["train"].items >= AUTO_DOCUMENTS else "position"
    dealt = SplitData(data, form, surveys, split)
    items, held_out = surveys["train"].items, int(dealt.in_validation("train").sum())
    if held_out in (0, items):
        which, other = ("validation", "training") if held_out == 0 else ("training", "validation")
        raise DataError(
            f"Of {items:,} usable records in {describe_source(data, 'train')}, none goes to the {which} part.",
            f"Both parts need some; validation takes {data.valid_fraction:.0%} (data.valid_fraction), "
            + ("by a hash of their texts, and equal texts go together." if split == "document" else "the last ones."),
            f"Give more records, another share (--data.valid-fraction {0.5 if held_out == 0 else 0.1}), or a file for "
            f"validation alone (--data.valid-path); all of them are now in the {other} part.",
        )
    return dealt


def index_items(data: DataConfig, form: ExampleFormat[T], source: Part) -> ItemIndex:
    """The survey of a source. Raises DataError where it has no item, or too many bad records."""
    survey = survey_items(data, form, source)
    check_bad_records(survey.bad.count, survey.bad.first, survey.records, data)
    if survey.items == 0:
        raise DataError(
            f"There is no usable record in {describe_source(data, source)} ({survey.bad.count} bad ones).",
            "At least one; to train, two: one to learn from and one to validate with.",
            "Check that the file is the right one and not empty.",
        )
    return survey


def describe_source(data: DataConfig, source: Part) -> str:
    """A source in words."""
    if source == "valid":
        return ", ".join(data.valid_path)
    return "Python's own documentation" if data.source == "python" else ", ".join(data.path)


def choose_labels(found: Mapping[str, int], given: Sequence[str]) -> tuple[str, ...]:
    """The classes to learn: those that are given, else those of the training part; none where there are no labels.

    ``found`` are the classes of the training part. Raises RecipeError where it has no example of one that is given,
    DataError where it has a single class.
    """
    if missing := [label for label in given if label not in found]:
        raise RecipeError(
            f"task.labels names {join_labels(missing)}, of which the training part has no example.",
            f"Classes it has: {join_labels(list(found))}.",
            "Correct task.labels, or give records of each class to learn from; where they come sorted by class, do not "
            "split them by position.",
        )
    if len(found) == 1:
        raise DataError(
            f"The training part has a single class, {join_labels(list(found))}.",
            "Examples of at least two classes.",
            "Check the column (--data.label-column) and that the records are not of one class alone; where they come "
            "sorted by class, do not split them by position.",
        )
    return tuple(given or found)


def unknown_label_reason(label: str, labels: Sequence[str]) -> str:
    """Why a record with this label cannot be used."""
    return f"the label {label!r} is none of those that are learned: {join_labels(labels)}"


def join_labels(labels: Sequence[str]) -> str:
    """Labels for a message, the first of them where they are many."""
    more = f" and {len(labels) - _LISTED:,} more" if len(labels) > _LISTED else ""
    return ", ".join(map(repr, labels[:_LISTED])) + more or "none"
