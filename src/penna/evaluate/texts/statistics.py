"""Statistics of a set of continuations, for all texts or a subset, and the amount of text that each statistic needs.

What belongs to one text (its words, whether it repeats, its BLEU against the others) is computed once. What belongs to
many texts together (Zipf's exponent, different n-grams) is counted for each subset, so that the spread between random
halves can serve as the uncertainty of a statistic.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penna.evaluate.texts.diversity import ends_in_repetition, self_bleu, zipf_coefficient
from penna.evaluate.words import words_and_punctuation

Rows = NDArray[np.int64]
DISTINCT = (1, 2, 3)

# From these amounts on, statistics of two sets of human texts of one kind differ by less than a tenth on average, as
# measured on WikiText-2, TinyStories, and Chinese and Korean texts of about 150 words each (perplexity on 90 tokens of
# the latter three). Repetition is a share of texts: from 100 on, one text is at most a percent. For MAUVE, Pillutla et
# al. 2021 use 5,000 texts; a tenth of these gives 50 clusters.
_TEXTS = (("perplexity", 30), ("distance", 50), ("self-BLEU-4", 200), ("repetition", 100), ("MAUVE", 500))
_WORDS = (("distinct-n", 5000), ("words used", 5000), ("Zipf", 10_000))


@dataclass(frozen=True)
class Continuation:
    """The text after one prefix, generated or human."""

    ids: tuple[int, ...]  # without the separator that may have ended it
    text: str
    ended: bool  # whether the text ended before the requested length


@dataclass(frozen=True)
class Likelihood:
    """The cost of N continuations after their prefixes, under a model without decoding settings."""

    nats: NDArray[np.float64]  # (N,)
    tokens: Rows  # (N,), of that model's tokenizer


@dataclass(frozen=True)
class Statistics:
    """The statistics of a set of continuations. None: too little text, or nothing to measure it with.

    A text that ended early is used as it is, as in Holtzman et al. 2020; it is not padded, redrawn or left out. The
    separator that ended it never counts. Distinct-n, words used and Zipf's exponent depend on the amount of text, so
    compare only sets of similar ``length``.
    """

    texts: int
    words: int  # of all texts, punctuation included
    perplexity: float | None  # exp(nats per token over all texts), after their prefixes
    judge_perplexity: float | None
    self_bleu: float | None  # mean over the texts with words
    zipf: float | None
    repetition: float  # share of texts that end in a repeated phrase
    distinct_1: float | None  # different n-grams of words among all n-grams
    distinct_2: float | None
    distinct_3: float | None
    words_used: int  # different words
    vocabulary_use: float  # different tokens divided by the vocabulary size
    length: float  # tokens, mean
    ended: float  # share of texts that ended before the requested length


class MeasuredTexts:
    """A set of continuations, one for each prefix."""

    def __init__(
        self,
        texts: Sequence[Continuation],
        likelihood: Likelihood,
        vocab_size: int,
        judged: Likelihood | None = None,
    ) -> None:
        words = [words_and_punctuation(text.text) for text in texts]
        self.texts = tuple(texts)
        self._likelihood, self._judged, self._vocab_size = likelihood, judged, vocab_size
        self._bleu = np.array([math.nan if score is None else score for score in self_bleu(words)])
        self._repeats = np.array([ends_in_repetition(text.ids) for text in texts])
        self._ended = np.array([text.ended for text in texts])
        self._lengths = np.array([len(text.ids) for text in texts])
        self._grams = {order: _numbered_ngrams(words, order) for order in DISTINCT}
        self._tokens = _numbered_ngrams([text.ids for text in texts], 1)

    def __len__(self) -> int:
        return len(self.texts)

    def statistics(self, rows: Rows | None = None) -> Statistics:
        """The statistics of the texts in these rows, each once; of all texts by default.

        Self-BLEU keeps all texts of the set as references, so that fewer texts do not lower it.
        """
        rows = np.arange(len(self)) if rows is None else rows
        counts = {order: _counts(numbers, rows) for order, numbers in self._grams.items()}
        distinct = {order: _distinct_share(counted) for order, counted in counts.items()}
        bleu = self._bleu[rows]
        bleu = bleu[~np.isnan(bleu)]
        return Statistics(
            texts=len(rows),
            words=int(counts[1].sum()),
            perplexity=_perplexity(self._likelihood, rows),
            judge_perplexity=None if self._judged is None else _perplexity(self._judged, rows),
            self_bleu=float(bleu.mean()) if len(bleu) else None,
            zipf=zipf_coefficient(counts[1]),
            repetition=float(self._repeats[rows].mean()),
            distinct_1=distinct[1],
            distinct_2=distinct[2],
            distinct_3=distinct[3],
            words_used=int(np.count_nonzero(counts[1])),
            vocabulary_use=int(np.count_nonzero(_counts(self._tokens, rows))) / self._vocab_size,
            length=float(self._lengths[rows].mean()),
            ended=float(self._ended[rows].mean()),
        )


@dataclass(frozen=True)
class SampleSizeWarning:
    """A statistic that is unreliable, and the amount of text it needs."""

    statistic: str
    had: int
    needs: int
    unit: str  # texts or words

    @property
    def message(self) -> str:
        """The warning for a person."""
        return f"{self.statistic} is unreliable: it needs about {self.needs:,} {self.unit} (got {self.had:,})."


def sample_size_warnings(human: Statistics) -> list[SampleSizeWarning]:
    """The statistics for which the human side has too little text; every strategy has as many texts."""
    return [
        *(SampleSizeWarning(name, human.texts, needs, "texts") for name, needs in _TEXTS if human.texts < needs),
        *(SampleSizeWarning(name, human.words, needs, "words") for name, needs in _WORDS if human.words < needs),
    ]


def reliable_statistics(human: Statistics) -> list[str]:
    """The statistics for which there is enough text."""
    unreliable = {warning.statistic for warning in sample_size_warnings(human)}
    return [name for name, _ in (*_TEXTS, *_WORDS) if name not in unreliable]


def _numbered_ngrams(texts: Sequence[Sequence[Hashable]], order: int) -> list[Rows]:
    """The n-grams of each text as numbers; an n-gram has the same number in all texts."""
    numbers: dict[tuple[Hashable, ...], int] = {}
    return [
        np.array(
            [
                numbers.setdefault(tuple(text[start : start + order]), len(numbers))
                for start in range(len(text) - order + 1)
            ],
            dtype=np.int64,
        )
        for text in texts
    ]


def _counts(numbers: Sequence[Rows], rows: Rows) -> Rows:
    """How often each n-gram is in the texts of these rows."""
    return np.bincount(np.concatenate([numbers[row] for row in rows.tolist()]))


def _distinct_share(counts: Rows) -> float | None:
    """Distinct-n (`penna.evaluate.texts.diversity`) from counts."""
    total = int(counts.sum())
    return int(np.count_nonzero(counts)) / total if total else None


def _perplexity(likelihood: Likelihood, rows: Rows) -> float | None:
    tokens = int(likelihood.tokens[rows].sum())
    if not tokens:
        return None
    with np.errstate(over="ignore"):
        return float(np.exp(likelihood.nats[rows].sum() / tokens))
