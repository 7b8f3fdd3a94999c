"""The engine's input and output: requests, and events with tokens and finishes. All in token ids;
``penna.generate.text_stream`` makes texts of them."""

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
    """One text to continue. The texts in ``config`` (stop, bad_words, choices) are ignored; their ids count."""

    ids: Sequence[int]  # the prompt, at least one token
    config: GenerationConfig = GenerationConfig()  # noqa: RUF009 - frozen
    seed: int = 0
    stop_ids: frozenset[int] = frozenset()  # such a token ends the text and is not part of it
    source: Sequence[int] = ()  # a seq2seq model's source, at least one token; empty for a GPT
    bad_ids: tuple[tuple[int, ...], ...] = ()  # token sequences that are never generated
    choice_ids: tuple[tuple[int, ...], ...] = ()  # the text must be one of these
    top_n: int = 0  # number of alternatives reported with each token
    report_beams: bool = False  # report each step of a beam search


@dataclass(frozen=True)
class GeneratedToken:
    """A generated token, with its probability under the model before any setting changed it."""

    request: int  # its number
    id: int
    logprob: float  # natural logarithm of its probability
    rank: int  # 1 for the likeliest token
    alternatives: tuple[tuple[int, float], ...] = ()  # the likeliest tokens, as (id, logprob)


@dataclass(frozen=True)
class Hypothesis:
    """A complete text of a beam search."""

    tokens: tuple[GeneratedToken, ...]  # without a stop token
    logprob: float  # of these tokens and the stop token, under the model
    score: float  # log-probability with penalties, over its length to the power of ``length_penalty``
    reason: FinishReason

    @property
    def ids(self) -> tuple[int, ...]:
        """The token ids."""
        return tuple(token.id for token in self.tokens)


@dataclass(frozen=True)
class Candidate:
    """A partial text that a beam-search step considered."""

    parent: int  # index among the beams before the step
    id: int  # the token it adds
    logprob: float  # of the whole partial text, under the model
    score: float  # by which it was ranked: the log-probability with penalties
    fate: Fate


@dataclass(frozen=True)
class BeamStep:
    """A step of a beam search; the kept candidates are the beams of the next step, in their order."""

    request: int
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True)
class Finish:
    """A request has ended."""

    request: int
    reason: FinishReason
    hypotheses: tuple[Hypothesis, ...] = ()  # of a beam search, best first; the tokens of the first one were reported


@dataclass(frozen=True)
class Failed:
    """A request has ended with an error; no more events follow."""

    request: int
    error: Exception


Event = GeneratedToken | BeamStep | Finish


def new_sequence(request: Request, generated: Sequence[int] = ()) -> SequenceState:
    """The state of a request's sequence after these generated tokens."""
    choices = ChoiceTrie(request.choice_ids) if request.choice_ids else None
    return SequenceState(
        request.config, request.seed, request.ids, list(generated), request.stop_ids, request.bad_ids, choices
    )


def cut_prompt(ids: Sequence[int], block_size: int) -> list[int]:
    """The end of a prompt that fits the block."""
    return list(ids[-block_size:])


def check_request(model: GPT, request: Request) -> None:
    """Raise DataError if a request has no prompt, its source does not fit the model, an id is out of range, or a choice
    has no tokens."""
    if not request.ids:
        raise DataError(
            "The prompt has no tokens.",
            "Generation starts from at least one token.",
            "Start with the document separator.",
        )
    rows = model.config.rows
    for ids in (request.ids, request.source, *request.bad_ids, *request.choice_ids):
        if ids and not 0 <= min(ids) <= max(ids) < rows:
            wrong = next(index for index in ids if not 0 <= index < rows)
            raise DataError(
                f"The id {wrong} is not a token of this model.",
                f"Ids range from 0 to {rows - 1:,}.",
                "Use the ids of the model's own tokenizer.",
            )
    if request.choice_ids:
        ChoiceTrie(request.choice_ids)
    length = len(request.source)
    if not isinstance(model, Seq2Seq):
        if length:
            raise DataError(
                f"The source has {length:,} tokens, but this model has no encoder.",
                'Only models of arch = "seq2seq" read a source.',
                "Put it in front of the prompt instead.",
            )
    elif not length:
        raise DataError(
            "There is no source.",
            'A model of arch = "seq2seq" needs a source of at least one token.',
            "Give the text to answer or summarize.",
        )
    elif length > model.config.source_span:
        raise DataError(
            f"The source has {length:,} tokens.",
            f"This model's encoder reads at most {model.config.source_span:,} (source_size).",
            "Shorten it.",
        )
