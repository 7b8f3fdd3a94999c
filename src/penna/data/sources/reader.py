"""Sources to documents and records: what the paths of a recipe hold, in order, whatever form it comes in.

``read_texts`` gives text to learn from, long documents in pieces; ``read_records`` gives records with their fields, for
what needs more than text (``shapes.py`` makes sense of them). Both stream. Nothing is dropped in silence: a record that
cannot be used comes out as a ``BadRecord`` with its file, line and reason, and a file that is no text at all, or is cut
off, stops everything with a DataError.
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
from penna.data.sources.parquet import Choose, parquet_records
from penna.data.sources.python_text import python_documents
from penna.data.sources.records import CHUNK_CHARACTERS as CHUNK_CHARACTERS
from penna.data.sources.records import BadRecord as BadRecord
from penna.data.sources.records import Record as Record
from penna.data.sources.records import TextChunk as TextChunk
from penna.data.sources.records import split_text
from penna.data.sources.tables import table_records
from penna.data.sources.text_files import document_chunks, text_records
from penna.errors import DataError

Part = Literal["train", "valid"]
PARTS: tuple[Part, ...] = ("train", "valid")
Source = Path | HubDataset


def find_sources(config: DataConfig, part: Part = "train") -> list[Source]:
    """The files and hub data sets of ``path``, or of ``valid_path``. Raises DataError for one that is not there."""
    sources: list[Source] = []
    for path in config.path if part == "train" else config.valid_path:
        if path.startswith(PREFIX):
            sources.append(hub_dataset(path, part))
        elif path == "-":
            raise DataError(
                "The standard input (-) was not kept as a file, and can be read only once.",
                "A file: text is read more than once.",
                "Write it to a file first (penna.data.sources.standard_input.keep_standard_input does).",
            )
        else:
            sources.extend(find_files([path], config.format))
    return sources


def read_texts(config: DataConfig, part: Part = "train") -> Iterator[TextChunk | BadRecord]:
    """Every document of ``path`` (or ``valid_path``), in pieces and in order, blank ones as they are.

    At most ``limit`` (or ``valid_limit``) documents are read, bad records counted in; what ``where`` leaves out is not.
    """
    if config.source == "python" and part == "train":
        pieces: Iterator[TextChunk | BadRecord] = (piece for text in python_documents() for piece in _pieces(text))
    else:
        sources = find_sources(config, part)
        pieces = (piece for source in sources for piece in _texts(source, config))
    limit = config.limit if part == "train" else config.valid_limit
    return pieces if limit is None else _first(pieces, limit)


def read_records(config: DataConfig, part: Part = "train") -> Iterator[Record | BadRecord]:
    """Every record of ``path`` (or ``valid_path``) in order; a document of plain text is a record with a text.

    At most ``limit`` (or ``valid_limit``) are read, bad ones counted in; those that ``where`` leaves out are not.
    """
    if config.source == "python" and part == "train":
        texts = enumerate(python_documents(), start=1)
        records: Iterator[Record | BadRecord] = (Record({"text": text}, "python", number) for number, text in texts)
    else:
        sources = find_sources(config, part)
        records = (record for source in sources for record in _records(source, config))
    limit = config.limit if part == "train" else config.valid_limit
    return islice(records, limit)


def _first(pieces: Iterator[TextChunk | BadRecord], limit: int) -> Iterator[TextChunk | BadRecord]:
    """The pieces of the first documents."""
    left = limit
    for piece in pieces:
        if isinstance(piece, BadRecord) or piece.starts:
            if left == 0:
                return
            left -= 1
        yield piece


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
            yield from _pieces(text)


def _pieces(text: str) -> Iterator[TextChunk]:
    return (TextChunk(piece, number == 0) for number, piece in enumerate(split_text(text)))


def _records(source: Source, config: DataConfig, choose: Choose = lambda _: None) -> Iterator[Record | BadRecord]:
    """The records of a source that ``where`` leaves in. Where its columns are known beforehand, ``choose`` may refuse
    them or want only some."""
    wanted: dict[str, set[str]] = {}
    for condition in config.where:
        column, _, value = condition.partition("=")
        wanted.setdefault(column, set()).add(value)

    def choose_also(columns: Mapping[str, bool]) -> list[str] | None:
        chosen = choose(columns)
        return None if chosen is None else list(dict.fromkeys([*chosen, *(wanted.keys() & columns.keys())]))

    records = _all_records(source, config, choose_also)
    return _chosen(records, wanted) if wanted else records


def _chosen(
    records: Iterator[Record | BadRecord], wanted: Mapping[str, Collection[str]]
) -> Iterator[Record | BadRecord]:
    """The records whose columns have one of the values wanted of them; one without such a column is a bad one."""
    for record in records:
        if isinstance(record, BadRecord):
            yield record
        elif missing := [column for column in wanted if column not in record.fields]:
            reason = f"no field {missing[0]!r}, which data.where asks for"
            yield BadRecord(record.file, record.line, reason)
        elif all(str(record.fields[column]) in values for column, values in wanted.items()):
            yield record


def _all_records(source: Source, config: DataConfig, choose: Choose) -> Iterator[Record | BadRecord]:
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
    """The column with the text, of columns that are known before any record is read (True: one of strings)."""
    column = text_column_in(columns, config)
    if column is not None:
        return [column]
    raise DataError(
        f"{source} has no column {config.text_column!r}."
        if config.text_column
        else f"It cannot be told which column of {source} holds its text.",
        f"The columns are {', '.join(map(repr, columns))}; without --data.text-column, the text is in one named "
        f"{', '.join(TEXT_COLUMNS)}, or in the only one there is.",
        "Name it: --data.text-column NAME. Where these are values and no names, name the columns: --data.columns.",
    )
