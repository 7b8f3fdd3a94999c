"""Pieces of documents to token ids, on all cores.

The tokenizer's own threads encode a batch of pieces side by side, and while they are at work the next batch is read
and the last one written. Ids leave as flat arrays with the sizes of every piece, each document behind its separator.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from penna.data.sources.records import TextChunk
from penna.errors import DataError
from penna.tokenizer.tokenizer import Tokenizer

# MERGED data.words: Words, as word-level perplexities of WikiText and PTB count them: white-space words plus line
# ends.
#
# A text may come in pieces; a word that was cut in two is still counted once.


def count_words(text: str) -> int:
    """White-space words plus line ends."""
    return len(text.split()) + text.count("\n")


class WordCounter:
    """Counts the words of documents that come in pieces, wherever they were cut."""

    def __init__(self) -> None:
        self._inside = False  # whether the last piece ended inside a word

    def count(self, text: str, starts: bool) -> int:
        """The words that this piece adds; ``starts`` where it begins a document, and with it a new word."""
        words = count_words(text)
        if self._inside and not starts and text and not text[0].isspace():
            words -= 1
        if text or starts:
            self._inside = bool(text) and not text[-1].isspace()
        return words


_BATCH = 1 << 19  # characters handed to the tokenizer's threads together: two pieces of a long document, or more
_AT_WORK = max(2, (os.cpu_count() or 1) // 2)  # batches encoded at a time, so that each core has a piece
_WAITING = 1  # batches read ahead of them


@dataclass(frozen=True)
class EncodedChunks:
    """Token ids of some pieces, and what each piece was: the arrays but the first have an entry per piece."""

    ids: NDArray[np.uint32]  # of all pieces, one behind another, separators included
    ends: NDArray[np.int64]  # where in ``ids`` each piece ends
    documents: NDArray[np.int64]  # 1 for the first piece of a document, which begins with its separator; else 0
    bytes: NDArray[np.int64]  # of its text in UTF-8
    words: NDArray[np.int64]  # white-space words and line ends


@dataclass(frozen=True)
class _Batch:
    texts: list[str]
    starts: list[bool]
    words: list[int]


def encode_chunks(pieces: Iterable[TextChunk], tokenizer: Tokenizer, skip: int = 0) -> Generator[EncodedChunks]:
    """Pieces as ids, in order, in batches; the first ``skip`` pieces are read and not encoded.

    Raises DataError at once where the tokenizer has no document separator.
    """
    separator = tokenizer.separator_id
    if separator is None:
        raise DataError(
            "The tokenizer has no document separator.",
            "A special token such as <|endoftext|>, [SEP] or </s> that stands between documents.",
            "Choose another tokenizer, or name its eos_token in tokenizer_config.json.",
        )
    return _encoded(_batches(pieces, skip), tokenizer, separator)


def _encoded(batches: Iterator[_Batch], tokenizer: Tokenizer, separator: int) -> Generator[EncodedChunks]:
    with ThreadPoolExecutor(_AT_WORK, thread_name_prefix="penna-encode") as threads:
        running: deque[Future[EncodedChunks]] = deque()
        try:
            for batch in batches:
                running.append(threads.submit(_encode_batch, batch, tokenizer, separator))
                if len(running) > _AT_WORK + _WAITING:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            for future in running:
                future.cancel()


def _batches(pieces: Iterable[TextChunk], skip: int) -> Iterator[_Batch]:
    counter = WordCounter()
    batch, held = _Batch([], [], []), 0
    for number, piece in enumerate(pieces):
        words = counter.count(piece.text, piece.starts)
        if number < skip:
            continue
        batch.texts.append(piece.text)
        batch.starts.append(piece.starts)
        batch.words.append(words)
        held += len(piece.text)
        if held >= _BATCH:
            yield batch
            batch, held = _Batch([], [], []), 0
    if held:
        yield batch


def _encode_batch(batch: _Batch, tokenizer: Tokenizer, separator: int) -> EncodedChunks:
    encoded = tokenizer.encode_batch(batch.texts)
    lengths = np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded))
    starts = np.array(batch.starts, dtype=np.int64)
    ids = np.fromiter(chain.from_iterable(encoded), dtype=np.uint32, count=int(lengths.sum()))
    begins = (np.cumsum(lengths) - lengths)[starts == 1]
    return EncodedChunks(
        ids=np.insert(ids, begins, separator),
        ends=np.cumsum(lengths + starts),
        documents=starts,
        bytes=np.fromiter((len(text.encode("utf-8")) for text in batch.texts), dtype=np.int64),
        words=np.array(batch.words, dtype=np.int64),
    )
