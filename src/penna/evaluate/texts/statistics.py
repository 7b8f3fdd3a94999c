"""One set of continuations, measured: texts with their likelihoods in; the statistics of all or of some of them out.

What belongs to one text (its words, whether it repeats, its BLEU against the others) is found once. What belongs to
many texts together (Zipf's exponent, different n-grams) is counted from it anew for whichever texts are asked for, so
that a statistic's uncertainty can be told by asking for other halves.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penna.evaluate.texts.diversity import ends_in_repetition, self_bleu, zipf_of_counts
from penna.evaluate.words import words_and_punctuation

Rows = NDArray[np.int64]
DISTINCT = (1, 2, 3)


@dataclass(frozen=True)
class Continuation:
    """What stands behind one prefix, written by a model or a person."""

    ids: tuple[int, ...]  # without the separator that may have ended it
    text: str
    ended: bool  # the text ended before the length that was asked for


@dataclass(frozen=True)
class Likelihood:
    """What a set of continuations costs a model that reads them behind their prefixes, without any setting."""

    nats: NDArray[np.float64]  # (N,)
    tokens: Rows  # (N,), of the tokenizer of the model that reads


@dataclass(frozen=True)
class Statistics:
    """The statistics of a set of continuations. None: too little text for it, or nothing to measure it by.

    A text that ended early stays as it is, in all of them: it is not filled up, drawn anew or left out, as Holtzman et
    al. 2020 keep it. The separator that ended it counts in none. Distinct-n, words used and Zipf's exponent go by how
    much text there is, so they compare sets of alike ``length`` alone.
    """

    texts: int
    words: int  # `text_words` of all texts
    perplexity: float | None  # exp(nats per token over all texts), behind their prefixes
    judge_perplexity: float | None
    self_bleu: float | None  # mean over the texts with words
    zipf: float | None
    repetition: float  # share of texts that end in a phrase again and again
    distinct_1: float | None  # different n-grams of words among all n-grams
    distinct_2: float | None
    distinct_3: float | None
    words_used: int  # different words
    vocabulary_use: float  # different tokens over the tokenizer's vocabulary
    length: float  # tokens, mean
    ended: float  # share of texts that ended before the length asked for

    def as_json(self) -> dict[str, Any]:
        """A dictionary for JSON."""
        return {name: None if value == math.inf else value for name, value in asdict(self).items()}


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
        self._grams = {order: _numbered(words, order) for order in DISTINCT}
        self._tokens = _numbered([text.ids for text in texts], 1)

    def __len__(self) -> int:
        return len(self.texts)

    def statistics(self, rows: Rows | None = None) -> Statistics:
        """The statistics of the texts of some prefixes, each once; of all where none are named.

        Self-BLEU keeps all texts of the set for references, so that fewer texts do not make it lower.
        """
        rows = np.arange(len(self)) if rows is None else rows
        counts = {order: _counts(numbers, rows) for order, numbers in self._grams.items()}
        distinct = {order: _different(counted) for order, counted in counts.items()}
        bleu = self._bleu[rows]
        bleu = bleu[~np.isnan(bleu)]
        return Statistics(
            texts=len(rows),
            words=int(counts[1].sum()),
            perplexity=_perplexity(self._likelihood, rows),
            judge_perplexity=None if self._judged is None else _perplexity(self._judged, rows),
            self_bleu=float(bleu.mean()) if len(bleu) else None,
            zipf=zipf_of_counts(counts[1]),
            repetition=float(self._repeats[rows].mean()),
            distinct_1=distinct[1],
            distinct_2=distinct[2],
            distinct_3=distinct[3],
            words_used=int(np.count_nonzero(counts[1])),
            vocabulary_use=int(np.count_nonzero(_counts(self._tokens, rows))) / self._vocab_size,
            length=float(self._lengths[rows].mean()),
            ended=float(self._ended[rows].mean()),
        )


def _numbered(texts: Sequence[Sequence[Hashable]], order: int) -> list[Rows]:
    """The n-grams of each text as numbers; the same n-gram has the same number in all texts."""
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
    """How often each n-gram stands in the texts of these rows."""
    return np.bincount(np.concatenate([numbers[row] for row in rows.tolist()]))


def _different(counts: Rows) -> float | None:
    """distinct-n (Li et al. 2016), as `penna.evaluate.texts.diversity`, from counts."""
    total = int(counts.sum())
    return int(np.count_nonzero(counts)) / total if total else None


def _perplexity(likelihood: Likelihood, rows: Rows) -> float | None:
    tokens = int(likelihood.tokens[rows].sum())
    if not tokens:
        return None
    with np.errstate(over="ignore"):
        return float(np.exp(likelihood.nats[rows].sum() / tokens))


# MERGED evaluate.texts.trust: What statistics of so much text are worth: counts in, a sentence for each statistic
# that needs more out.
#
# From these amounts on, the statistics of two sets of human texts of one kind differ by less than a tenth on
# average: so
# it was on WikiText-2, TinyStories, Chinese and Korean texts of about 150 words each, and with perplexity on 90
# tokens
# of the latter three. Repetition is a share of texts, and
# from 100 on one text is no more than a percent. For MAUVE, Pillutla et al. 2021 take 5,000 texts; with a tenth of
# these
# its clusters are 50.


@dataclass(frozen=True)
class SampleSizeWarning:
    """A statistic that cannot be trusted, and how much text it needs."""

    statistic: str
    had: int
    needs: int
    unit: str  # texts, tokens or words

    @property
    def message(self) -> str:
        """For a person."""
        return (
            f"{self.statistic} cannot be trusted: it needs about {self.needs:,} {self.unit}, and there are "
            f"{self.had:,}."
        )


_TEXTS = (("perplexity", 30), ("distance", 50), ("self-BLEU-4", 200), ("repetition", 100), ("MAUVE", 500))
_WORDS = (("distinct-n", 5000), ("words used", 5000), ("Zipf", 10_000))


def sample_size_warnings(human: Statistics) -> list[SampleSizeWarning]:
    """What the human side has too little text for; each writer has as many texts."""
    return [
        *(SampleSizeWarning(name, human.texts, needs, "texts") for name, needs in _TEXTS if human.texts < needs),
        *(SampleSizeWarning(name, human.words, needs, "words") for name, needs in _WORDS if human.words < needs),
    ]


def reliable_statistics(human: Statistics) -> list[str]:
    """The statistics that there is text enough for."""
    doubted = {doubt.statistic for doubt in sample_size_warnings(human)}
    return [name for name, _ in (*_TEXTS, *_WORDS) if name not in doubted]
