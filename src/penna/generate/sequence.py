"""The state of a sequence that is being generated: all that the choice of its next token depends on, besides the
logits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from penna.config.generation import GenerationConfig
from penna.generate.choice_trie import ChoiceTrie


@dataclass(eq=False)
class SequenceState:
    """A sequence. ``generated`` only grows by appending; a different text needs another state.

    Penalties count tokens incrementally as the text grows.
    """

    config: GenerationConfig
    seed: int = 0
    prompt: Sequence[int] = ()
    generated: list[int] = field(default_factory=list[int])
    stop_ids: frozenset[int] = frozenset()  # they end the text and are not part of it
    bad_ids: tuple[tuple[int, ...], ...] = ()  # token sequences that are never generated
    choices: ChoiceTrie | None = None  # the text must be one of these
    sampling_key: tuple[float | None, ...] | None = field(
        init=False
    )  # equal for sequences that can be sampled together; None: greedy
    may_be_adjusted: bool = field(init=False)  # whether ``process_logits`` may change its logits
    _bad_tokens: tuple[int, ...] = field(init=False, repr=False)
    _bad_runs: tuple[tuple[tuple[int, ...], int], ...] = field(init=False, repr=False)
    _counted: int = field(init=False, default=-1, repr=False)  # of ``generated``; -1: not even the prompt
    _seen: dict[int, None] = field(init=False, repr=False, default_factory=dict[int, None])
    _counts: Counter[int] = field(init=False, repr=False, default_factory=Counter[int])
    _followers: dict[tuple[int, ...], set[int]] = field(
        init=False, repr=False, default_factory=dict[tuple[int, ...], set[int]]
    )
    _tail: tuple[int, ...] = field(init=False, repr=False, default=())  # the last n - 1 tokens

    def __post_init__(self) -> None:
        config = self.config
        sampling = (config.temperature, config.top_k, config.top_p, config.min_p, config.typical_p)
        self.sampling_key = None if config.is_greedy else sampling
        # As in transformers, a bad word that is only a stop token is ignored.
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
        """Each token of the prompt and the text, once."""
        self._count()
        return self._seen

    @property
    def counts(self) -> Counter[int]:
        """How often each token was generated."""
        self._count()
        return self._counts

    @property
    def repeating_tokens(self) -> Iterable[int]:
        """The tokens that would repeat an n-gram of ``no_repeat_ngram_size`` tokens."""
        if self.config.no_repeat_ngram_size is None:
            return ()
        self._count()
        return self._followers.get(self._tail, ())

    @property
    def bad_tokens(self) -> Iterable[int]:
        """The tokens that would complete one of ``bad_ids``."""
        if not self._bad_runs:
            return self._bad_tokens
        return {*self._bad_tokens, *(last for before, last in self._bad_runs if self._ends_with(before))}

    @property
    def early_stop_tokens(self) -> Iterable[int]:
        """The tokens that would end the text before ``min_new_tokens``."""
        return self.stop_ids if len(self.generated) < self.config.min_new_tokens else ()

    def _ends_with(self, ids: tuple[int, ...]) -> bool:
        missing = len(ids) - len(self.generated)
        if missing <= 0:
            return tuple(self.generated[-len(ids) :]) == ids
        return (*self.prompt[-missing:], *self.generated) == ids

    def _count(self) -> None:
        """Count the tokens since the last call; in the first call also the prompt."""
        if self._counted == len(self.generated):
            return
        if self._counted < 0:
            self._add(self.prompt)
            self._counted = 0
        new = self.generated[self._counted :]
        self._counts.update(new)
        self._add(new)
        self._counted = len(self.generated)

    def _add(self, ids: Sequence[int]) -> None:
        self._seen.update(dict.fromkeys(ids))
        size = self.config.no_repeat_ngram_size
        if size is None:
            return
        for index in ids:
            if len(self._tail) == size - 1:
                self._followers.setdefault(self._tail, set()).add(index)
            self._tail = (*self._tail, index)[-(size - 1) :] if size > 1 else ()
