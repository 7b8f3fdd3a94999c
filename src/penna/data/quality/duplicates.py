"""Exact duplicates: how many documents repeat an earlier one, which texts do so most, and which have two labels.

Held are eight bytes a document (24 with a label) and the beginnings of at most 65,536 texts, of which the frequent
ones survive: any text that makes up more than one in 32,768 documents is certain to be among them (Misra and Gries
1982). The counts told are exact.
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
    times: int  # it was seen, less what was taken off
    text: str
    where: str


class DuplicateCounter:
    """Collects the hashes of documents, of their labels, and what the frequent ones look like."""

    def __init__(self, kept: int = _KEPT) -> None:
        self._hasher = DocumentHasher()
        self._hashes = array("Q")
        self._labelled, self._labelled_texts = array("Q"), array("Q")  # text with label, text alone
        self._labels: Counter[str] = Counter()
        self._candidates: dict[int, _Candidate] = {}
        self._kept = kept

    def add(self, document: Document) -> None:
        """A further document, which must not be empty, or a further piece of the last one."""
        value = self._hasher.add(document.text, document.starts)
        begins = _Candidate(0, document.text[:_BEGINNING], document.location())
        if not document.starts:
            begins = self._take_back(self._hashes.pop(), begins)
        self._hashes.append(value)
        if document.label is not None:
            self._labels[document.label] += 1
            self._labelled.append(with_label(value, document.label))
            self._labelled_texts.append(value)
        held = self._candidates.get(value, begins)
        self._candidates[value] = held._replace(times=held.times + 1)
        if len(self._candidates) >= 2 * self._kept:
            self._thin_out()

    def _take_back(self, value: int, unknown: _Candidate) -> _Candidate:
        """The last document goes on, and is not what it seemed: how it began, as far as that is still known."""
        held = self._candidates.pop(value, unknown)
        if held.times > 1:
            self._candidates[value] = held._replace(times=held.times - 1)
        return held._replace(times=0)

    def _thin_out(self) -> None:
        """Take the count of the next one off the most frequent, and drop the rest."""
        counts = sorted((candidate.times for candidate in self._candidates.values()), reverse=True)
        less = counts[self._kept]
        self._candidates = {
            value: candidate._replace(times=candidate.times - less)
            for value, candidate in self._candidates.items()
            if candidate.times > less
        }

    def hashes(self) -> Hashes:
        """Of all documents, in order."""
        return _as_array(self._hashes)

    def labeled_hashes(self) -> Hashes:
        """Of all labelled documents, text and label together, in order."""
        return _as_array(self._labelled)

    def result(self) -> Duplicates:
        """The figures of all documents so far."""
        values, counts = np.unique(self.hashes(), return_counts=True)
        repeats = int((counts - 1).sum())
        most: list[RepeatedText] = []
        for place in np.argsort(-counts, kind="stable"):
            if counts[place] < 2 or len(most) == _SHOWN_TEXTS:
                break
            candidate = self._candidates.get(int(values[place]))
            if candidate is not None:
                most.append(RepeatedText(int(counts[place]), candidate.text, candidate.where))
        return Duplicates(repeats, repeats / max(len(self._hashes), 1), tuple(most))

    def labels(self) -> Labels | None:
        """Labels, and texts with more than one; None where no document has any."""
        if not self._labels:
            return None
        contradictory, documents = _contradictions(_as_array(self._labelled_texts), self.labeled_hashes())
        return Labels(dict(self._labels.most_common()), contradictory, documents)


def _contradictions(texts: Hashes, labelled: Hashes) -> tuple[int, int]:
    """How many different texts have more than one label, and how many documents they make."""
    _, first, counts = np.unique(labelled, return_index=True, return_counts=True)
    owners, pairs = np.unique(texts[first], return_counts=True)
    several: NDArray[np.bool_] = pairs > 1
    documents = counts[np.isin(texts[first], owners[several])].sum()
    return int(several.sum()), int(documents)


def _as_array(values: array[int]) -> Hashes:
    return np.frombuffer(values, dtype=np.uint64) if values else np.zeros(0, dtype=np.uint64)
