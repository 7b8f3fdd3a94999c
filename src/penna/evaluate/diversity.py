"""How varied texts are: distinct-n, the share of different n-grams (Li et al. 2016, arXiv:1510.03055, section 5.2)."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence


def distinct(texts: Iterable[Sequence[Hashable]], n: int) -> float | None:
    """Different n-grams of all texts over all their n-grams, from 0 to 1; None where no text is so long.

    An n-gram lies within one text. The share falls with the amount of text: compare equal numbers of texts.
    """
    grams = [tuple(text[start : start + n]) for text in texts for start in range(len(text) - n + 1)]
    return len(set(grams)) / len(grams) if grams else None
