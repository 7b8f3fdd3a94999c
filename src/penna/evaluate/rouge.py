"""ROUGE (Lin 2004) of a text and its reference, and bootstrap intervals of means over texts.

ROUGE-1 and ROUGE-2 are counted by the `rouge_score` package, with words of any language (`penna.evaluate.words`)
instead of its own, which are runs of a-z and 0-9. ROUGE-L and ROUGE-Lsum follow its definitions with a much faster
longest common subsequence. Papers on CNN/Daily Mail that report ROUGE-L mostly mean ROUGE-Lsum. Nothing is stemmed.
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

RougeKind = Literal["rouge1", "rouge2", "rougeL", "rougeLsum"]
ROUGE_KINDS: tuple[RougeKind, ...] = get_args(RougeKind)
FMEASURE = 2  # column of `rouge_scores`

RESAMPLES = 1000

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A mean, and the bounds of the middle 95 % of its bootstrap resamples."""

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
    """Precision, recall and F-measure of every kind in `ROUGE_KINDS`: (4, 3). All are 0 if a side has no words.

    ROUGE-n: common n-grams, each as often as it is on both sides, divided by those of the output (precision) and of the
    reference (recall). ROUGE-L: words of the longest common subsequence instead. ROUGE-Lsum (Lin 2004, section 3.2):
    words of each reference sentence that are in its longest common subsequence with any sentence of the output, none
    counted more often than it is on either side. F is the harmonic mean.
    """
    counted = _ngram_scorer().score(reference, output)
    reference_words, output_words = words(reference), words(output)
    rows = [(counted[kind].precision, counted[kind].recall, counted[kind].fmeasure) for kind in ROUGE_KINDS[:2]]
    for hits in (
        lcs_length(reference_words, output_words),
        _union_lcs_hits(sentences(reference), sentences(output)),
    ):
        precision, recall = hits / max(len(output_words), 1), hits / max(len(reference_words), 1)
        rows.append((precision, recall, 2 * precision * recall / (precision + recall) if hits else 0.0))
    return np.array(rows)


def rouge_fmeasures(reference: str, output: str) -> dict[str, float]:
    """The F-measure of every kind of ROUGE, from 0 to 1, by its name."""
    scores = rouge_scores(reference, output)[:, FMEASURE]
    return {kind: float(score) for kind, score in zip(ROUGE_KINDS, scores, strict=True)}


def bootstrap_means(scores: Scores, seed: int) -> Scores:
    """Means over resamples of N texts, drawn from (N, kinds) with replacement: (RESAMPLES, kinds).

    The same seed draws the same texts, so scores of two systems on the same texts can be subtracted resample by
    resample (a paired bootstrap: Koehn 2004).
    """
    random = np.random.default_rng(seed)
    draws = (random.integers(0, len(scores), len(scores)) for _ in range(RESAMPLES))
    return np.stack([scores[draw].mean(axis=0) for draw in draws])


def interval(mean: float, resampled: NDArray[np.float64]) -> Interval:
    """A mean with the 2.5th and the 97.5th percentile of its resamples."""
    low, high = np.percentile(resampled, (2.5, 97.5))
    return Interval(float(mean), float(low), float(high))


# The longest common subsequence by hand: rapidfuzz finds other positions among equally long subsequences than
# rouge_score does, which changes ROUGE-Lsum.


def lcs_length(one: Sequence[str], other: Sequence[str]) -> int:
    """The length of the longest common subsequence."""
    shorter, longer = sorted((one, other), key=len)
    return _lcs_rows(shorter, longer)[-1].bit_count()


def lcs_positions(reference: Sequence[str], candidate: Sequence[str]) -> list[int]:
    """The rising positions in ``reference`` of the longest common subsequence that `rouge_score` would find."""
    rows = _lcs_rows(reference, candidate)
    row, column, length = len(reference), len(candidate), rows[-1].bit_count()
    positions: list[int] = []
    while length:
        if reference[row - 1] == candidate[column - 1]:
            row, column, length = row - 1, column - 1, length - 1
            positions.append(row)
        elif (rows[row - 1] & ((1 << column) - 1)).bit_count() < length:
            column -= 1
        else:
            row -= 1
    return positions[::-1]


def _lcs_rows(down: Sequence[str], across: Sequence[str]) -> list[int]:
    """The rows of the dynamic-programming table, as integers: bit j is set if column j + 1 is one above column j.

    A row rises by at most one from column to column, so one integer holds it, and the next row follows by an addition
    (Hyyrö 2004, "Bit-parallel LCS-length computation revisited"). Texts of ten thousand words take milliseconds.
    """
    mask = (1 << len(across)) - 1
    occurs: dict[str, int] = {}
    for column, word in enumerate(across):
        occurs[word] = occurs.get(word, 0) | 1 << column
    level, rows = mask, [0]
    for word in down:
        equal = level & occurs.get(word, 0)
        level = ((level + equal) | (level - equal)) & mask
        rows.append(level ^ mask)
    return rows


def _union_lcs_hits(reference_sentences: Sequence[str], output_sentences: Sequence[str]) -> int:
    references = [words(sentence) for sentence in reference_sentences]
    outputs = [words(sentence) for sentence in output_sentences]
    left = Counter(word for sentence in references for word in sentence)
    left &= Counter(word for sentence in outputs for word in sentence)
    hits = 0
    for reference in references:
        known = set(reference)
        union = {
            position
            for output in outputs
            if not known.isdisjoint(output)
            for position in lcs_positions(reference, output)
        }
        for position in sorted(union):
            if left[reference[position]] > 0:
                left[reference[position]] -= 1
                hits += 1
    return hits


class _WordTokenizer:
    """The interface that `rouge_score` expects of a tokenizer."""

    def tokenize(self, text: str) -> list[str]:
        return words(text)


@lru_cache(maxsize=1)
def _ngram_scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # imports nltk, which takes about a second

    return RougeScorer(list(ROUGE_KINDS[:2]), use_stemmer=False, tokenizer=_WordTokenizer())
