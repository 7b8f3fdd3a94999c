"""Documents as arrays of code points, so that a whole batch is counted at once.

A batch has about half a million characters, as one array of UTF-32 code points and the ends of its texts. A longer
document is split, after white space if possible, so memory does not grow with it; ``starts`` and ``numbers`` say which
texts belong to one document.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from penna.data.quality.documents import Document

BATCH = 1 << 19  # characters
CODE_POINTS = 0x110000
_SPACES = [code for code in range(0x3001) if chr(code).isspace()]
_SPACE = re.compile(r"\s")


@dataclass(frozen=True)
class TextBatch:
    """Consecutive texts: each a whole document, or a part of a long one."""

    texts: list[str]
    documents: list[Document]  # per text, its document, or the part of one that the source yielded
    begins: list[int]  # per text, its start in that document
    starts: list[bool]  # per text, whether it starts its document
    numbers: NDArray[np.int64]  # per text, the number of its document

    @cached_property
    def codes(self) -> NDArray[np.uint32]:
        """The code points of all texts."""
        return np.frombuffer("".join(self.texts).encode("utf-32-le"), dtype="<u4")

    @cached_property
    def ends(self) -> NDArray[np.int64]:
        """Per text, its end in ``codes``."""
        return np.cumsum([len(text) for text in self.texts], dtype=np.int64)

    @cached_property
    def is_space(self) -> NDArray[np.bool_]:
        """Per code point, whether it is white space as in str.isspace."""
        return _space_table()[self.codes]

    @cached_property
    def word_starts(self) -> NDArray[np.int64]:
        """The positions where words begin: after white space or at the start of a text."""
        begins = ~self.is_space
        begins[1:] &= self.is_space[:-1]
        firsts = np.concatenate(([0], self.ends[:-1]))
        firsts = firsts[firsts < len(self.codes)]
        begins[firsts] = ~self.is_space[firsts]
        return np.flatnonzero(begins)

    def location(self, text: int, position: int) -> str:
        """The location of a character: "file:line"."""
        return self.documents[text].location(self.begins[text] + position)

    def text_of(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The text each position of ``codes`` belongs to."""
        return np.searchsorted(self.ends, positions, side="right")


def text_batches(documents: Iterable[Document], size: int = BATCH) -> Iterator[TextBatch]:
    """Documents in batches of about ``size`` characters. Texts must be valid Unicode and not empty."""
    batch = _OpenBatch()
    number = -1
    for document in documents:
        number += document.starts
        begin = 0
        for piece in _split(document.text, size):
            batch.texts.append(piece)
            batch.documents.append(document)
            batch.begins.append(begin)
            batch.starts.append(document.starts and begin == 0)
            batch.numbers.append(number)
            batch.characters += len(piece)
            begin += len(piece)
            if batch.characters >= size:
                yield batch.finish()
                batch = _OpenBatch()
    if batch.texts:
        yield batch.finish()


@dataclass
class _OpenBatch:
    """A batch under construction."""

    texts: list[str] = field(default_factory=list)
    documents: list[Document] = field(default_factory=list)
    begins: list[int] = field(default_factory=list)
    starts: list[bool] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    characters: int = 0

    def finish(self) -> TextBatch:
        return TextBatch(self.texts, self.documents, self.begins, self.starts, np.array(self.numbers, dtype=np.int64))


def _split(text: str, size: int) -> Iterator[str]:
    """Parts of at most ``size`` characters, split after white space if the second half has any."""
    start = 0
    while len(text) - start > size:
        half = start + size // 2
        spaces = [found.end() for found in _SPACE.finditer(text, half, start + size)]
        end = spaces[-1] if spaces else start + size
        yield text[start:end]
        start = end
    yield text[start:]


@lru_cache(maxsize=1)
def _space_table() -> NDArray[np.bool_]:
    table = np.zeros(CODE_POINTS, dtype=np.bool_)
    table[_SPACES] = True
    return table


def utf8_sizes(codes: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Per code point, its bytes in UTF-8."""
    return 1 + (codes >= 0x80).astype(np.int64) + (codes >= 0x800) + (codes >= 0x10000)
