"""Self-BLEU-4: how much the texts of one set are alike, word by word. Lists of words in, a score per text out."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Hashable, Sequence

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
