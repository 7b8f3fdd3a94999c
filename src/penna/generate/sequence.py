"""A text that is being continued: all that the choice of its next token depends on, besides the logits.

The engine makes one for each request and appends to ``written``. What the penalties ask of the tokens before is counted
as the text grows, not anew for each token.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from penna.config.generation import GenerationConfig
from penna.generate.choice_trie import ChoiceTrie


class Limits(NamedTuple):
    """What a draw is limited to; texts of equal limits are drawn together. None: no such limit."""

    temperature: float
    top_k: int | None
    top_p: float | None
    min_p: float | None
    typical_p: float | None

    @classmethod
    def of(cls, config: GenerationConfig) -> Limits | None:
        """The limits that settings put on a draw; None where the likeliest token is taken."""
        if config.is_greedy:
            return None
        top_p, typical_p = (None if share == 1 else share for share in (config.top_p, config.typical_p))
        return cls(config.temperature, config.top_k, top_p, config.min_p, typical_p)


@dataclass(eq=False)
class SequenceState:
    """A text in the making. ``written`` grows by appending alone; a text that differs elsewhere is another one."""

    config: GenerationConfig
    seed: int = 0
    prompt: Sequence[int] = ()
    generated: list[int] = field(default_factory=list[int])
    stop_ids: frozenset[int] = frozenset()  # these end the text, and are not written
    bad_ids: tuple[tuple[int, ...], ...] = ()  # token sequences never written
    choices: ChoiceTrie | None = None  # the text is one of these
    limits: Limits | None = field(init=False)
    may_be_adjusted: bool = field(init=False)  # whether anything besides `limits` acts on its logits
    _bad_tokens: tuple[int, ...] = field(init=False, repr=False)
    _bad_runs: tuple[tuple[tuple[int, ...], int], ...] = field(init=False, repr=False)
    _counted: int = field(init=False, default=-1, repr=False)  # of `written`; -1: not even the prompt
    _seen: dict[int, None] = field(init=False, repr=False, default_factory=dict[int, None])
    _times: Counter[int] = field(init=False, repr=False, default_factory=Counter[int])
    _followers: dict[tuple[int, ...], set[int]] = field(
        init=False, repr=False, default_factory=dict[tuple[int, ...], set[int]]
    )
    _tail: tuple[int, ...] = field(init=False, repr=False, default=())  # the last tokens, one fewer than an n-gram has

    def __post_init__(self) -> None:
        config = self.config
        self.limits = Limits.of(config)
        # As in transformers, a word that is nothing but an end does not bar the end.
        self._bad_tokens = tuple(ids[0] for ids in self.bad_ids if len(ids) == 1 and ids[0] not in self.stop_ids)
        self._bad_runs = tuple((ids[:-1], ids[-1]) for ids in self.bad_ids if len(ids) > 1)
        self.may_be_adjusted = bool(
            config.repetition_penalty != 1
            or config.presence_penalty
            or config.frequency_penalty
            or config.no_repeat_ngram_size
            or (config.min_new_tokens and self.stop_ids)
            or self.bad_ids
            or self.choices
        )

    @property
    def seen(self) -> Iterable[int]:
        """Each token that stands in the prompt or was written, once."""
        self._count()
        return self._seen

    @property
    def times(self) -> Counter[int]:
        """How often each token was written."""
        self._count()
        return self._times

    @property
    def repeating(self) -> Iterable[int]:
        """The tokens that would write a run of ``no_repeat_ngram_size`` tokens a second time."""
        if self.config.no_repeat_ngram_size is None:
            return ()
        self._count()
        return self._followers.get(self._tail, ())

    @property
    def bad(self) -> Iterable[int]:
        """The tokens that would complete one of ``bad_ids``."""
        if not self._bad_runs:
            return self._bad_tokens
        return {*self._bad_tokens, *(last for before, last in self._bad_runs if self._ends_with(before))}

    @property
    def early(self) -> Iterable[int]:
        """The tokens that would end the text before ``min_new_tokens``."""
        return self.stop_ids if len(self.generated) < self.config.min_new_tokens else ()

    def _ends_with(self, ids: tuple[int, ...]) -> bool:
        missing = len(ids) - len(self.generated)
        if missing <= 0:
            return tuple(self.generated[-len(ids) :]) == ids
        return (*self.prompt[-missing:], *self.generated) == ids

    def _count(self) -> None:
        """Count what was written since the last time, and the prompt the first time."""
        if self._counted == len(self.generated):
            return
        if self._counted < 0:
            self._take_in(self.prompt)
            self._counted = 0
        new = self.generated[self._counted :]
        self._times.update(new)
        self._take_in(new)
        self._counted = len(self.generated)

    def _take_in(self, ids: Sequence[int]) -> None:
        self._seen.update(dict.fromkeys(ids))
        size = self.config.no_repeat_ngram_size
        if size is None:
            return
        for index in ids:
            if len(self._tail) == size - 1:
                self._followers.setdefault(self._tail, set()).add(index)
            self._tail = (*self._tail, index)[-(size - 1) :] if size > 1 else ()
