"""Exact duplicates: how many documents repeat an earlier one, the most frequent texts, and texts with several labels.

Memory holds eight bytes per document (24 with a label) and the beginnings of at most 65,536 texts. Any text that makes
up more than one in 32,768 documents is certainly among them (Misra and Gries 1982). The counts are exact.
"""

from __future__ import annotations

from array import array
from collections import Counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from penna.data.quality.documents import Document
from penna.data.quality.hashing import DocumentHasher, Hashes, with_label
from penna.data.quality.result import Duplicates, Labels, RepeatedText

_KEPT = 1 << 15
_SHOWN_TEXTS = 5
_BEGINNING = 80  # characters


class _Candidate(NamedTuple):
    times: int  # counted, less what was subtracted
    text: str
    location: str


class DuplicateCounter:
    """Collects hashes of documents and labels, and the beginnings of frequent texts."""

    def __init__(self, kept: int = _KEPT) -> None:
        self._hasher = DocumentHasher()
        self._hashes = array("Q")
        self._labeled, self._labeled_texts = array("Q"), array("Q")  # text with label, text alone
        self._labels: Counter[str] = Counter()
        self._candidates: dict[int, _Candidate] = {}
        self._kept = kept

    def add(self, document: Document) -> None:
        """Add a document, which must not be empty, or a further chunk of the last one."""
        value = self._hasher.add(document.text, document.starts)
        beginning = _Candidate(0, document.text[:_BEGINNING], document.location())
        if not document.starts:
            beginning = self._remove_last(self._hashes.pop(), beginning)
        self._hashes.append(value)
        if document.label is not None:
            self._labels[document.label] += 1
            self._labeled.append(with_label(value, document.label))
            self._labeled_texts.append(value)
        held = self._candidates.get(value, beginning)
        self._candidates[value] = held._replace(times=held.times + 1)
        if len(self._candidates) >= 2 * self._kept:
            self._drop_rare()

    def _remove_last(self, value: int, unknown: _Candidate) -> _Candidate:
        """Remove the last document, which continues; its beginning, if that is still known."""
        held = self._candidates.pop(value, unknown)
        if held.times > 1:
            self._candidates[value] = held._replace(times=held.times - 1)
        return held._replace(times=0)

    def _drop_rare(self) -> None:
        """Keep the most frequent texts, and subtract the count of the next one from theirs."""
        counts = sorted((candidate.times for candidate in self._candidates.values()), reverse=True)
        less = counts[self._kept]
        self._candidates = {
            value: candidate._replace(times=candidate.times - less)
            for value, candidate in self._candidates.items()
            if candidate.times > less
        }

    def hashes(self) -> Hashes:
        """The hashes of all documents, in order."""
        return _as_array(self._hashes)

    def labeled_hashes(self) -> Hashes:
        """The hashes of text and label of all labeled documents, in order."""
        return _as_array(self._labeled)

    def result(self) -> Duplicates:
        """The duplicates among all documents so far."""
        values, counts = np.unique(self.hashes(), return_counts=True)
        repeats = int((counts - 1).sum())
        most: list[RepeatedText] = []
        for place in np.argsort(-counts, kind="stable"):
            if counts[place] < 2 or len(most) == _SHOWN_TEXTS:
                break
            candidate = self._candidates.get(int(values[place]))
            if candidate is not None:
                most.append(RepeatedText(int(counts[place]), candidate.text, candidate.location))
        return Duplicates(repeats, repeats / max(len(self._hashes), 1), tuple(most))

    def labels(self) -> Labels | None:
        """The labels, and texts with more than one; None if no document has a label."""
        if not self._labels:
            return None
        contradictory, documents = _contradictions(_as_array(self._labeled_texts), self.labeled_hashes())
        return Labels(dict(self._labels.most_common()), contradictory, documents)


def _contradictions(texts: Hashes, labeled: Hashes) -> tuple[int, int]:
    """How many different texts have more than one label, and how many documents have these texts."""
    _, first, counts = np.unique(labeled, return_index=True, return_counts=True)
    owners, pairs = np.unique(texts[first], return_counts=True)
    several: NDArray[np.bool_] = pairs > 1
    documents = counts[np.isin(texts[first], owners[several])].sum()
    return int(several.sum()), int(documents)


def _as_array(values: array[int]) -> Hashes:
    return np.frombuffer(values, dtype=np.uint64) if values else np.zeros(0, dtype=np.uint64)
