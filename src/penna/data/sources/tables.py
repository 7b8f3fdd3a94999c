r"""Tables (.tsv, .csv) as records: a line of column names, then one record per row.

In a .csv ``"`` encloses values with commas, line ends or quotes. In a .tsv a line is a record and a quote is a
character, unless ``data.quoting`` says otherwise. A row with more or fewer values than columns is a bad record.
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
Row = tuple[int, list[str]]  # its first line, its values


def table_records(
    file: Path,
    format: Literal["tsv", "csv"],
    config: DataConfig,
    check: Callable[[Sequence[str]], object] = lambda _: None,
) -> Iterator[Record | BadRecord]:
    """The records of a table; blank lines are skipped. ``check`` is called with the columns once they are known.

    Raises DataError for unusable column names, and for a quote that is never closed.
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
                raise _no_columns(file, f"line {row[0]} repeats the name {repeated[0]!r}")
            check(columns)
        elif len(row[1]) != len(columns):
            yield BadRecord(name, row[0], f"{_counted(len(row[1]))} instead of {len(columns)}")
        else:
            yield Record(dict(zip(columns, row[1], strict=True)), name, row[0])


def _counted(columns: int) -> str:
    return "1 column" if columns == 1 else f"{columns} columns"


def _no_columns(file: Path, reason: str) -> DataError:
    return DataError(
        f"The columns of {file} have no usable names: {reason}.",
        "The first line of a .tsv or .csv must name the columns, each once.",
        "Fix that line, or if there is none, name the columns: --data.columns text --data.columns label.",
    )


def _plain_rows(batches: Iterator[list[bytes | TooLong]], delimiter: str, name: str) -> Iterator[Row | BadRecord]:
    """Rows of lines in which quotes are ordinary characters."""
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
    """The lines of a table for csv.reader, which takes further lines while a quote is open.

    It notes the first line of the current record and its problems, and ends a record that is too long. It never raises
    in the middle of a record, which would leave csv.reader inside the quote.
    """

    def __init__(self, batches: Iterator[list[bytes | TooLong]]) -> None:
        self._lines = chain.from_iterable(batches)
        self._number = 0
        self.read = 0  # bytes in all
        self.ended = False
        self.begin()

    def begin(self) -> None:
        """Start a new record."""
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
            return self._skip_rest(line, inside)
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

    def _skip_rest(self, line: bytes | TooLong, inside: bool) -> str:
        """Skip to the end of the record, where its number of quotes is even, and end it for csv.reader."""
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
    """Rows in which quotes enclose values. The csv module is strict, so that it drops no quote by guessing."""
    lines = _Lines(batches)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while not lines.ended:
        rows: list[Row | BadRecord] = []
        until = lines.read + CHUNK
        with _no_value_limit():
            while lines.read < until and not lines.ended:
                row = _quoted_row(reader, lines, name)
                if row is not None:
                    rows.append(row)
        yield from rows


@contextmanager
def _no_value_limit() -> Generator[None]:
    """Let csv read values of any length.

    The limit belongs to the whole process: it is restored before other code runs, and threads take turns.
    """
    with _limit_lock:
        before = csv.field_size_limit(RECORD_LIMIT)
        try:
            yield
        finally:
            csv.field_size_limit(before)


def _quoted_row(reader: Iterator[list[str]], lines: _Lines, name: str) -> Row | BadRecord | None:
    """The next row; None for a blank line and at the end."""
    lines.begin()
    try:
        values = next(reader, None)
    except csv.Error as error:
        if lines.ended:
            raise DataError(
                f"{name}:{lines.first}: the quote that opens here is never closed.",
                'In a .csv a " at the start of a value encloses it, up to the next single ".',
                "Close it, or fetch an incomplete file again. If quotes are ordinary characters: --data.quoting off.",
            ) from error
        return BadRecord(name, lines.first, f"not a row of values ({error})")
    if lines.too_long:
        return too_large(name, lines.first, lines.size)
    if lines.foreign_byte is not None:
        return _not_utf8(name, lines.first, lines.foreign_byte)
    return (lines.first, values) if values else None
