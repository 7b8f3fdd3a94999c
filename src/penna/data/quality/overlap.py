"""What a test text shares with the training text: whole documents, and 13-grams of words or characters.

The test text is read first and kept as hashes: eight bytes per document and twenty per n-gram. The training text then
streams past, and only its matches are kept. Overlap in 13-grams follows GPT-3 (Brown et al. 2020, appendix C); shorter
texts are only compared whole.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from penna.data.quality.codepoints import TextBatch, text_batches
from penna.data.quality.documents import Document
from penna.data.quality.hashing import DocumentHasher, Hashes, NgramHasher, with_label
from penna.data.quality.result import Overlap
from penna.data.quality.scripts import CharacterCounter, ngram_unit

N = 13
_PREFILTER_BITS = 24


class OverlapCounter:
    """Keeps the hashes of the test text and marks those that training has as well."""

    def __init__(self, test: Iterable[Document]) -> None:
        """Read the test text. Its first batch decides whether words or characters are compared."""
        self._documents = self._empty = 0
        self._hashes, self._labeled_hashes = array("Q"), array("Q")
        self._unit: Literal["words", "characters"] = "words"
        hasher: NgramHasher | None = None
        parts: list[Hashes] = []
        owners: list[NDArray[np.int64]] = []
        for batch in text_batches(self._hashed(test)):
            if hasher is None:
                characters = CharacterCounter()
                characters.add(batch)
                self._unit = ngram_unit(characters.scripts())
                hasher = NgramHasher(N, self._unit)
            hashes, numbers = hasher.hashes(batch)
            parts.append(hashes)
            owners.append(numbers)
        every: Hashes = np.concatenate(parts) if parts else np.zeros(0, dtype=np.uint64)
        self._owners: NDArray[np.int64] = np.concatenate(owners) if owners else np.zeros(0, dtype=np.int64)
        self._ngrams, self._occurrences = np.unique(every, return_inverse=True)
        self._seen = np.zeros(len(self._ngrams), dtype=np.bool_)
        self._prefilter = np.zeros(1 << _PREFILTER_BITS, dtype=np.bool_)
        self._prefilter[_short(self._ngrams)] = True
        self._training = NgramHasher(N, self._unit)

    def _hashed(self, test: Iterable[Document]) -> Iterable[Document]:
        hasher = DocumentHasher()
        for document in test:
            self._documents += document.starts
            if document.starts and not document.text.strip():
                self._empty += 1
                continue
            value = hasher.add(document.text, document.starts)
            if not document.starts:
                self._hashes.pop()
            self._hashes.append(value)
            if document.label is not None:
                self._labeled_hashes.append(with_label(value, document.label))
            yield document

    def add(self, batch: TextBatch) -> None:
        """Mark the n-grams that occur in a batch of training text."""
        hashes, _ = self._training.hashes(batch)
        possible = hashes[self._prefilter[_short(hashes)]]
        places = np.minimum(np.searchsorted(self._ngrams, possible), max(len(self._ngrams) - 1, 0))
        if len(possible):
            self._seen[places[self._ngrams[places] == possible]] = True

    def result(self, training: Hashes, labeled: Hashes, empty: int) -> Overlap:
        """The overlap, given the hashes of training documents, those with labels, and the number of empty ones."""
        tests = np.frombuffer(self._hashes, dtype=np.uint64)
        known = np.isin(tests, training)
        other_label = None
        if len(self._labeled_hashes) and len(labeled):
            same = np.isin(np.frombuffer(self._labeled_hashes, dtype=np.uint64), labeled)
            other_label = int(known.sum() - same.sum())
        exact_empty = self._empty if empty else 0
        hits = self._seen[self._occurrences]
        return Overlap(
            documents=self._documents,
            exact=int(known.sum()) + exact_empty,
            exact_empty=exact_empty,
            other_label=other_label,
            n=N,
            unit=self._unit,
            comparable=len(np.unique(self._owners)),
            sharing=len(np.unique(self._owners[hits])),
            ngrams=len(self._owners),
            ngrams_seen=int(hits.sum()),
        )


def _short(hashes: Hashes) -> NDArray[np.int64]:
    return (hashes >> np.uint64(64 - _PREFILTER_BITS)).astype(np.int64)
