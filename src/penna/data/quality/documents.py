"""Records as documents to look at: whatever shape a record has, its text, and what belongs to the shape.

A record that allows several shapes is taken as the fullest of them, as training would take it. A dialogue's text is
its turns line by line; a completion's is its prompt and, below, what is to be written. Where every source is a plain
text file and a document is a file, documents come in pieces, so that a file may be of any length.
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
    """A record's text, where it stands, and what else its shape holds; or a further piece of a long text file."""

    text: str
    file: str
    line: int  # where the text begins; of a piece, where the piece does
    shape: Shape = "text"
    starts: bool = True  # False for a further piece of the document before
    label: str | None = None
    turns: tuple[tuple[str, str], ...] = ()  # role, content
    prompt: str = ""
    completion: str = ""
    format: Literal["txt", "other"] = "other"

    def location(self, position: int = 0) -> str:
        """Where a character of the text stands, "file:line". A record of any format but .txt is one line."""
        return f"{self.file}:{self.line + (self.text.count(chr(10), 0, position) if self.format == 'txt' else 0)}"


def read_documents(config: DataConfig, part: Part = "train") -> Iterator[Document | BadRecord]:
    """Every record of the configured text as a document, or as what is wrong with it; blank ones as they are."""
    if config.document == "file" and not (config.source == "python" and part == "train"):
        files = [source for source in find_sources(config, part) if isinstance(source, Path)]
        if len(files) == len(find_sources(config, part)) and all(_is_plain(str(file), config) for file in files):
            limit = config.limit if part == "train" else config.valid_limit
            for file in islice(files, limit):
                yield from _file_in_pieces(file)
            return
    for record in read_records(config, part):
        yield record if isinstance(record, BadRecord) else document_of(record, config)


def _file_in_pieces(file: Path) -> Iterator[Document]:
    line, name = 1, str(file)
    begun = False
    for piece in usable_chunks(TextChunk(text, starts) for _, text, starts in document_chunks(file, "file")):
        yield Document(piece.text, name, line, starts=piece.starts, format="txt")
        line, begun = line + piece.text.count("\n"), True
    if not begun:
        yield Document("", name, 1, format="txt")


def document_of(record: Record, config: DataConfig) -> Document | BadRecord:
    """A record as a document of the shape its fields have."""
    file, line = record.file, record.line
    shape = shape_of(record.fields, config)
    if shape == "labeled":
        labelled = labeled_text_of(record, config)
        if isinstance(labelled, BadRecord):
            return labelled
        return Document(labelled.text, file, line, shape, label=labelled.label)
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
