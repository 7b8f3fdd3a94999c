"""ROUGE (Lin 2004) of one text against its reference, and what its mean over many texts is worth.

ROUGE-1 and ROUGE-2 are counted by the `rouge_score` package, given words of any language (`rouge_words`) instead of its
own, which are runs of a-z and 0-9. ROUGE-L and ROUGE-Lsum are its definitions on `subsequence`, which is faster by far.
Papers on CNN/Daily Mail that say ROUGE-L mostly mean ROUGE-Lsum. Nothing is stemmed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from penna.evaluate.sentences import sentences
from penna.evaluate.words import words

# MERGED evaluate.subsequence: The longest common subsequence of two lists of words: its length, and which words are
# in it.
#
# A row of the usual table rises by at most one from column to column, so it fits into the bits of one integer, and
# the
# next row follows by an addition (Hyyrö 2004, "Bit-parallel LCS-length computation revisited"). A text of ten
# thousand
# words so takes milliseconds where the table of the `rouge_score` package would be a hundred million Python integers.
# Among equally long subsequences, `common_places` finds the one that package finds.


def lcs_length(one: Sequence[str], other: Sequence[str]) -> int:
    """How many words the longest common subsequence has."""
    shorter, longer = sorted((one, other), key=len)
    return _rows(shorter, longer)[-1].bit_count()


def lcs_positions(reference: Sequence[str], candidate: Sequence[str]) -> list[int]:
    """The places in ``reference`` of one longest common subsequence, rising."""
    rows = _rows(reference, candidate)
    row, column, length = len(reference), len(candidate), rows[-1].bit_count()
    places: list[int] = []
    while length:
        if reference[row - 1] == candidate[column - 1]:
            row, column, length = row - 1, column - 1, length - 1
            places.append(row)
        elif (rows[row - 1] & ((1 << column) - 1)).bit_count() < length:
            column -= 1
        else:
            row -= 1
    return places[::-1]


def _rows(down: Sequence[str], across: Sequence[str]) -> list[int]:
    """Per row of the table, the first of them all zero, an integer: bit j is set where column j + 1 is one above j."""
    whole = (1 << len(across)) - 1
    occurs: dict[str, int] = {}
    for column, word in enumerate(across):
        occurs[word] = occurs.get(word, 0) | 1 << column
    level, rows = whole, [0]
    for word in down:
        equal = level & occurs.get(word, 0)
        level = ((level + equal) | (level - equal)) & whole
        rows.append(level ^ whole)
    return rows


RougeKind = Literal["rouge1", "rouge2", "rougeL", "rougeLsum"]
ROUGE_KINDS: tuple[RougeKind, ...] = get_args(RougeKind)

RESAMPLES = 1000

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A mean, and between what the middle 95 % of its bootstrap resamples lie."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class RougeMetrics:
    """Means over texts, from 0 to 1."""

    precision: float
    recall: float
    fmeasure: Interval


def rouge_scores(reference: str, output: str) -> Scores:
    """Precision, recall and F-measure of every kind in `KINDS`: (4, 3). All are 0 where a side has no words.

    ROUGE-n: n-grams in common, each as often as it stands on both sides, over those of the output (precision) and of
    the reference (recall). ROUGE-L: words of the longest common subsequence instead. ROUGE-Lsum (Lin 2004, 3.2): words
    of each reference sentence that lie in its longest common subsequence with any sentence of the output, none counted
    more often than it stands on either side. F is the harmonic mean.
    """
    counted = _counter().score(reference, output)
    wanted, written = words(reference), words(output)
    rows = [(counted[kind].precision, counted[kind].recall, counted[kind].fmeasure) for kind in ROUGE_KINDS[:2]]
    for hits in (lcs_length(wanted, written), _hits_by_sentence(sentences(reference), sentences(output))):
        precision, recall = hits / max(len(written), 1), hits / max(len(wanted), 1)
        rows.append((precision, recall, 2 * precision * recall / (precision + recall) if hits else 0.0))
    return np.array(rows)


def bootstrap_means(scores: Scores, seed: int) -> Scores:
    """Means over resamples of N texts, drawn from (N, kinds) with replacement: (RESAMPLES, kinds).

    The same seed draws the same texts, so figures of two systems on the same texts may be subtracted resample by
    resample (a paired bootstrap: Koehn 2004).
    """
    random = np.random.default_rng(seed)
    draws = (random.integers(0, len(scores), len(scores)) for _ in range(RESAMPLES))
    return np.stack([scores[draw].mean(axis=0) for draw in draws])


def interval(mean: float, resampled: NDArray[np.float64]) -> Interval:
    """A mean with the 2.5th and the 97.5th percentile of its resamples."""
    low, high = np.percentile(resampled, (2.5, 97.5))
    return Interval(float(mean), float(low), float(high))


def _hits_by_sentence(wanted: Sequence[str], written: Sequence[str]) -> int:
    references = [words(sentence) for sentence in wanted]
    outputs = [words(sentence) for sentence in written]
    left = Counter(word for sentence in references for word in sentence)
    left &= Counter(word for sentence in outputs for word in sentence)
    hits = 0
    for reference in references:
        known = set(reference)
        union = {
            place for output in outputs if not known.isdisjoint(output) for place in lcs_positions(reference, output)
        }
        for place in sorted(union):
            if left[reference[place]] > 0:
                left[reference[place]] -= 1
                hits += 1
    return hits


class _Words:
    """What the package asks its tokenizer for."""

    def tokenize(self, text: str) -> list[str]:
        return words(text)


@lru_cache(maxsize=1)
def _counter() -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # loads nltk, about a second

    return RougeScorer(list(ROUGE_KINDS[:2]), use_stemmer=False, tokenizer=_Words())
