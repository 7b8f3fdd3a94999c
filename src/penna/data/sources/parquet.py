"""Parquet files to records, some rows at a time; of a text that is asked for alone, only its column is read.

Memory holds the pages of a row group that are being read, not the file. A packed .parquet is unpacked to a temporary
file, because Parquet is read from its end.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from penna.data.sources.files import suffixes
from penna.data.sources.records import BadRecord, Record
from penna.data.sources.streams import byte_chunks, readable
from penna.errors import DataError
from penna.storage import friendly_disk_errors

_ROWS = 256  # at a time
Choose = Callable[[Mapping[str, bool]], list[str] | None]


def parquet_records(file: Path, choose: Choose = lambda _: None) -> Iterator[Record | BadRecord]:
    """The records of a Parquet file, ``line`` being the row.

    ``choose`` gets the columns, each with whether it holds strings, and says which are wanted (None: all).
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    name, row = str(file), 0
    with readable(file), _opened(file) as source:
        try:
            table = pq.ParquetFile(source, pre_buffer=False, buffer_size=1 << 20)
            strings = {field.name: _is_string(field.type) for field in table.schema_arrow}
            for batch in table.iter_batches(_ROWS, columns=choose(strings), use_threads=False):
                for fields in _rows(batch):
                    row += 1
                    yield Record(fields, name, row) if isinstance(fields, dict) else BadRecord(name, row, fields)
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise DataError(
                f"{file} is damaged, or no .parquet file: {error} (behind row {row:,}).",
                "A whole .parquet file.",
                "Fetch it again, or say what it is with --data.format.",
            ) from error


@contextmanager
def _opened(file: Path) -> Generator[IO[bytes]]:
    if not suffixes(file)[1]:
        with open(file, "rb") as raw:
            yield raw
        return
    with tempfile.TemporaryFile(prefix="penna-") as unpacked:
        with friendly_disk_errors(Path(tempfile.gettempdir())):
            for chunk in byte_chunks(file):
                unpacked.write(chunk)
            unpacked.seek(0)
        yield unpacked


def _is_string(kind: Any) -> bool:
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def _rows(batch: Any) -> Iterator[dict[str, Any] | str]:
    """The rows of a batch; for one with a value Python has no way to hold, what is wrong."""
    try:
        yield from batch.to_pylist()
    except (ValueError, OverflowError):
        for number in range(batch.num_rows):
            try:
                yield batch.slice(number, 1).to_pylist()[0]
            except UnicodeDecodeError:
                yield "not UTF-8"
            except (ValueError, OverflowError) as error:
                yield f"a value that cannot be read ({error})"
