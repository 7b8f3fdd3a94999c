"""What comes out of the sources: pieces of plain documents, records with fields, and what could not be used.

A long document is cut into pieces so that it never need be in memory whole. Where it is cut depends on its text alone,
not on how a file happened to be read: the same document gives the same pieces from any file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from numbers import Number
from typing import Any

PIECE = 1 << 18  # characters, the most that stand together
RECORD_LIMIT = 64 << 20  # bytes; a longer record is passed over as a bad one
_KINDS = (  # the first that holds: to Python, true is a number
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
class Piece:
    """A document (``starts``), or a further piece of the one before; at most PIECE characters."""

    text: str
    starts: bool


@dataclass(frozen=True)
class BadRecord:
    """A record that cannot be used: where it stands and why."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Record:
    """A record's fields and where it begins; in .parquet and on the hub ``line`` is the row, counted from 1."""

    fields: dict[str, Any]
    file: str
    line: int


def cut(text: str) -> Iterator[str]:
    """A document's pieces of at most PIECE characters: the longest ones that end behind a line end, where there is
    one, else behind a space, else anywhere. The two halves of a Windows line end stay together."""
    start = 0
    while len(text) - start > PIECE:
        end = start + PIECE
        if text[end - 1] == "\r" and text[end] == "\n":
            end -= 1
        behind_line = max(text.rfind("\n", start, end), text.rfind("\r", start, end)) + 1
        end = behind_line or text.rfind(" ", start, end) + 1 or end
        yield text[start:end]
        start = end
    yield text[start:]


def too_large(file: str, line: int, size: int, unit: str = "bytes") -> BadRecord:
    """A record that was passed over for its size."""
    return BadRecord(file, line, f"{size:,} {unit} long; a record holds at most {RECORD_LIMIT:,}")


def in_words(value: Any) -> str:
    """What a value is, as its data has it and not as Python does."""
    for kinds, words in _KINDS:
        if isinstance(value, kinds):
            return words
    return "a value of another kind"
