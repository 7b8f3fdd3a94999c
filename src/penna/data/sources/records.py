"""What sources yield: chunks of text, records with fields, and bad records.

A long document comes in chunks, so it need not fit in memory. The chunks depend on its text alone, not on how a file
was read, so split, tokens and shards depend on the text alone, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from numbers import Number
from typing import Any

from penna.config.sections import DataConfig
from penna.errors import DataError

CHUNK_CHARACTERS = 1 << 18  # at most
RECORD_LIMIT = 64 << 20  # bytes; a longer record is a bad one
KEPT_BAD_RECORDS = 100  # kept with their reasons; the others are only counted
_SHOWN = 5  # bad records named in a message
_TYPE_NAMES = (  # the first match counts: in Python, bool is a number
    (str, "text"),
    (bool, "true or false"),
    (Number, "a number"),
    (type(None), "nothing"),
    (list, "a list"),
    (dict, "an object"),
    (bytes, "bytes"),
    (date, "a date"),
)


@dataclass(frozen=True, slots=True)
class TextChunk:
    """At most CHUNK_CHARACTERS of a document; ``starts`` for its first chunk."""

    text: str
    starts: bool


@dataclass(frozen=True)
class BadRecord:
    """A record that cannot be used: its location and the reason."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Record:
    """A record's fields and first line; in .parquet and on the hub ``line`` is the row, counted from 1."""

    fields: dict[str, Any]
    file: str
    line: int


def split_text(text: str) -> Iterator[str]:
    r"""Split a document into chunks of at most CHUNK_CHARACTERS.

    Each is as long as possible and ends after a line end, else after a space, else anywhere; never inside ``\r\n``.
    """
    start = 0
    while len(text) - start > CHUNK_CHARACTERS:
        end = start + CHUNK_CHARACTERS
        if text[end - 1] == "\r" and text[end] == "\n":
            end -= 1
        line_end = max(text.rfind("\n", start, end), text.rfind("\r", start, end)) + 1
        end = line_end or text.rfind(" ", start, end) + 1 or end
        yield text[start:end]
        start = end
    yield text[start:]


def too_large(file: str, line: int, size: int, unit: str = "bytes") -> BadRecord:
    """The bad record for one that is too long."""
    return BadRecord(file, line, f"{size:,} {unit} long; at most {RECORD_LIMIT:,} are allowed")


def describe_type(value: Any) -> str:
    """The type of a value in JSON's terms, with its article."""
    for kinds, words in _TYPE_NAMES:
        if isinstance(value, kinds):
            return words
    return "a value of another type"


class BadRecords:
    """The bad records of a source: their number, and the first of them."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[BadRecord] = []

    def add(self, record: BadRecord) -> None:
        """Count one, and keep it if it is among the first."""
        self.count += 1
        if len(self.first) < KEPT_BAD_RECORDS:
            self.first.append(record)

    def extend(self, count: int, first: Iterable[BadRecord]) -> None:
        """Count further ones, of which ``first`` are the first."""
        self.count += count
        self.first = [*self.first, *first][:KEPT_BAD_RECORDS]


def check_bad_records(count: int, first: Sequence[BadRecord], total: int, config: DataConfig) -> None:
    """Raise DataError if ``count`` bad records of ``total`` are more than ``allow_bad_records``."""
    if count > config.allow_bad_records * total:
        shown = "\n".join(f"  {record}" for record in first[:_SHOWN])
        more = count - _SHOWN
        raise DataError(
            f"{count} of {total} records cannot be used:\n{shown}" + (f"\n  and {more} more" if more > 0 else ""),
            f"At most {config.allow_bad_records:.0%} may be bad (data.allow_bad_records).",
            "Fix or remove them, or allow more with --data.allow-bad-records 0.1."
            if count < total
            else "No record can be used, so check the file itself and the options that say how it is read.",
        )


def usable_chunks(chunks: Iterable[TextChunk]) -> Iterator[TextChunk]:
    """The same documents without blank ones, split anew by ``split_text``; no chunk is empty.

    Memory holds two chunks, and the white space at the start of a document.
    """
    held, starts, blank = "", True, True  # the part of a document that was not yet yielded
    for chunk in chunks:
        if chunk.starts:
            if not blank:
                yield TextChunk(held, starts)
            held, starts, blank = "", True, True
        held += chunk.text
        blank = blank and not chunk.text.strip()
        if not blank:
            *done, held = split_text(held)
            for text in done:
                yield TextChunk(text, starts)
                starts = False
    if not blank:
        yield TextChunk(held, starts)
