"""A source's records as a task sees them, gone through once: counted, hashed, and where each one stands.

The pass keeps some twenty bytes for a record and none of its text. Every later pass hashes the items again: what is
made from records that were changed meanwhile must not be kept under the old ones' name.
"""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from penna.config.sections import DataConfig
from penna.data.bad_records import BadRecords
from penna.data.corpus import TextChangedError
from penna.data.dealing import goes_to_validation
from penna.data.examples.example import Form, T
from penna.data.reading.records import BadRecord
from penna.data.reading.sources import Part, read_records

_UNLABELLED = -1


@dataclass(frozen=True)
class Survey:
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

    def place(self, number: int) -> tuple[str, int]:
        """The file and line of an item."""
        file = self.files[bisect_right(self.files, number, key=lambda found: found[0]) - 1][1]
        return file, self.lines[number]


def survey_items(data: DataConfig, form: Form[T], source: Part) -> Survey:
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
    return Survey(
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


def items_of(data: DataConfig, form: Form[T], source: Part, survey: Survey) -> Iterator[tuple[int, T]]:
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


def _read_items(data: DataConfig, form: Form[T], source: Part, bad: BadRecords) -> Iterator[tuple[T, str, int]]:
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
