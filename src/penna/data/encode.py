"""Text chunks to token ids, on all cores.

The tokenizer's own threads encode a batch of chunks while the next batch is read and the previous one is written.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict, deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from penna.data.sources.records import TextChunk
from penna.errors import DataError
from penna.tokenizer.tokenizer import Tokenizer

_BATCH = 1 << 19  # characters encoded together: two chunks of a long document, or more
_RUNNING = max(2, (os.cpu_count() or 1) // 2)  # batches encoded at a time, so that each core has a chunk
_WAITING = 1  # batches read ahead


@dataclass(frozen=True)
class EncodedChunks:
    """Token ids of consecutive chunks of one part; the arrays after ``ids`` have one entry per chunk."""

    part: str  # train or valid
    ids: NDArray[np.uint32]  # of all chunks, concatenated, with separators
    ends: NDArray[np.int64]  # the end of each chunk in ``ids``
    documents: NDArray[np.int64]  # 1 for the first chunk of a document, which starts with the separator; else 0
    bytes: NDArray[np.int64]  # of the text in UTF-8
    words: NDArray[np.int64]  # white-space words and line ends


@dataclass(frozen=True)
class _Batch:
    part: str
    texts: list[str] = field(default_factory=list)
    starts: list[bool] = field(default_factory=list)
    words: list[int] = field(default_factory=list)


def encode_chunks(
    chunks: Iterable[tuple[str, TextChunk]], tokenizer: Tokenizer, skip: Mapping[str, int]
) -> Generator[EncodedChunks]:
    """Encode chunks, each given with its part, in batches; the order within a part is kept.

    ``skip`` maps a part to the number of its first chunks that are read but not encoded. Raises DataError immediately
    if the tokenizer has no document separator.
    """
    separator = tokenizer.separator_id
    if separator is None:
        raise DataError(
            "The tokenizer has no document separator.",
            "A special token such as <|endoftext|>, [SEP] or </s> must separate documents.",
            "Choose another tokenizer, or set eos_token in its tokenizer_config.json.",
        )
    return _encode_in_threads(_batches(chunks, skip), tokenizer, separator)


def _encode_in_threads(batches: Iterator[_Batch], tokenizer: Tokenizer, separator: int) -> Generator[EncodedChunks]:
    with ThreadPoolExecutor(_RUNNING, thread_name_prefix="penna-encode") as threads:
        running: deque[Future[EncodedChunks]] = deque()
        try:
            for batch in batches:
                running.append(threads.submit(_encode_batch, batch, tokenizer, separator))
                if len(running) > _RUNNING + _WAITING:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            for future in running:
                future.cancel()


def _batches(chunks: Iterable[tuple[str, TextChunk]], skip: Mapping[str, int]) -> Iterator[_Batch]:
    counters: defaultdict[str, WordCounter] = defaultdict(WordCounter)
    numbers: Counter[str] = Counter()
    open_batches: dict[str, _Batch] = {}
    characters: Counter[str] = Counter()
    for part, chunk in chunks:
        words = counters[part].count(chunk.text, chunk.starts)
        numbers[part] += 1
        if numbers[part] <= skip.get(part, 0):
            continue
        batch = open_batches.setdefault(part, _Batch(part))
        batch.texts.append(chunk.text)
        batch.starts.append(chunk.starts)
        batch.words.append(words)
        characters[part] += len(chunk.text)
        if characters[part] >= _BATCH:
            yield open_batches.pop(part)
            characters[part] = 0
    yield from open_batches.values()


def _encode_batch(batch: _Batch, tokenizer: Tokenizer, separator: int) -> EncodedChunks:
    encoded = tokenizer.encode_batch(batch.texts)
    lengths = np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded))
    starts = np.array(batch.starts, dtype=np.int64)
    ids = np.fromiter(chain.from_iterable(encoded), dtype=np.uint32, count=int(lengths.sum()))
    first_ids = (np.cumsum(lengths) - lengths)[starts == 1]
    return EncodedChunks(
        part=batch.part,
        ids=np.insert(ids, first_ids, separator),
        ends=np.cumsum(lengths + starts),
        documents=starts,
        bytes=np.fromiter((len(text.encode("utf-8")) for text in batch.texts), dtype=np.int64),
        words=np.array(batch.words, dtype=np.int64),
    )


def count_words(text: str) -> int:
    """White-space words plus line ends, as the word-level perplexities of WikiText and PTB count them."""
    return len(text.split()) + text.count("\n")


class WordCounter:
    """Counts the words of documents that come in chunks; a word that is split between chunks counts once."""

    def __init__(self) -> None:
        self._inside = False  # whether the last chunk ended inside a word

    def count(self, text: str, starts: bool) -> int:
        """The words that this chunk adds; ``starts`` if it begins a document."""
        words = count_words(text)
        if self._inside and not starts and text and not text[0].isspace():
            words -= 1
        if text or starts:
            self._inside = bool(text) and not text[-1].isspace()
        return words
