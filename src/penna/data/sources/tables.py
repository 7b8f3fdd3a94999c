r"""Tables of text (.tsv, .csv) to records: a line of column names, then one record a row.

In a .csv ``"`` wraps values that hold commas, line ends or quotes; in a .tsv a line is a record and a quote is a quote,
unless ``data.quoting`` says otherwise. A row with more or fewer values than there are columns is told and passed over.
"""

from __future__ import annotations

import csv
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Literal

from penna.config.sections import DataConfig
from penna.data.sources.records import RECORD_LIMIT, BadRecord, Record, too_large
from penna.data.sources.streams import CHUNK, TooLong, checked_chunks, line_batches
from penna.errors import DataError

_limit_lock = threading.Lock()
_DELIMITERS = {"tsv": "\t", "csv": ","}
Row = tuple[int, list[str]]  # the line it begins on, its values


def table_records(
    file: Path,
    format: Literal["tsv", "csv"],
    config: DataConfig,
    check: Callable[[Sequence[str]], object] = lambda _: None,
) -> Iterator[Record | BadRecord]:
    """The records of a table; blank lines are passed over. ``check`` is called with its columns once they are known.

    Raises DataError for a line of column names that cannot be used, and for a quote that is never closed.
    """
    quoted = config.quoting == "on" or (config.quoting == "auto" and format == "csv")
    lines = line_batches(checked_chunks(file))
    rows = _quoted_rows if quoted else _plain_rows
    name, columns = str(file), list(config.columns)
    if columns:
        check(columns)
    for row in rows(lines, _DELIMITERS[format], name):
        if isinstance(row, BadRecord):
            if not columns:
                raise _no_columns(file, f"line {row.line} is {row.reason}")
            yield row
        elif not columns:
            columns = row[1]
            if repeated := sorted({column for column in columns if columns.count(column) > 1}):
                raise _no_columns(file, f"the name {repeated[0]!r} stands in line {row[0]} more than once")
            check(columns)
        elif len(row[1]) != len(columns):
            yield BadRecord(name, row[0], f"{_counted(len(row[1]))}, where {len(columns)} are expected")
        else:
            yield Record(dict(zip(columns, row[1], strict=True)), name, row[0])


def _counted(columns: int) -> str:
    return "1 column" if columns == 1 else f"{columns} columns"


def _no_columns(file: Path, reason: str) -> DataError:
    return DataError(
        f"The columns of {file} have no usable names: {reason}.",
        "The first line of a .tsv or .csv names its columns, each once.",
        "Mend that line, or, where there is none, name the columns: --data.columns text --data.columns label.",
    )


def _plain_rows(batches: Iterator[list[bytes | TooLong]], delimiter: str, name: str) -> Iterator[Row | BadRecord]:
    """Rows of lines in which quotes mean nothing."""
    for number, line in enumerate(chain.from_iterable(batches), start=1):
        if isinstance(line, TooLong):
            yield too_large(name, number, line.size)
            continue
        try:
            text = line.decode().rstrip("\r\n")
        except UnicodeDecodeError as error:
            yield _not_utf8(name, number, line[error.start])
            continue
        if text:
            yield number, text.split(delimiter)


def _not_utf8(name: str, line: int, byte: int) -> BadRecord:
    return BadRecord(name, line, f"not UTF-8 (byte 0x{byte:02x}; iconv -f CP949 or LATIN1 -t UTF-8 converts a file)")


class _Lines:
    """Lines of a table for csv.reader, which asks for another one as long as a quote is open.

    It says where the record that is being read begins and what is wrong with it, closes one that grows too long, and
    keeps csv.reader going: an error in the middle of a record would leave it inside the quote.
    """

    def __init__(self, batches: Iterator[list[bytes | TooLong]]) -> None:
        self._lines = chain.from_iterable(batches)
        self._number = 0
        self.read = 0  # bytes in all
        self.ended = False
        self.begin()

    def begin(self) -> None:
        """Another record begins."""
        self.first = self._number + 1
        self.size = 0
        self.too_long = False
        self.foreign_byte: int | None = None

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._next()
        if line is None:
            self.ended = True
            raise StopIteration
        inside, self.size = self.size > 0, self.size + _size(line)
        if isinstance(line, TooLong) or self.size > RECORD_LIMIT:
            return self._rest_left_out(line, inside)
        try:
            return line.decode()
        except UnicodeDecodeError as error:
            self.foreign_byte = line[error.start]
            return line.decode("utf-8", "replace")

    def _next(self) -> bytes | TooLong | None:
        line = next(self._lines, None)
        self._number += line is not None
        self.read += 0 if line is None else _size(line)
        return line

    def _rest_left_out(self, line: bytes | TooLong, inside: bool) -> str:
        """Go on to the end of the record, where its quotes are even in number, and end it for csv.reader."""
        self.too_long = True
        open_quote = inside
        while True:
            open_quote ^= bool(_quotes(line) % 2)
            following = self._next() if open_quote else None
            if following is None:
                self.ended = open_quote
                return '"\n' if inside else "\n"
            line = following
            self.size += _size(line)


def _size(line: bytes | TooLong) -> int:
    return line.size if isinstance(line, TooLong) else len(line)


def _quotes(line: bytes | TooLong) -> int:
    return line.quotes if isinstance(line, TooLong) else line.count(b'"')


def _quoted_rows(batches: Iterator[list[bytes | TooLong]], delimiter: str, name: str) -> Iterator[Row | BadRecord]:
    """Rows in which quotes wrap values, by the csv module: strictly, so that no quote is dropped by guessing."""
    lines = _Lines(batches)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while not lines.ended:
        rows: list[Row | BadRecord] = []
        until = lines.read + CHUNK
        with _longest_values():
            while lines.read < until and not lines.ended:
                row = _quoted_row(reader, lines, name)
                if row is not None:
                    rows.append(row)
        yield from rows


@contextmanager
def _longest_values() -> Generator[None]:
    """Let csv take values of any length. That is a setting of the whole process: it is put back before other code
    runs, and threads that read tables take turns."""
    with _limit_lock:
        before = csv.field_size_limit(RECORD_LIMIT)
        try:
            yield
        finally:
            csv.field_size_limit(before)


def _quoted_row(reader: Iterator[list[str]], lines: _Lines, name: str) -> Row | BadRecord | None:
    """The next row; None for a blank line, and at the end."""
    lines.begin()
    try:
        values = next(reader, None)
    except csv.Error as error:
        if lines.ended:
            raise DataError(
                f"{name}:{lines.first}: a quote opens here that is never closed; the file ends inside it.",
                'In a .csv a " at the beginning of a value wraps it, up to the next " that stands alone.',
                "Close it; if the file was cut off, fetch it again; if quotes mean nothing here: --data.quoting off.",
            ) from error
        return BadRecord(name, lines.first, f"not a row of values ({error})")
    if lines.too_long:
        return too_large(name, lines.first, lines.size)
    if lines.foreign_byte is not None:
        return _not_utf8(name, lines.first, lines.foreign_byte)
    return (lines.first, values) if values else None
