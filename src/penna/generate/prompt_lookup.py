"""Prompt lookup decoding (Saxena 2023, github.com/apoorvumang): draft tokens that followed the same context earlier.

The model reads several draft tokens in less time than two steps and keeps those that it would have chosen itself.
Sampling depends on (seed, position) alone, so an accepted token is the very token that would have been sampled, and the
text is the same as without drafts.

Each text records how often its drafts were right, by the length of the context. A draft is as long as brings the most
tokens for the time it costs.
"""

from __future__ import annotations

from collections.abc import Sequence

_LONGEST, _SHORTEST = 3, 1  # tokens of a context
_DRAFT_COST = 1.4  # of a step with a draft, relative to one without; measured on CPUs, 1.1 to 1.8
_TOKEN_COST = 0.03  # of each further draft token
_PRIOR = 2.0, 4.0  # right and total proposals before the first one

_Context = tuple[int, ...]


class PromptLookup:
    """What followed each context of one to three tokens, and how reliable that was."""

    def __init__(self, count: int) -> None:
        """Propose at most ``count`` tokens."""
        self._count = count
        self._ids: list[int] = []
        self._followers: dict[_Context, dict[int, tuple[int, int]]] = {}  # token -> its count and last position
        self._right = [_PRIOR[0]] * (_LONGEST + 1)  # right proposals by the length of their context
        self._tried = [_PRIOR[1]] * (_LONGEST + 1)
        self._proposal: list[tuple[int, int]] = []  # expected tokens with their context's length, last first

    def extend(self, ids: Sequence[int]) -> None:
        """Add tokens of the text and score the last proposal with them."""
        for index in ids:
            self._score(index)
            place = len(self._ids)
            for length in range(_SHORTEST, min(_LONGEST, place) + 1):
                followed = self._followers.setdefault(tuple(self._ids[place - length :]), {})
                followed[index] = followed.get(index, (0, 0))[0] + 1, place
            self._ids.append(index)

    def propose(self) -> list[int]:
        """Draft tokens; none if the last token is new or a draft does not pay."""
        context = self._ids[-_LONGEST:]
        drafted: list[tuple[int, int]] = []
        expected, likely = 1.0, 1.0  # tokens of the step, and the probability that the draft so far is right
        best, worth = 1.0, 0  # tokens per time of a plain step, and the length of that draft
        while len(drafted) < self._count:
            index, length = self._following(context)
            if not length:
                break
            likely *= self._right[length] / self._tried[length]
            expected += likely
            gain = expected / (_DRAFT_COST + _TOKEN_COST * len(drafted))
            drafted.append((index, length))
            if gain > best:
                best, worth = gain, len(drafted)
            context = [*context, index][-_LONGEST:]
        self._proposal = drafted[: max(1, worth)][::-1]  # also scored if it is not read
        return [index for index, _ in drafted[:worth]]

    def _following(self, context: Sequence[int]) -> tuple[int, int]:
        """The most frequent (if tied, the latest) follower of the longest known context, and that context's length; (0,
        0) if the last token is new."""
        for length in range(min(_LONGEST, len(context)), _SHORTEST - 1, -1):
            followed = self._followers.get(tuple(context[-length:]))
            if followed:
                return max(followed, key=lambda index: followed[index]), length
        return 0, 0

    def _score(self, index: int) -> None:
        """Compare the proposal with the token that came."""
        if self._proposal:
            drafted, length = self._proposal.pop()
            self._tried[length] += 1
            self._right[length] += drafted == index
            if drafted != index:
                self._proposal.clear()
