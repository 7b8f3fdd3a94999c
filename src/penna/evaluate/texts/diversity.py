"""Diversity and repetition of texts: degenerate repetition, distinct-n, self-BLEU and Zipf's exponent."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

import numpy as np

MIN_PHRASE, MIN_REPEATS, REPETITION_WINDOW = 2, 3, 200  # tokens, times in a row, tokens at the end of the text
ORDERS = (1, 2, 3, 4)  # n-grams of self-BLEU
RANKS = 5000  # the most frequent words to which Zipf's line is fitted
_SMOOTHING = 0.1  # counts instead of no match (Chen and Cherry 2014, method 1)

_Gram = tuple[Hashable, ...]


def ends_in_repetition(tokens: Sequence[Hashable]) -> bool:
    """Whether a phrase of at least two tokens is repeated at least three times at the very end.

    Holtzman et al. 2020, section 5.3 and table 1: "a phrase (minimum length 2) … repeated at least three times at the
    end", within 200 tokens. Only whole repeats count; a loop that was cut inside a phrase still ends in whole repeats
    of the phrase that starts at another token. Tokens are the model's own, so the meaning is the same in any script.
    """
    end = list(tokens[-REPETITION_WINDOW:])
    for length in range(MIN_PHRASE, len(end) // MIN_REPEATS + 1):
        # Three phrases in a row: over two phrases, every token equals the one a phrase earlier.
        span = (MIN_REPEATS - 1) * length
        if end[-span:] == end[-span - length : -length]:
            return True
    return False


def distinct(texts: Iterable[Sequence[Hashable]], n: int) -> float | None:
    """Distinct-n (Li et al. 2016, arXiv:1510.03055, section 5.2): different n-grams of all texts over all n-grams.

    From 0 to 1; None if no text has n tokens. An n-gram is within one text. The share falls with the amount of text, so
    compare equal numbers of texts.
    """
    grams = [gram for text in texts for gram in _ngrams(text, n)]
    return len(set(grams)) / len(grams) if grams else None


def self_bleu(texts: Sequence[Sequence[Hashable]]) -> list[float | None]:
    """BLEU-4 of each text with all the others as references, from 0 to 1; high if the texts are alike.

    Zhu et al. 2018 (Texygen, section 3.2), as used by Holtzman et al. 2020: sentence BLEU (Papineni et al. 2002) of
    n-grams 1 to 4 with equal weights, each n-gram counted at most as often as in the reference that has it most; no
    match of an order counts as 0.1 (Chen and Cherry 2014, method 1, as in NLTK, which Texygen calls); the brevity
    penalty uses the reference nearest in length. It rises with the number of references, so compare equally many texts.
    All texts are used: one pass over their n-grams finds the two highest counts of each, so no pair is ever compared.

    None for a text without words, or if no other text has any.
    """
    filled = [number for number, text in enumerate(texts) if text]
    scores: list[float | None] = [None] * len(texts)
    if len(filled) < 2:
        return scores
    lengths = sorted(len(texts[number]) for number in filled)
    logs = dict.fromkeys(filled, 0.0)
    for order in ORDERS:
        grams = {number: Counter(_ngrams(texts[number], order)) for number in filled}
        most = _highest_counts(grams)
        for number in filled:
            matched = 0
            for gram, count in grams[number].items():
                owner, high, second = most[gram]
                matched += min(count, second if owner == number else high)
            possible = max(len(texts[number]) - order + 1, 1)
            if order == 1 and not matched:
                logs[number] = -math.inf
            else:
                logs[number] += math.log((matched or _SMOOTHING) / possible) / len(ORDERS)
    for number in filled:
        scores[number] = _brevity_penalty(len(texts[number]), lengths) * math.exp(logs[number])
    return scores


def _highest_counts(grams: dict[int, Counter[_Gram]]) -> dict[_Gram, tuple[int, int, int]]:
    """Per n-gram: the text that has it most often, how often, and the highest count of any other text."""
    most: dict[_Gram, tuple[int, int, int]] = {}
    for number, counts in grams.items():
        for gram, count in counts.items():
            owner, high, second = most.get(gram, (number, 0, 0))
            most[gram] = (number, count, high) if count > high else (owner, high, max(second, count))
    return most


def _brevity_penalty(length: int, lengths: Sequence[int]) -> float:
    """The penalty of a text of this length; ``lengths`` rise and contain its own."""
    at = bisect_left(lengths, length)
    others = [*lengths[max(at - 1, 0) : at], *lengths[at + 1 : at + 2]]
    nearest = min(others, key=lambda other: (abs(other - length), other))
    return 1.0 if length > nearest else math.exp(1 - nearest / length)


def _ngrams(text: Sequence[Hashable], order: int) -> list[_Gram]:
    return [tuple(text[start : start + order]) for start in range(len(text) - order + 1)]


def zipf_coefficient(counts: np.ndarray[tuple[int], np.dtype[np.int64]]) -> float | None:
    """The exponent s of frequency ~ rank^-s (Zipf 1949) from the count of each word: (words,), in any order.

    The negative slope of the least-squares line through (log rank, log count), as measured by Holtzman et al. 2020
    (section 5.2), over ranks 1 to 5,000 or as many as there are. Words of equal count have different ranks; zeros are
    ignored. Few words make it smaller, because many occur once: compare equal amounts of text. None with fewer than
    three different words, or if all counts are equal.
    """
    ordered = np.sort(counts[counts > 0])[::-1][:RANKS]
    if len(ordered) < 3 or ordered[0] == ordered[-1]:
        return None
    rank, frequency = np.log(np.arange(1, len(ordered) + 1)), np.log(ordered)
    rank -= rank.mean()
    return float(-(rank @ (frequency - frequency.mean())) / (rank @ rank))
