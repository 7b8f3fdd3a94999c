"""A corpus: the documents of a recipe, counted once, and dealt out to training and validation.

One pass counts documents, characters, bytes and words, hashes the text and collects bad records; after it the split is
fixed and both parts can be streamed any number of times, piece by piece, so that no document need fit in memory. Whole
documents go to validation by a hash of their first piece, which is nearly always all of their text, so exact duplicates
never stand on both sides; by position, the last share of all characters is cut off. Every later pass over the whole
text hashes it again: what is made from a text that was changed meanwhile must not be kept under the old text's name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from penna.config.sections import DataConfig
from penna.data.encode import WordCounter
from penna.data.sources.reader import read_texts
from penna.data.sources.records import BadRecord, BadRecords, TextChunk, check_bad_records, usable_chunks
from penna.data.split import AUTO_DOCUMENTS, goes_to_validation
from penna.errors import DataError

Split = Literal["train", "valid"]


class TextChangedError(DataError):
    """A text that is not the one that was counted."""


@dataclass(frozen=True)
class Counts:
    """What one pass over the documents found."""

    documents: int  # without the empty ones, as all that follow
    characters: int
    bytes: int  # in UTF-8
    words: int  # white-space words and line ends
    empty: int
    bad_records: int
    bad: tuple[BadRecord, ...]  # the first of them
    content_hash: str  # SHA-256 over every document in order, wherever it was cut into pieces


@dataclass(frozen=True)
class Corpus:
    """Documents with a fixed split."""

    config: DataConfig
    counts: Counts
    valid_counts: Counts | None  # of valid_path, where it is given
    split: Literal["document", "position", "files"]

    @property
    def content_hash(self) -> str:
        """A hash of all the text and of how it is split; the same text gives the same hash wherever it lies."""
        parts = [self.counts.content_hash, self.split, str(self.config.valid_fraction)]
        if self.valid_counts is not None:
            parts.append(self.valid_counts.content_hash)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def chunks(self, part: Split) -> Iterator[TextChunk]:
        """The documents of one part, in order and in pieces. Raises TextChangedError where the text is another now."""
        if self.split == "files" and part == "valid":
            assert self.valid_counts is not None
            yield from verified_chunks(self.config, self.valid_counts, "valid")
        elif self.split == "files":
            yield from verified_chunks(self.config, self.counts)
        elif self.split == "document":
            yield from self._by_document(part)
        else:
            yield from self._by_position(part)

    def _by_document(self, part: Split) -> Iterator[TextChunk]:
        held_out = False
        for piece in verified_chunks(self.config, self.counts):
            if piece.starts:
                held_out = goes_to_validation(piece.text, self.config.valid_fraction)
            if held_out == (part == "valid"):
                yield piece

    def _by_position(self, part: Split) -> Iterator[TextChunk]:
        cut = _cut_position(self.counts.characters, self.config)
        seen = 0
        for piece in verified_chunks(self.config, self.counts):
            here = min(max(cut - seen, 0), len(piece.text))  # characters of this piece that belong to training
            if part == "train" and here:
                yield TextChunk(piece.text[:here], piece.starts)
            elif part == "valid" and here < len(piece.text):
                yield TextChunk(piece.text[here:], piece.starts or seen <= cut)
            seen += len(piece.text)


def read_corpus(config: DataConfig) -> Corpus:
    """Count a recipe's documents and fix their split.

    Raises DataError where there is no text, or more bad records than ``allow_bad_records``.
    """
    if config.source == "files" and not config.path:
        raise DataError(
            "The recipe names no text.",
            "data.path is a file or a folder of text.",
            "Give it: `penna train my.txt`, or --data.path my.txt.",
        )
    counts = count_text(config)
    if config.valid_path:
        return Corpus(config, counts, count_text(config, "valid"), "files")
    split = config.split
    if split == "auto":
        split = "document" if counts.documents >= AUTO_DOCUMENTS else "position"
    if split == "position" and _cut_position(counts.characters, config) == 0:
        raise DataError(
            f"The text in {_where(config)} is {counts.characters} characters long, and none is left to learn from.",
            f"Validation takes {config.valid_fraction:.0%} of it (data.valid_fraction).",
            "Give more text.",
        )
    return Corpus(config, counts, None, split)


def count_text(config: DataConfig, part: Split = "train") -> Counts:
    """Read through the text of ``path`` (or, for "valid", of ``valid_path``) and count it.

    Raises DataError where there is no text, or more bad records than ``allow_bad_records``.
    """
    tally = _Tally()
    words = WordCounter()
    content = hashlib.sha256()
    documents = characters = size = word_count = 0
    for piece in usable_chunks(tally.pieces(read_texts(config, part))):
        documents += piece.starts
        characters += len(piece.text)
        content.update(marked := _marked(piece))
        size += len(marked) - piece.starts
        word_count += words.count(piece.text, piece.starts)
    bad = tally.bad
    check_bad_records(bad.count, bad.first, tally.documents + bad.count, config)
    if documents == 0:
        raise DataError(
            f"There is no text in {_where(config, part)}.",
            "At least a few pages of text to learn from.",
            "Check that the file is the right one and not empty.",
        )
    empty = tally.documents - documents
    return Counts(documents, characters, size, word_count, empty, bad.count, tuple(bad.first), content.hexdigest())


def verified_chunks(config: DataConfig, counts: Counts, part: Split = "train") -> Iterator[TextChunk]:
    """Every usable piece of a text that was counted before.

    Raises TextChangedError behind the last piece where the text is not the one that ``counts`` counted.
    """
    content = hashlib.sha256()
    for piece in usable_chunks(_Tally().pieces(read_texts(config, part))):
        content.update(_marked(piece))
        yield piece
    if content.hexdigest() != counts.content_hash:
        raise TextChangedError(
            f"The text in {_where(config, part)} was changed while it was being prepared.",
            "The same text each time it is read: to be counted, learned from and turned into tokens.",
            "Start again when nothing writes to it any more.",
        )


class _Tally:
    """Takes bad records out of a stream of pieces, and counts them and all documents."""

    def __init__(self) -> None:
        self.documents = 0
        self.bad = BadRecords()

    def pieces(self, records: Iterable[TextChunk | BadRecord]) -> Iterator[TextChunk]:
        for record in records:
            if isinstance(record, TextChunk):
                self.documents += record.starts
                yield record
            else:
                self.bad.add(record)


def _marked(piece: TextChunk) -> bytes:
    """A piece's UTF-8 for a hash of documents, with 0xFF before each document.

    0xFF stands in no UTF-8: it makes the borders of documents part of the hash, and no length need be known.
    """
    return b"\xff" * piece.starts + piece.text.encode("utf-8")


def _cut_position(characters: int, config: DataConfig) -> int:
    """How many characters stand before the validation text."""
    return int(characters * (1 - config.valid_fraction))


def _where(config: DataConfig, part: Split = "train") -> str:
    if part == "valid":
        return ", ".join(config.valid_path)
    return "Python's own documentation" if config.source == "python" else ", ".join(config.path)
