"""Documents as arrays of code points, so that whole batches are counted at once.

Documents come in one by one; out go batches of about half a million characters, each as one array of UTF-32 code
points with the borders of its texts. A longer document is cut into pieces behind white space where there is some, so
that memory does not grow with it; ``starts`` and ``numbers`` say which pieces belong together.
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
    """Texts one behind another: a whole document each, or a piece of a long one."""

    texts: list[str]
    documents: list[Document]  # per text, the document (or piece of one) it was cut from
    begins: list[int]  # per text, where in that it begins
    starts: list[bool]  # per text, whether its document begins with it
    numbers: NDArray[np.int64]  # per text, the number of its document

    @cached_property
    def codes(self) -> NDArray[np.uint32]:
        """The code points of all texts."""
        return np.frombuffer("".join(self.texts).encode("utf-32-le"), dtype="<u4")

    @cached_property
    def ends(self) -> NDArray[np.int64]:
        """Per text, where it ends in ``codes``."""
        return np.cumsum([len(text) for text in self.texts], dtype=np.int64)

    @cached_property
    def is_space(self) -> NDArray[np.bool_]:
        """Per code point, whether it is white space, as str.isspace has it."""
        return _space_table()[self.codes]

    @cached_property
    def word_starts(self) -> NDArray[np.int64]:
        """Where the words begin: behind white space or at the beginning of a text."""
        begins = ~self.is_space
        begins[1:] &= self.is_space[:-1]
        firsts = np.concatenate(([0], self.ends[:-1]))
        firsts = firsts[firsts < len(self.codes)]
        begins[firsts] = ~self.is_space[firsts]
        return np.flatnonzero(begins)

    def location(self, text: int, position: int) -> str:
        """Where a character of a text stands: "file:line"."""
        return self.documents[text].location(self.begins[text] + position)

    def text_of(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The text each position of ``codes`` belongs to."""
        return np.searchsorted(self.ends, positions, side="right")


def text_batches(documents: Iterable[Document], size: int = BATCH) -> Iterator[TextBatch]:
    """Documents in batches of about ``size`` characters. Texts must have a UTF-8 form, and not be empty."""
    held = _Held()
    number = -1
    for document in documents:
        number += document.starts
        begin = 0
        for piece in _cut(document.text, size):
            held.texts.append(piece)
            held.documents.append(document)
            held.begins.append(begin)
            held.starts.append(document.starts and begin == 0)
            held.numbers.append(number)
            held.characters += len(piece)
            begin += len(piece)
            if held.characters >= size:
                yield held.batch()
                held = _Held()
    if held.texts:
        yield held.batch()


@dataclass
class _Held:
    """A batch in the making."""

    texts: list[str] = field(default_factory=list)
    documents: list[Document] = field(default_factory=list)
    begins: list[int] = field(default_factory=list)
    starts: list[bool] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    characters: int = 0

    def batch(self) -> TextBatch:
        return TextBatch(self.texts, self.documents, self.begins, self.starts, np.array(self.numbers, dtype=np.int64))


def _cut(text: str, size: int) -> Iterator[str]:
    """Pieces of at most ``size`` characters, cut behind white space where there is some in the second half."""
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
    """Per code point, the bytes it takes in UTF-8."""
    return 1 + (codes >= 0x80).astype(np.int64) + (codes >= 0x800) + (codes >= 0x10000)
