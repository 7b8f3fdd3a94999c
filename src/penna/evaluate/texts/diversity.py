"""Degenerate repetition: whether a text ends in the same phrase again and again. Token ids in, yes or no out."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

import numpy as np

SHORTEST_PHRASE, TIMES, WITHIN = 2, 3, 200  # tokens, times in a row, tokens at the end that are looked at


def ends_in_repetition(tokens: Sequence[Hashable]) -> bool:
    """Whether a phrase of at least two tokens stands at least three times in a row at the very end.

    Holtzman et al. 2020, section 5.3 and table 1: "a phrase (minimum length 2) … repeated at least three times at the
    end", within 200 tokens. The last time counts only whole; a loop that was cut off in a phrase still ends in whole
    turns of it, begun at another token. Tokens are the model's own, so that it means the same in any script.
    """
    end = list(tokens[-WITHIN:])
    for length in range(SHORTEST_PHRASE, len(end) // TIMES + 1):
        # Three phrases in a row: every token equals the one a phrase before, over two phrases.
        span = (TIMES - 1) * length
        if end[-span:] == end[-span - length : -length]:
            return True
    return False


# MERGED evaluate.diversity: How varied texts are: distinct-n, the share of different n-grams (Li et al. 2016,
# arXiv:1510.03055, section 5.2).


def distinct(texts: Iterable[Sequence[Hashable]], n: int) -> float | None:
    """Different n-grams of all texts over all their n-grams, from 0 to 1; None where no text is so long.

    An n-gram lies within one text. The share falls with the amount of text: compare equal numbers of texts.
    """
    grams = [tuple(text[start : start + n]) for text in texts for start in range(len(text) - n + 1)]
    return len(set(grams)) / len(grams) if grams else None


# MERGED evaluate.texts.self_bleu: Self-BLEU-4: how much the texts of one set are alike, word by word. Lists of
# words in, a score per text out.


ORDERS = (1, 2, 3, 4)
_EPSILON = 0.1  # stands for no match at all (Chen and Cherry 2014, smoothing 1)

_Gram = tuple[Hashable, ...]


def self_bleu(texts: Sequence[Sequence[Hashable]]) -> list[float | None]:
    """BLEU-4 of each text with all the others as its references, from 0 to 1; high where texts are alike.

    Zhu et al. 2018 (Texygen, section 3.2), as Holtzman et al. 2020 use it: sentence BLEU (Papineni et al. 2002) of
    n-grams 1 to 4, weighed alike, each n-gram counted at most as often as in the reference that has it most; no match
    of an order counts as 0.1 (Chen and Cherry 2014, method 1, as in NLTK, which Texygen calls); the brevity penalty
    goes by the reference nearest in length. It rises with the number of references, so compare equally many texts. All
    texts are used: one pass over their n-grams finds, for each, the two highest counts, so no pair is ever compared.

    None where a text has no words, or there is no other that has any.
    """
    filled = [number for number, text in enumerate(texts) if text]
    scores: list[float | None] = [None] * len(texts)
    if len(filled) < 2:
        return scores
    lengths = sorted(len(texts[number]) for number in filled)
    logs = dict.fromkeys(filled, 0.0)
    for order in ORDERS:
        grams = {number: Counter(_grams(texts[number], order)) for number in filled}
        most = _highest(grams)
        for number in filled:
            matched = 0
            for gram, count in grams[number].items():
                owner, high, second = most[gram]
                matched += min(count, second if owner == number else high)
            possible = max(len(texts[number]) - order + 1, 1)
            if order == 1 and not matched:
                logs[number] = -math.inf
            else:
                logs[number] += math.log((matched or _EPSILON) / possible) / len(ORDERS)
    for number in filled:
        scores[number] = _brevity(len(texts[number]), lengths) * math.exp(logs[number])
    return scores


def _highest(grams: dict[int, Counter[_Gram]]) -> dict[_Gram, tuple[int, int, int]]:
    """Per n-gram: the text that has it most often, how often, and the highest count of any other text."""
    most: dict[_Gram, tuple[int, int, int]] = {}
    for number, counts in grams.items():
        for gram, count in counts.items():
            owner, high, second = most.get(gram, (number, 0, 0))
            most[gram] = (number, count, high) if count > high else (owner, high, max(second, count))
    return most


def _brevity(length: int, lengths: Sequence[int]) -> float:
    """The penalty of a text among texts of these rising lengths, its own among them once."""
    place = bisect_left(lengths, length)
    others = [*lengths[max(place - 1, 0) : place], *lengths[place + 1 : place + 2]]
    nearest = min(others, key=lambda other: (abs(other - length), other))
    return 1.0 if length > nearest else math.exp(1 - nearest / length)


def _grams(text: Sequence[Hashable], order: int) -> list[_Gram]:
    return [tuple(text[start : start + order]) for start in range(len(text) - order + 1)]


# MERGED evaluate.texts.zipf: Zipf's exponent: how fast words get rarer with their rank, from a text's words to one
# number.


RANKS = 5000  # the most frequent words that the line is fitted to


def zipf_coefficient(texts: Iterable[Sequence[Hashable]]) -> float | None:
    """The exponent s of frequency ~ rank^-s (Zipf 1949) over the words of all texts together.

    The slope of the least-squares line through (log rank, log count), with its sign turned, as Holtzman et al. 2020
    (section 5.2) measure it: over ranks 1 to 5,000, or as many as there are. Words of equal count have ranks of their
    own. Few words make it smaller, for many of them stand once: compare equal amounts. None where fewer than three
    different words, or all counts alike, leave no line to fit.
    """
    counts: dict[Hashable, int] = {}
    for text in texts:
        for word in text:
            counts[word] = counts.get(word, 0) + 1
    return zipf_of_counts(np.fromiter(counts.values(), dtype=np.int64, count=len(counts)))


def zipf_of_counts(counts: np.ndarray[tuple[int], np.dtype[np.int64]]) -> float | None:
    """The same from how often each word stands: (words,), in any order; zeros are left out."""
    ordered = np.sort(counts[counts > 0])[::-1][:RANKS]
    if len(ordered) < 3 or ordered[0] == ordered[-1]:
        return None
    rank, frequency = np.log(np.arange(1, len(ordered) + 1)), np.log(ordered)
    rank -= rank.mean()
    return float(-(rank @ (frequency - frequency.mean())) / (rank @ rank))
