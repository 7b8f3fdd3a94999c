"""The documents and records of a recipe's paths, in order, from any format.

``read_texts`` yields text, long documents in chunks. ``read_records`` yields records with their fields, which
``fields`` interprets. Both stream. Nothing is dropped silently: an unusable record becomes a ``BadRecord`` with its
file, line and reason, and a file that is damaged or not text raises a DataError.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Literal

from penna.config.sections import DataConfig
from penna.data.sources.fields import TEXT_COLUMNS, text_column_in, text_of
from penna.data.sources.files import find_files, format_of
from penna.data.sources.hub import PREFIX, HubDataset, hub_dataset, hub_records
from penna.data.sources.json_files import json_records, jsonl_records
from penna.data.sources.parquet import ChooseColumns, parquet_records
from penna.data.sources.python_text import python_documents
from penna.data.sources.records import CHUNK_CHARACTERS, BadRecord, Record, TextChunk, split_text
from penna.data.sources.tables import table_records
from penna.data.sources.text_files import document_chunks, text_records
from penna.errors import DataError

Part = Literal["train", "valid"]
PARTS: tuple[Part, ...] = ("train", "valid")
Source = Path | HubDataset


def find_sources(config: DataConfig, part: Part = "train") -> list[Source]:
    """The files and hub datasets of ``path``, or of ``valid_path``. Raises DataError for a missing one."""
    sources: list[Source] = []
    for path in config.path if part == "train" else config.valid_path:
        if path.startswith(PREFIX):
            sources.append(hub_dataset(path, part))
        elif path == "-":
            raise DataError(
                "The path - (standard input) can be read only once.",
                "Text must be in a file, because it is read several times.",
                "Save it first, for example with penna.data.sources.standard_input.save_standard_input.",
            )
        else:
            sources.extend(find_files([path], config.format))
    return sources


def read_texts(config: DataConfig, part: Part = "train") -> Iterator[TextChunk | BadRecord]:
    """Every document of ``path`` (or ``valid_path``), in chunks and in order, blank ones too.

    At most ``limit`` (or ``valid_limit``) documents and bad records are read; records that ``where`` excludes do not
    count.
    """
    if config.source == "python" and part == "train":
        chunks: Iterator[TextChunk | BadRecord] = (chunk for text in python_documents() for chunk in _chunks(text))
    else:
        sources = find_sources(config, part)
        chunks = (chunk for source in sources for chunk in _texts(source, config))
    limit = config.limit if part == "train" else config.valid_limit
    return chunks if limit is None else _first(chunks, limit)


def read_records(config: DataConfig, part: Part = "train") -> Iterator[Record | BadRecord]:
    """Every record of ``path`` (or ``valid_path``) in order; a document of plain text is a record with the field text.

    At most ``limit`` (or ``valid_limit``) records are read, including bad ones; those that ``where`` excludes do not
    count.
    """
    if config.source == "python" and part == "train":
        texts = enumerate(python_documents(), start=1)
        records: Iterator[Record | BadRecord] = (Record({"text": text}, "python", number) for number, text in texts)
    else:
        sources = find_sources(config, part)
        records = (record for source in sources for record in _records(source, config))
    limit = config.limit if part == "train" else config.valid_limit
    return islice(records, limit)


def _first(chunks: Iterator[TextChunk | BadRecord], limit: int) -> Iterator[TextChunk | BadRecord]:
    """The chunks of the first documents."""
    left = limit
    for chunk in chunks:
        if isinstance(chunk, BadRecord) or chunk.starts:
            if left == 0:
                return
            left -= 1
        yield chunk


def _texts(source: Source, config: DataConfig) -> Iterator[TextChunk | BadRecord]:
    if isinstance(source, Path) and format_of(source, config.format) == "txt" and not config.where:
        for _, text, starts in document_chunks(source, config.document):
            yield TextChunk(text, starts)
        return
    for record in _records(source, config, partial(_text_column, source, config)):
        text = record if isinstance(record, BadRecord) else text_of(record, config)
        if isinstance(text, BadRecord):
            yield text
        elif len(text) <= CHUNK_CHARACTERS:
            yield TextChunk(text, True)
        else:
            yield from _chunks(text)


def _chunks(text: str) -> Iterator[TextChunk]:
    return (TextChunk(part, number == 0) for number, part in enumerate(split_text(text)))


def _records(
    source: Source, config: DataConfig, choose: ChooseColumns = lambda _: None
) -> Iterator[Record | BadRecord]:
    """The records of a source that ``where`` includes.

    If the columns are known in advance, ``choose`` may raise an error or return the ones to read.
    """
    conditions: dict[str, set[str]] = {}
    for condition in config.where:
        column, _, value = condition.partition("=")
        conditions.setdefault(column, set()).add(value)

    def choose_columns(columns: Mapping[str, bool]) -> list[str] | None:
        chosen = choose(columns)
        return None if chosen is None else list(dict.fromkeys([*chosen, *(conditions.keys() & columns.keys())]))

    records = _all_records(source, config, choose_columns)
    return _filtered(records, conditions) if conditions else records


def _filtered(
    records: Iterator[Record | BadRecord], conditions: Mapping[str, Collection[str]]
) -> Iterator[Record | BadRecord]:
    """The records whose columns have one of the given values; one without such a column is a bad record."""
    for record in records:
        if isinstance(record, BadRecord):
            yield record
        elif missing := [column for column in conditions if column not in record.fields]:
            reason = f"no field {missing[0]!r}, which data.where names"
            yield BadRecord(record.file, record.line, reason)
        elif all(str(record.fields[column]) in values for column, values in conditions.items()):
            yield record


def _all_records(source: Source, config: DataConfig, choose: ChooseColumns) -> Iterator[Record | BadRecord]:
    if isinstance(source, HubDataset):
        return hub_records(source)
    match format_of(source, config.format):
        case "txt":
            return text_records(source, config.document)
        case "jsonl":
            return jsonl_records(source)
        case "json":
            return json_records(source)
        case "parquet":
            return parquet_records(source, choose)
        case "tsv" | "csv" as format:
            return table_records(source, format, config, lambda columns: choose(dict.fromkeys(columns, True)))


def _text_column(source: Source, config: DataConfig, columns: Mapping[str, bool]) -> list[str]:
    """The column with the text, if the columns are known before the records are read (True: it holds strings)."""
    column = text_column_in(columns, config)
    if column is not None:
        return [column]
    raise DataError(
        f"{source} has no column {config.text_column!r}."
        if config.text_column
        else f"The text column of {source} is unclear.",
        f"The columns are {', '.join(map(repr, columns))}. By default the text is in the column "
        f"{', '.join(TEXT_COLUMNS)}, or in the only one.",
        "Name it: --data.text-column NAME. If these are values, not names, name all columns: --data.columns.",
    )
