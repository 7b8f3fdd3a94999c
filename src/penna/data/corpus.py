"""A corpus: the documents of a recipe, counted once, and dealt out to training and validation.

One pass counts documents, characters and bytes, hashes the text and collects bad records; after it the split is fixed
and both parts can be streamed any number of times. Whole documents go to validation by a hash of their text, so exact
duplicates never stand on both sides; by position, the last share of all characters is cut off.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from penna.config.sections import DataConfig
from penna.data.sources import BadRecord, find_files, read_documents, read_files
from penna.errors import DataError

Split = Literal["train", "valid"]
_AUTO_DOCUMENTS = 20  # fewer documents than this are split by position
_SHOWN = 5  # bad records named in a message


@dataclass(frozen=True)
class Counts:
    """What one pass over the documents found."""

    documents: int
    characters: int
    bytes: int
    empty: int
    bad: tuple[BadRecord, ...]
    content_hash: str  # SHA-256 over every document in order


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

    def documents(self, part: Split) -> Iterator[str]:
        """The texts of one part, in order."""
        if self.split == "files":
            yield from all_texts(self.config) if part == "train" else _valid_texts(self.config)
        elif self.split == "document":
            for text in all_texts(self.config):
                if _goes_to_validation(text, self.config.valid_fraction) == (part == "valid"):
                    yield text
        else:
            yield from self._by_position(part)

    def _by_position(self, part: Split) -> Iterator[str]:
        cut = int(self.counts.characters * (1 - self.config.valid_fraction))
        seen = 0
        for text in all_texts(self.config):
            here = min(max(cut - seen, 0), len(text))  # characters of this document that belong to training
            seen += len(text)
            piece = text[:here] if part == "train" else text[here:]
            if piece:
                yield piece


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
    where = "Python's own documentation" if config.source == "python" else ", ".join(config.path)
    counts = _count(read_documents(config), where, config)
    if config.valid_path:
        valid = _count(read_files(find_files(config.valid_path), config), ", ".join(config.valid_path), config)
        return Corpus(config, counts, valid, "files")
    split = config.split
    if split == "auto":
        split = "document" if counts.documents >= _AUTO_DOCUMENTS else "position"
    if split == "position" and int(counts.characters * (1 - config.valid_fraction)) == 0:
        raise DataError(
            f"The text in {where} is {counts.characters} characters long, and none is left to learn from.",
            f"Validation takes {config.valid_fraction:.0%} of it (data.valid_fraction).",
            "Give more text.",
        )
    return Corpus(config, counts, None, split)


def all_texts(config: DataConfig) -> Iterator[str]:
    """Every usable text of the source, in order."""
    return (record for record in read_documents(config) if isinstance(record, str) and record.strip())


def _valid_texts(config: DataConfig) -> Iterator[str]:
    records = read_files(find_files(config.valid_path), config)
    return (record for record in records if isinstance(record, str) and record.strip())


def read_whole(config: DataConfig, count_words: Callable[[str], int]) -> tuple[Counts, int]:
    """Count a text that is not split, and its words."""
    counts = _count(read_documents(config), ", ".join(config.path), config)
    return counts, sum(count_words(text) for text in all_texts(config))


def _goes_to_validation(text: str, fraction: float) -> bool:
    digest = hashlib.blake2b(text.encode("utf-8"), digest_size=8).digest()
    return int.from_bytes(digest, "big") < fraction * 2**64


def _count(records: Iterator[str | BadRecord], where: str, config: DataConfig) -> Counts:
    documents = characters = size = empty = 0
    bad: list[BadRecord] = []
    content = hashlib.sha256()
    for record in records:
        if isinstance(record, BadRecord):
            bad.append(record)
        elif not record.strip():
            empty += 1
        else:
            encoded = record.encode("utf-8")
            documents, characters, size = documents + 1, characters + len(record), size + len(encoded)
            content.update(len(encoded).to_bytes(8, "big"))
            content.update(encoded)
    if len(bad) > config.allow_bad_records * (documents + empty + len(bad)):
        shown = "\n".join(f"  {record}" for record in bad[:_SHOWN])
        raise DataError(
            f"{len(bad)} of {documents + empty + len(bad)} records cannot be used:\n{shown}"
            + (f"\n  and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""),
            f"At most {config.allow_bad_records:.0%} may be bad (data.allow_bad_records).",
            "Mend or remove these lines, or allow more with --data.allow-bad-records 0.1.",
        )
    if documents == 0:
        raise DataError(
            f"There is no text in {where}.",
            "At least a few pages of text to learn from.",
            "Check that the file is the right one and not empty.",
        )
    return Counts(documents, characters, size, empty, tuple(bad), content.hexdigest())
