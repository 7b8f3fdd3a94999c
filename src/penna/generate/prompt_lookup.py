"""Guesses at what comes next, looked up in the text so far: prompt lookup (Saxena 2023, github.com/apoorvumang).

Where the last tokens have stood before, what mostly followed them then is guessed to follow now. The model reads
several tokens at once in less than the time of two, and sees at each which token it would have chosen itself. Draws
depend on (seed, position) alone, so a guess that agrees is the very token that would have been drawn, and the text is
the same as without guessing, token for token.

How far a guess goes is a wager. Each text keeps the score of how often its guesses were right, by how many tokens had
stood before; as many tokens are guessed as bring the most for the time they cost.
"""

from __future__ import annotations

from collections.abc import Sequence

_LONGEST, _SHORTEST = 3, 1  # tokens that must have stood before
_SEVERAL = 1.4  # what a step with a guess costs, of one without; measured on CPUs, 1.1 to 1.8
_FURTHER = 0.03  # what each further guess adds
_BEGIN = 2.0, 4.0  # guesses that were right, of so many, before any was made

_Context = tuple[int, ...]


class PromptLookup:
    """What followed each run of one to three tokens, and how well that has told what comes next."""

    def __init__(self, count: int) -> None:
        """``count`` tokens are guessed at most."""
        self._count = count
        self._ids: list[int] = []
        self._behind: dict[_Context, dict[int, tuple[int, int]]] = {}  # token -> how often it followed, and where last
        self._right = [_BEGIN[0]] * (_LONGEST + 1)  # guesses by the length of what had stood before
        self._tried = [_BEGIN[1]] * (_LONGEST + 1)
        self._guessed: list[tuple[int, int]] = []  # tokens to come, each with that length

    def extend(self, ids: Sequence[int]) -> None:
        """Learn further ids of the text, and whether they were guessed."""
        for index in ids:
            self._score(index)
            place = len(self._ids)
            for length in range(_SHORTEST, min(_LONGEST, place) + 1):
                followed = self._behind.setdefault(tuple(self._ids[place - length :]), {})
                followed[index] = followed.get(index, (0, 0))[0] + 1, place
            self._ids.append(index)

    def propose(self) -> list[int]:
        """What might follow; nothing where the last token is new, or a guess is not worth it."""
        context = self._ids[-_LONGEST:]
        guessed: list[tuple[int, int]] = []
        expected, likely = 1.0, 1.0  # tokens of the step, and how likely all guesses so far are right
        best, worth = 1.0, 0  # tokens for the time of a step without guesses, and how many guesses bring that
        while len(guessed) < self._count:
            index, length = self._following(context)
            if not length:
                break
            likely *= self._right[length] / self._tried[length]
            expected += likely
            gain = expected / (_SEVERAL + _FURTHER * len(guessed))
            guessed.append((index, length))
            if gain > best:
                best, worth = gain, len(guessed)
            context = [*context, index][-_LONGEST:]
        self._guessed = guessed[: max(1, worth)][::-1]  # what is not worth reading is still held against what comes
        return [index for index, _ in guessed[:worth]]

    def _following(self, context: Sequence[int]) -> tuple[int, int]:
        """What most often followed the most of these tokens, of two the later one, and how many they were; (0, 0) where
        the last of them is new."""
        for length in range(min(_LONGEST, len(context)), _SHORTEST - 1, -1):
            followed = self._behind.get(tuple(context[-length:]))
            if followed:
                return max(followed, key=lambda index: followed[index]), length
        return 0, 0

    def _score(self, index: int) -> None:
        """Hold what was guessed against what came."""
        if self._guessed:
            guessed, length = self._guessed.pop()
            self._tried[length] += 1
            self._right[length] += guessed == index
            if guessed != index:
                self._guessed.clear()
