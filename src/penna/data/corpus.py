"""A corpus: the documents of a recipe, counted and split into training and validation.

One pass counts documents, characters, bytes and words, hashes the text, collects bad records and decides the split.
Later passes stream the documents in chunks, so a document need not fit in memory. They verify that the text is still
the one that was counted: by the stamps of its files, or by hashing it again if the stamps prove nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from penna.config.sections import DataConfig
from penna.data.encode import WordCounter
from penna.data.sources.reader import PARTS, Part, read_texts
from penna.data.sources.records import BadRecord, BadRecords, TextChunk, check_bad_records, usable_chunks
from penna.data.split import (
    SplitMethod,
    Stamps,
    changed_error,
    describe_source,
    goes_to_validation,
    source_stamps,
    split_method,
)
from penna.errors import DataError


@dataclass(frozen=True)
class Counts:
    """What one pass over the documents found. Empty documents count as ``empty`` and nowhere else."""

    documents: int
    characters: int
    bytes: int  # in UTF-8
    words: int  # white-space words and line ends
    empty: int
    bad_records: int
    bad: tuple[BadRecord, ...]  # the first of them
    content_hash: str  # SHA-256 of all documents in order, independent of their chunks
    held_out: bytearray = field(default_factory=bytearray, repr=False, compare=False)
    """Per document, 1 if its hash puts it in validation; empty without ``with_split`` in ``count_text``."""
    stamps: Stamps | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Corpus:
    """Documents with a fixed split.

    By document, the hash of a document's first chunk (nearly always its whole text) decides. By position, the last
    share of all characters is validation. With ``valid_path``, its files are validation.
    """

    config: DataConfig
    counts: Counts
    valid_counts: Counts | None  # of valid_path, if it is given
    split: SplitMethod

    @property
    def content_hash(self) -> str:
        """A hash of the text and its split, independent of paths."""
        parts = [self.counts.content_hash, self.split, str(self.config.valid_fraction)]
        if self.valid_counts is not None:
            parts.append(self.valid_counts.content_hash)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def chunks(self, part: Part) -> Iterator[TextChunk]:
        """The documents of one part, in order and in chunks. Raises TextChangedError."""
        if self.valid_counts is not None:
            return verified_chunks(self.config, self.valid_counts if part == "valid" else self.counts, part)
        return (chunk for owner, chunk in self.split_chunks() if owner == part)

    def split_chunks(self) -> Iterator[tuple[Part, TextChunk]]:
        """All documents in chunks, each with its part; the text is read once. Raises TextChangedError."""
        if self.valid_counts is not None:
            for part in PARTS:
                for chunk in self.chunks(part):
                    yield part, chunk
        elif self.split == "document":
            yield from self._split_by_document()
        else:
            yield from self._split_by_position()

    def _split_by_document(self) -> Iterator[tuple[Part, TextChunk]]:
        number = -1
        part: Part = "train"
        for chunk in verified_chunks(self.config, self.counts):
            if chunk.starts:
                number += 1
                # A slice, because a text that changed may have more documents; the error comes at its end.
                part = "valid" if any(self.counts.held_out[number : number + 1]) else "train"
            yield part, chunk

    def _split_by_position(self) -> Iterator[tuple[Part, TextChunk]]:
        border = _training_characters(self.counts.characters, self.config)
        seen = 0
        for chunk in verified_chunks(self.config, self.counts):
            kept = min(max(border - seen, 0), len(chunk.text))  # characters of this chunk that belong to training
            if kept:
                yield "train", TextChunk(chunk.text[:kept], chunk.starts)
            if kept < len(chunk.text):
                yield "valid", TextChunk(chunk.text[kept:], chunk.starts or seen <= border)
            seen += len(chunk.text)


def read_corpus(config: DataConfig) -> Corpus:
    """Count a recipe's documents and fix their split.

    Raises DataError if there is no text, or more bad records than ``allow_bad_records``.
    """
    if config.source == "files" and not config.path:
        raise DataError(
            "The recipe names no text.",
            "data.path must be a file or folder of text.",
            "Name one: `penna train my.txt`, or --data.path my.txt.",
        )
    counts = count_text(config, with_split=not config.valid_path and config.split != "position")
    split = split_method(config, counts.documents)
    if split == "position" and _training_characters(counts.characters, config) == 0:
        raise DataError(
            f"The text in {describe_source(config, 'train')} has {counts.characters} characters; none is left for "
            "training.",
            f"Validation takes {config.valid_fraction:.0%} of the text (data.valid_fraction).",
            "Give more text.",
        )
    return Corpus(config, counts, count_text(config, "valid") if config.valid_path else None, split)


def count_text(config: DataConfig, part: Part = "train", *, with_split: bool = False) -> Counts:
    """Read the text of ``path`` (or, for "valid", of ``valid_path``) once and count it.

    ``with_split`` also decides for each document whether its hash puts it in validation. Raises DataError if there is
    no text, or more bad records than ``allow_bad_records``.
    """
    stamps = source_stamps(config, part)
    tally = _Tally()
    words = WordCounter()
    content = hashlib.sha256()
    held_out = bytearray()
    documents = characters = size = word_count = 0
    for chunk in usable_chunks(tally.chunks(read_texts(config, part))):
        documents += chunk.starts
        characters += len(chunk.text)
        content.update(marked := _marked(chunk))
        size += len(marked) - chunk.starts
        word_count += words.count(chunk.text, chunk.starts)
        if with_split and chunk.starts:
            held_out.append(goes_to_validation(chunk.text, config.valid_fraction))
    bad = tally.bad
    check_bad_records(bad.count, bad.first, tally.documents + bad.count, config)
    if documents == 0:
        raise DataError(
            f"There is no text in {describe_source(config, part)}.",
            "Training needs at least a few pages of text.",
            "Check that this is the right file and that it is not empty.",
        )
    return Counts(
        documents=documents,
        characters=characters,
        bytes=size,
        words=word_count,
        empty=tally.documents - documents,
        bad_records=bad.count,
        bad=tuple(bad.first),
        content_hash=content.hexdigest(),
        held_out=held_out,
        stamps=stamps if stamps == source_stamps(config, part) else None,
    )


def verified_chunks(config: DataConfig, counts: Counts, part: Part = "train") -> Iterator[TextChunk]:
    """Every usable chunk of a text that was counted before.

    Raises TextChangedError after the last chunk if the text is not the one that was counted.
    """
    stamps = source_stamps(config, part)
    content = hashlib.sha256() if stamps is None or stamps != counts.stamps else None
    for chunk in usable_chunks(_Tally().chunks(read_texts(config, part))):
        if content is not None:
            content.update(_marked(chunk))
        yield chunk
    unchanged = stamps == source_stamps(config, part) if content is None else content.hexdigest() == counts.content_hash
    if not unchanged:
        raise changed_error(f"The text in {describe_source(config, part)}")


class _Tally:
    """Counts documents, and removes bad records from a stream."""

    def __init__(self) -> None:
        self.documents = 0
        self.bad = BadRecords()

    def chunks(self, records: Iterable[TextChunk | BadRecord]) -> Iterator[TextChunk]:
        for record in records:
            if isinstance(record, TextChunk):
                self.documents += record.starts
                yield record
            else:
                self.bad.add(record)


def _marked(chunk: TextChunk) -> bytes:
    """A chunk's UTF-8 with 0xFF, which UTF-8 never contains, before each document: borders are part of the hash."""
    return b"\xff" * chunk.starts + chunk.text.encode("utf-8")


def _training_characters(characters: int, config: DataConfig) -> int:
    """How many characters of a text split by position belong to training."""
    return int(characters * (1 - config.valid_fraction))
