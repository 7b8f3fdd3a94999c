r"""Plain text as documents: files, blocks between blank lines, or lines.

Lines end at ``\n``, ``\r\n`` or ``\r`` only; str.splitlines would also split at U+2028 and form feeds. Text inside a
document is unchanged. Memory holds one chunk of the file and one of a document.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Literal

from penna.data.sources.records import CHUNK_CHARACTERS, RECORD_LIMIT, BadRecord, Record, split_text, too_large
from penna.data.sources.streams import decoded_chunks

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
Located = tuple[int, str, bool]  # a document's first line, (a part of) its text, whether the text starts it


def document_chunks(file: Path, document: Literal["file", "block", "line"]) -> Iterator[Located]:
    """The documents of a text file in chunks of at most CHUNK_CHARACTERS."""
    chunks = decoded_chunks(file)
    if document == "file":
        return _chunks(chain([(1, "", True)], ((1, chunk, False) for chunk in chunks)))
    return _chunks(_line_documents(chunks) if document == "line" else _block_documents(chunks))


def text_records(file: Path, document: Literal["file", "block", "line"]) -> Iterator[Record | BadRecord]:
    """The documents of a text file as records with one field, ``text``; one that is too long is a bad record."""
    name, first, size = str(file), 0, 0
    parts: list[str] = []

    def record() -> Record | BadRecord:
        if size > RECORD_LIMIT:
            return too_large(name, first, size, "characters")
        return Record({"text": "".join(parts)}, name, first)

    for line, text, starts in document_chunks(file, document):
        if starts:
            if first:
                yield record()
            first, size = line, 0
            parts.clear()
        size += len(text)
        if size <= RECORD_LIMIT:
            parts.append(text)
    if first:
        yield record()


def _chunks(parts: Iterable[Located]) -> Iterator[Located]:
    """Parts of documents, joined and split into chunks."""
    held, line, starts = "", 0, True
    for number, part, begins in parts:
        if begins:
            if line:
                yield line, held, starts
            held, line, starts = part, number, True
        else:
            held += part
        if len(held) > CHUNK_CHARACTERS:
            *done, held = split_text(held)
            for chunk in done:
                yield line, chunk, starts
                starts = False
    if line:
        yield line, held, starts


def _lines(chunks: Iterable[str]) -> Iterator[str]:
    """Lines with their ends. One of more than CHUNK_CHARACTERS comes in several parts, the last one with the end."""
    held = ""
    for chunk in chunks:
        lines = _LINE.findall(held + chunk)
        # A last \r may be half of \r\n.
        held = lines.pop() if lines and not lines[-1].endswith("\n") else ""
        yield from lines
        if len(held) > CHUNK_CHARACTERS + 1:
            yield held[:-1]
            held = held[-1]
    if held:
        yield held


def _is_blank(line: str) -> bool:
    """Whether a line is white space alone. A line longer than a chunk counts as text, because its end is not known."""
    return line.isspace() and len(line) <= CHUNK_CHARACTERS


def _line_documents(chunks: Iterable[str]) -> Iterator[Located]:
    number, begins = 1, True
    for part in _lines(chunks):
        ends = part[-1] in "\r\n"
        if not begins:
            yield number, part.rstrip("\r\n"), False
        elif not _is_blank(part):
            yield number, part.rstrip("\r\n"), True
        begins = ends
        number += ends


def _block_documents(chunks: Iterable[str]) -> Iterator[Located]:
    number, begins = 1, True  # of the line
    inside, line_end = False, ""  # of a block; the last line end belongs to it only if another line follows
    for part in _lines(chunks):
        text = part.rstrip("\r\n")
        if begins and _is_blank(part):
            inside = False
        else:
            yield number, line_end + text if inside else text, not inside
            inside, line_end = True, part[len(text) :]
        begins = part[-1] in "\r\n"
        number += begins
