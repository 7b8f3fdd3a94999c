"""Guesses at what comes next, looked up in the text so far: prompt lookup (Saxena 2023, github.com/apoorvumang).

Where the last tokens have stood before, what followed them then is guessed to follow now. A guess costs little: the
model reads several tokens at once in nearly the time of one, and sees at each which token it would have chosen itself.
Draws depend on (seed, position) alone, so a guess that agrees is the very token that would have been drawn, and the
text is the same as without guessing, token for token.
"""

from __future__ import annotations

from collections.abc import Sequence

_LONGEST, _SHORTEST = 3, 1  # tokens that must have stood before


class Lookup:
    """What followed each run of one to three tokens, where it stood last."""

    def __init__(self, count: int) -> None:
        """``count`` tokens are guessed at most."""
        self._count = count
        self._ids: list[int] = []
        self._behind: dict[tuple[int, ...], int] = {}  # a run of tokens -> the place behind it

    def extend(self, ids: Sequence[int]) -> None:
        """Learn further ids of the text."""
        for index in ids:
            place = len(self._ids)
            for length in range(_SHORTEST, _LONGEST + 1):
                if place >= length:
                    self._behind[tuple(self._ids[place - length :])] = place
            self._ids.append(index)

    def guess(self) -> list[int]:
        """What might follow; nothing where the last token is new."""
        for length in range(_LONGEST, _SHORTEST - 1, -1):
            place = self._behind.get(tuple(self._ids[-length:]))
            if place is not None:  # at the text's end the guess goes on into itself, as a loop would
                period = len(self._ids) - place
                return [self._ids[place + at % period] for at in range(self._count)]
        return []
