"""What comes out of the sources: pieces of plain documents, records with fields, and what could not be used.

A long document is cut into pieces so that it never need be in memory whole. Where it is cut depends on its text alone,
not on how a file happened to be read: the same document gives the same pieces from any file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from numbers import Number
from typing import Any

from penna.config.sections import DataConfig
from penna.errors import DataError

CHUNK_CHARACTERS = 1 << 18  # characters, the most that stand together
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
class TextChunk:
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


def split_text(text: str) -> Iterator[str]:
    """A document's pieces of at most PIECE characters: the longest ones that end behind a line end, where there is
    one, else behind a space, else anywhere. The two halves of a Windows line end stay together."""
    start = 0
    while len(text) - start > CHUNK_CHARACTERS:
        end = start + CHUNK_CHARACTERS
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


def describe_type(value: Any) -> str:
    """What a value is, as its data has it and not as Python does."""
    for kinds, words in _KINDS:
        if isinstance(value, kinds):
            return words
    return "a value of another kind"


# MERGED data.bad_records: Bad records, counted and named, and the stop where a recipe's data hold more of them than
# it allows.


_SHOWN = 5  # named in a message
KEPT_BAD_RECORDS = 100  # kept with their reasons; the others are only counted


class BadRecords:
    """The bad records of a source: how many there are, and the first of them."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[BadRecord] = []

    def add(self, record: BadRecord) -> None:
        """Count one, and keep it where it is among the first."""
        self.count += 1
        if len(self.first) < KEPT_BAD_RECORDS:
            self.first.append(record)

    def extend(self, count: int, first: Iterable[BadRecord]) -> None:
        """Count ``count`` more, of which ``first`` are the first."""
        self.count += count
        self.first = [*self.first, *first][:KEPT_BAD_RECORDS]


def check_bad_records(count: int, first: Sequence[BadRecord], total: int, config: DataConfig) -> None:
    """Raise DataError where ``count`` of ``total`` records are bad, and that is more than ``allow_bad_records``."""
    if count > config.allow_bad_records * total:
        shown = "\n".join(f"  {record}" for record in first[:_SHOWN])
        more = count - _SHOWN
        raise DataError(
            f"{count} of {total} records cannot be used:\n{shown}" + (f"\n  and {more} more" if more > 0 else ""),
            f"At most {config.allow_bad_records:.0%} may be bad (data.allow_bad_records).",
            "Mend or remove these lines, or allow more with --data.allow-bad-records 0.1."
            if count < total
            else "None can be used, so the cause lies in the file as a whole, or in how it is read.",
        )


# MERGED data.pieces: Pieces of documents as everything behind the sources wants them: cut by one rule, and no
# document blank.
#
# A document comes as one piece or several. Here it is put together and cut anew as it passes, by a rule that looks
# at its
# text alone, so that split, tokens and shards are a function of the text and not of how it was read. Memory holds two
# pieces, whatever the length of a document; only white space at the beginning of one is held for as long as it lasts,
# since a document of nothing else is left out.


def usable_chunks(pieces: Iterable[TextChunk]) -> Iterator[TextChunk]:
    """The same documents without blank ones, in pieces of at most PIECE characters, none of them empty."""
    held, starts, blank = "", True, True  # what is not yet given out of a document
    for piece in pieces:
        if piece.starts:
            if not blank:
                yield TextChunk(held, starts)
            held, starts, blank = "", True, True
        held += piece.text
        blank = blank and not piece.text.strip()
        if not blank:
            *done, held = split_text(held)
            for text in done:
                yield TextChunk(text, starts)
                starts = False
    if not blank:
        yield TextChunk(held, starts)
