"""Degenerate repetition: whether a text ends in the same phrase again and again. Token ids in, yes or no out."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

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
