"""Parquet files as records, some rows at a time.

Memory holds the current pages of a row group, not the file. A compressed .parquet is decompressed to a temporary file,
because Parquet is read from its end.
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
ChooseColumns = Callable[[Mapping[str, bool]], list[str] | None]
"""Takes the columns, each with whether it holds strings; returns the ones to read (None: all)."""


def parquet_records(file: Path, choose: ChooseColumns = lambda _: None) -> Iterator[Record | BadRecord]:
    """The records of a Parquet file; ``line`` is the row."""
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
                f"{file} is damaged, or not a .parquet file: {error} (after row {row:,}).",
                "A complete .parquet file is needed.",
                "Fetch it again, or name its format with --data.format.",
            ) from error


@contextmanager
def _opened(file: Path) -> Generator[IO[bytes]]:
    if not suffixes(file)[1]:
        with open(file, "rb") as raw:
            yield raw
        return
    with tempfile.TemporaryFile(prefix="penna-") as decompressed:
        with friendly_disk_errors(Path(tempfile.gettempdir())):
            for chunk in byte_chunks(file):
                decompressed.write(chunk)
            decompressed.seek(0)
        yield decompressed


def _is_string(kind: Any) -> bool:
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def _rows(batch: Any) -> Iterator[dict[str, Any] | str]:
    """The rows of a batch; for a row with a value that Python cannot represent, the reason."""
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
