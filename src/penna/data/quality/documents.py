"""Records of any shape as documents with a text.

A record with several possible shapes has the most specific one, as in training. The text of a dialogue is its turns,
line by line; that of a completion is its prompt and, on the next line, the completion. If every source is a plain text
file and a document is a file, documents come in chunks, so that a file may have any length.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from penna.config.sections import DataConfig
from penna.data.sources.fields import Shape, completion_of, labeled_text_of, messages_of, shape_of, text_of
from penna.data.sources.files import format_of
from penna.data.sources.hub import PREFIX
from penna.data.sources.reader import Part, find_sources, read_records
from penna.data.sources.records import BadRecord, Record, TextChunk, usable_chunks
from penna.data.sources.text_files import document_chunks


@dataclass(frozen=True)
class Document:
    """A record's text, location and further fields; or a further chunk of a long text file."""

    text: str
    file: str
    line: int  # of the start of the text (or chunk)
    shape: Shape = "text"
    starts: bool = True  # False for a further chunk of the previous document
    label: str | None = None
    turns: tuple[tuple[str, str], ...] = ()  # role, content
    prompt: str = ""
    completion: str = ""
    format: Literal["txt", "other"] = "other"

    def location(self, position: int = 0) -> str:
        """The location of a character, "file:line". A record of any format but .txt is one line."""
        return f"{self.file}:{self.line + (self.text.count(chr(10), 0, position) if self.format == 'txt' else 0)}"


def read_documents(config: DataConfig, part: Part = "train") -> Iterator[Document | BadRecord]:
    """Every record as a document, blank ones too, or as a bad record."""
    if config.document == "file" and not (config.source == "python" and part == "train"):
        files = [source for source in find_sources(config, part) if isinstance(source, Path)]
        if len(files) == len(find_sources(config, part)) and all(_is_plain(str(file), config) for file in files):
            limit = config.limit if part == "train" else config.valid_limit
            for file in islice(files, limit):
                yield from _file_in_chunks(file)
            return
    for record in read_records(config, part):
        yield record if isinstance(record, BadRecord) else document_of(record, config)


def _file_in_chunks(file: Path) -> Iterator[Document]:
    line, name = 1, str(file)
    started = False
    for chunk in usable_chunks(TextChunk(text, starts) for _, text, starts in document_chunks(file, "file")):
        yield Document(chunk.text, name, line, starts=chunk.starts, format="txt")
        line, started = line + chunk.text.count("\n"), True
    if not started:
        yield Document("", name, 1, format="txt")


def document_of(record: Record, config: DataConfig) -> Document | BadRecord:
    """A record as a document, by the shape of its fields."""
    file, line = record.file, record.line
    shape = shape_of(record.fields, config)
    if shape == "labeled":
        labeled = labeled_text_of(record, config)
        if isinstance(labeled, BadRecord):
            return labeled
        return Document(labeled.text, file, line, shape, label=labeled.label)
    if shape == "messages":
        messages = messages_of(record, config)
        if isinstance(messages, BadRecord):
            return messages
        turns = tuple((message.role, message.content) for message in messages)
        return Document("\n".join(content for _, content in turns), file, line, shape, turns=turns)
    if shape == "completion":
        pair = completion_of(record, config)
        if isinstance(pair, BadRecord):
            return pair
        text = f"{pair.prompt}\n{pair.completion}"
        return Document(text, file, line, shape, prompt=pair.prompt, completion=pair.completion)
    text = text_of(record, config)
    if isinstance(text, BadRecord):
        return text
    return Document(text, file, line, format="txt" if _is_plain(file, config) else "other")


def _is_plain(file: str, config: DataConfig) -> bool:
    return format_of(Path(file), config.format) == "txt" and not file.startswith(PREFIX)
