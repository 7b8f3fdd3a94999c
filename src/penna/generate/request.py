"""What the engine is asked for, and what it tells: requests in, tokens and ends out. Ids alone; texts are made of them
in `penna.generate.text_stream`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from penna.config.generation import GenerationConfig
from penna.errors import DataError
from penna.generate.choice_trie import ChoiceTrie
from penna.generate.sequence import SequenceState
from penna.model.gpt import GPT
from penna.model.seq2seq import Seq2Seq

Fate = Literal["kept", "finished", "pruned"]
FinishReason = Literal["length", "stop", "cancelled"]


@dataclass(frozen=True)
class Request:
    """One text to be continued. The texts of its ``config`` (stop, bad_words, choices) count as the ids given here."""

    ids: Sequence[int]  # the prompt, at least one token
    config: GenerationConfig = GenerationConfig()  # noqa: RUF009 - frozen
    seed: int = 0
    stop_ids: frozenset[int] = frozenset()  # a drawn token among these ends the text and is not given out
    source: Sequence[int] = ()  # what a seq2seq writes from, at least one token; a GPT has none
    bad_ids: tuple[tuple[int, ...], ...] = ()  # token sequences that are never written
    choice_ids: tuple[tuple[int, ...], ...] = ()  # the text is one of these
    top_n: int = 0  # so many of the likeliest tokens are told with each one
    report_beams: bool = False  # a beam search tells each of its steps


@dataclass(frozen=True)
class GeneratedToken:
    """One token of a text, as the model itself sees it, before any setting changed its likelihood."""

    request: int  # its place in the list of requests
    id: int
    logprob: float  # natural logarithm of its probability
    rank: int  # 1 for the likeliest token
    alternatives: tuple[tuple[int, float], ...] = ()  # the likeliest tokens, as (id, logprob)


@dataclass(frozen=True)
class Hypothesis:
    """A whole text that a beam search found."""

    tokens: tuple[GeneratedToken, ...]  # without the one that ended it
    logprob: float  # of these tokens and of the one that ended it, under the model
    score: float  # what it was ranked by, penalties counted, over its length to the power of ``length_penalty``
    reason: FinishReason

    @property
    def ids(self) -> tuple[int, ...]:
        """The tokens' ids."""
        return tuple(token.id for token in self.tokens)


@dataclass(frozen=True)
class Candidate:
    """A partial text that a step of a beam search looked at."""

    parent: int  # its place among the beams that the step began with
    id: int  # the token it adds
    logprob: float  # of the whole partial text, under the model
    score: float  # what it was ranked by: the same where no penalty is set
    fate: Fate


@dataclass(frozen=True)
class BeamStep:
    """A step of a beam search; those kept are the beams of the next one, in their order."""

    request: int
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True)
class Finish:
    """A request is done."""

    request: int
    reason: FinishReason
    hypotheses: tuple[Hypothesis, ...] = ()  # of a beam search, best first; the first one's tokens were given out


@dataclass(frozen=True)
class Failed:
    """A request came to an end that none of its settings asked for; nothing more is told of it."""

    request: int
    error: Exception


Event = GeneratedToken | BeamStep | Finish


def continuation(request: Request, written: Sequence[int] = ()) -> SequenceState:
    """What the choice of the next token depends on, where so much is written."""
    choices = ChoiceTrie(request.choice_ids) if request.choice_ids else None
    return SequenceState(
        request.config, request.seed, request.ids, list(written), request.stop_ids, request.bad_ids, choices
    )


def cut_prompt(ids: Sequence[int], block_size: int) -> list[int]:
    """The end of a prompt that fits the block."""
    return list(ids[-block_size:])


def check_request(model: GPT, request: Request) -> None:
    """Raise DataError where a request has no prompt, its source is not what the model reads, an id is none of the
    model's, or a choice has no tokens."""
    if not request.ids:
        raise DataError(
            "A prompt without a token.", "At least one token to go on from.", "Begin with the document separator."
        )
    rows = model.config.rows
    for ids in (request.ids, request.source, *request.bad_ids, *request.choice_ids):
        if ids and not 0 <= min(ids) <= max(ids) < rows:
            wrong = next(index for index in ids if not 0 <= index < rows)
            raise DataError(
                f"The id {wrong} is none of this model's tokens.",
                f"Ids from 0 to {rows - 1:,}.",
                "Take the ids of the model's own tokenizer.",
            )
    if request.choice_ids:
        ChoiceTrie(request.choice_ids)
    length = len(request.source)
    if not isinstance(model, Seq2Seq):
        if length:
            raise DataError(
                f"The source has {length:,} tokens, and this model has no encoder to read it.",
                'A source goes to a model of arch = "seq2seq" alone.',
                "Put it in front of the prompt instead.",
            )
    elif not length:
        raise DataError(
            "There is no source.",
            'A model of arch = "seq2seq" writes from a source of one token or more.',
            "Give the text it is to answer or to sum up.",
        )
    elif length > model.config.source_span:
        raise DataError(
            f"The source has {length:,} tokens.",
            f"This model's encoder reads {model.config.source_span:,} (source_size).",
            "Shorten it.",
        )
