"""From requests to texts: whole ones (`write`), or piece by piece as they grow (`write_pieces`).

In come a model, its tokenizer and requests; out come texts in characters. Prompts and settings become ids here
(`prompt_ids`, `request_for`), and here a text ends where one of its stop strings comes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from penna.config.generation import GenerationConfig
from penna.errors import DataError, RecipeError
from penna.generate.engine import SLOTS, Engine, engine_for
from penna.generate.request import BeamStep, Failed, Finish, FinishReason, GeneratedToken, Hypothesis, Request
from penna.generate.stop_strings import StopFinder
from penna.model.gpt import GPT
from penna.tokenizer.stream_decoder import StreamDecoder
from penna.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class TextDelta:
    """A further bit of one text; the last one says why the text ended."""

    request: int  # its place in the list of requests
    text: str  # whole characters; "" where the token completed none
    token: GeneratedToken | None  # the one it came with; none at the end
    finish: FinishReason | None
    hypotheses: tuple[Hypothesis, ...] = ()  # at the end of a beam search, best first


@dataclass(frozen=True)
class GeneratedText:
    """What was written for one request."""

    tokens: tuple[
        GeneratedToken, ...
    ]  # all that was given out, control tokens too; without the one that ended the text
    text: str
    finish: FinishReason
    hypotheses: tuple[Hypothesis, ...] = ()  # of a beam search, best first

    @property
    def ids(self) -> tuple[int, ...]:
        """The tokens' ids."""
        return tuple(token.id for token in self.tokens)

    @property
    def logprob(self) -> float:
        """Natural logarithm of the probability of all these tokens under the model."""
        return sum(token.logprob for token in self.tokens)


def generate_texts(
    model: GPT, tokenizer: Tokenizer, requests: Sequence[Request], *, show_special: bool = False, slots: int = SLOTS
) -> list[GeneratedText]:
    """Write all requests, many at once. ``show_special`` writes control tokens the model drew by their names.

    Raises what ``penna.generate.engine.engine_for`` raises.
    """
    tokens: list[list[GeneratedToken]] = [[] for _ in requests]
    texts: list[list[str]] = [[] for _ in requests]
    ends: dict[int, TextDelta] = {}
    for piece in stream_texts(model, tokenizer, requests, show_special=show_special, slots=slots):
        texts[piece.request].append(piece.text)
        if piece.token is not None:
            tokens[piece.request].append(piece.token)
        if piece.finish is not None:
            ends[piece.request] = piece
    return [
        GeneratedText(
            tuple(tokens[number]), "".join(texts[number]), ends[number].finish or "stop", ends[number].hypotheses
        )
        for number in range(len(requests))
    ]


def stream_texts(
    model: GPT, tokenizer: Tokenizer, requests: Sequence[Request], *, show_special: bool = False, slots: int = SLOTS
) -> Iterator[TextDelta]:
    """Write all requests, many at once, in pieces as they grow; a piece never ends within a character.

    Text that may be the beginning of a stop string is held back until it is known not to be. Raises what
    ``penna.generate.engine.engine_for`` raises, with the first piece, and what goes wrong on the way.
    """
    engine = engine_for(model, requests, slots=slots)
    texts = [GrowingText(tokenizer, request, show_special=show_special) for request in requests]
    while not engine.is_idle:
        yield from _pieces(engine, texts)


def _pieces(engine: Engine, texts: Sequence[GrowingText]) -> Iterator[TextDelta]:
    """What one step of the engine adds."""
    for event in engine.step():
        if isinstance(event, Failed):
            raise event.error
        if isinstance(event, BeamStep):
            continue
        text = texts[event.request]
        if isinstance(event, Finish):
            yield text.end(event)
        elif not text.is_stopped:
            yield text.grow(event)
            if text.is_stopped:
                engine.cancel(event.request)


class GrowingText:
    """The text of one request, as its tokens come."""

    def __init__(self, tokenizer: Tokenizer, request: Request, *, show_special: bool = False) -> None:
        self._decoder = decoder_after(tokenizer, request.ids)
        self._stops = StopFinder(request.config.stop)
        self._hidden = frozenset[int]() if show_special else frozenset(tokenizer.special_tokens.values())

    @property
    def is_stopped(self) -> bool:
        """Whether a stop string came."""
        return self._stops.is_found

    def grow(self, token: GeneratedToken) -> TextDelta:
        """What a token adds. Where a stop string came with it, the text is over: nothing may be added any more."""
        text = "" if token.id in self._hidden else self._stops.push(self._decoder.push(token.id))
        return TextDelta(token.request, text, token, None)

    def end(self, told: Finish) -> TextDelta:
        """The last piece."""
        rest = self._stops.push(self._decoder.finish()) + self._stops.finish()
        return TextDelta(told.request, rest, None, "stop" if self.is_stopped else told.reason, told.hypotheses)


def decoder_after(tokenizer: Tokenizer, prompt: Sequence[int]) -> StreamDecoder:
    """A decoder of what is written behind a prompt: behind a control token a text begins, else it goes on."""
    return StreamDecoder(tokenizer, mid_text=prompt[-1] not in tokenizer.byte_table.special_ids)


def prompt_ids(tokenizer: Tokenizer, prompt: str, *, starts_document: bool = False) -> list[int]:
    """A prompt's ids; an empty one is the document separator, as at the start of a document.

    ``starts_document`` puts the separator before any prompt, for a model that has read nothing without it. Raises
    DataError where there is no token to start from.
    """
    ids = tokenizer.encode(prompt)
    if ids and not starts_document:
        return ids
    if tokenizer.separator_id is None:
        raise DataError(
            "The prompt is empty, and the tokenizer has no document separator to start from.",
            "At least one token to go on from.",
            "Give a prompt.",
        )
    return [tokenizer.separator_id, *ids]


def request_for(
    tokenizer: Tokenizer,
    ids: Sequence[int],
    config: GenerationConfig,
    *,
    seed: int = 0,
    source: Sequence[int] = (),
    stop_ids: frozenset[int] | None = None,
    top_n: int = 0,
    report_beams: bool = False,
) -> Request:
    """A request whose settings are spelled out in this tokenizer's ids; the document separator ends the text unless
    other ``stop_ids`` are given. Raises RecipeError for a choice that is longer than the text may be."""
    choices = tuple(tuple(tokenizer.encode(text)) for text in config.choices)
    for text, choice in zip(config.choices, choices, strict=True):
        if len(choice) > config.max_new_tokens:
            raise RecipeError(
                f"The choice {text!r} takes {len(choice):,} tokens.",
                f"At most max_new_tokens, which is {config.max_new_tokens:,}.",
                "Allow more, or leave it out.",
            )
    if stop_ids is None:
        stop_ids = frozenset() if tokenizer.separator_id is None else frozenset({tokenizer.separator_id})
    return Request(
        ids,
        config,
        seed,
        stop_ids,
        source,
        bad_ids=tuple(dict.fromkeys(each for word in config.bad_words for each in _spellings(tokenizer, word))),
        choice_ids=choices,
        top_n=top_n,
        report_beams=report_beams,
    )


def _spellings(tokenizer: Tokenizer, word: str) -> list[tuple[int, ...]]:
    """A word's ids at the start of a text, and behind a space."""
    return [ids for ids in (tuple(tokenizer.encode(text)) for text in (word, f" {word}")) if ids]
