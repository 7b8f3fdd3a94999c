"""What is written, choice by choice: the engine's pieces in, the texts of an answer out as they grow.

A token is told once its text is, so that what a stop string takes away is told of neither: the tokens of an answer
spell its text. Where each begins in the text is counted in characters.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Literal

from penna.generate.request import GeneratedToken
from penna.generate.stop_strings import StopFinder
from penna.generate.text_stream import TextDelta, decoder_after
from penna.serve.errors import RequestRejected
from penna.serve.params import Ask
from penna.serve.worker import Worker
from penna.tokenizer.stream_decoder import SpacingFixer, fix_spacing
from penna.tokenizer.tokenizer import Tokenizer

Ending = Literal["stop", "length"]


@dataclass(frozen=True)
class ToldToken:
    """A token of a choice."""

    token: GeneratedToken
    offset: int  # characters of the written text before it


@dataclass(frozen=True)
class Delta:
    """What a choice grew by."""

    choice: int
    text: str
    tokens: tuple[ToldToken, ...] = ()
    written: int = 0  # tokens the model wrote, told or not; counted once where choices share a text
    finish: Ending | None = None


@dataclass
class Choice:
    """A choice of an answer, as far as it is written."""

    text: str = ""
    tokens: list[ToldToken] = field(default_factory=list[ToldToken])
    finish: Ending = "stop"


@dataclass(frozen=True)
class Manner:
    """How the tokens of a request are told as text."""

    shows_special: bool = False  # control tokens by their names
    strips: bool = False  # no white space in front
    mends: bool = False  # no spaces that the tokenizer wrote between Chinese characters


async def written(worker: Worker, asks: Sequence[Ask], manner: Manner) -> AsyncGenerator[Delta]:
    """The choices of all requests as they grow; closing the generator lets go of all of them.

    Raises what ``Worker.generate`` raises, and RequestRejected where the server goes down meanwhile.
    """
    tokenizer = worker.loaded.require_tokenizer()
    growing = [_Growing(tokenizer, ask, manner) for ask in asks]
    for ask in asks:
        for choice in ask.choices:
            if ask.echoed:
                yield Delta(choice, ask.echoed)
    stream = worker.generate([ask.request for ask in asks], show_special=manner.shows_special)
    async with aclosing(stream):
        async for piece in stream:
            if piece.finish == "cancelled":
                raise RequestRejected(
                    "The text was ended before it was whole.",
                    "A server that goes on.",
                    "Ask again in a while.",
                    status=503,
                )
            for delta in growing[piece.request].push(piece):
                yield delta


async def gathered(worker: Worker, asks: Sequence[Ask], manner: Manner) -> tuple[list[Choice], int]:
    """The choices when they are whole, in their order, and how many tokens were written."""
    choices = {place: Choice() for ask in asks for place in ask.choices}
    count = 0
    async with aclosing(written(worker, asks, manner)) as deltas:
        async for delta in deltas:
            choice = choices[delta.choice]
            choice.text += delta.text
            choice.tokens += delta.tokens
            choice.finish = delta.finish or choice.finish
            count += delta.written
    return [choices[place] for place in sorted(choices)], count


class _Growing:
    """The choices that are made of one request."""

    def __init__(self, tokenizer: Tokenizer, ask: Ask, manner: Manner) -> None:
        self._tokenizer, self._ask, self._manner = tokenizer, ask, manner
        self._speller = _Speller(tokenizer, ask, manner)
        self._has_begun = False
        self._mender = SpacingFixer(tokenizer) if manner.mends else None
        self._held: list[ToldToken] = []  # whose text is not told yet
        self._shown = 0  # characters of the text, before it was mended

    def push(self, piece: TextDelta) -> Iterator[Delta]:
        """What the choices grow by; a search tells its texts at its end, all at once."""
        if self._ask.request.config.strategy == "beam" and (piece.finish is None or piece.hypotheses):
            if piece.finish is not None:
                yield from self._found(piece)
            return
        if piece.token is not None:
            self._held.append(ToldToken(piece.token, self._speller.length))
            self._speller.push(piece.token.id)
        self._shown += len(piece.text)
        told = self._released(piece)
        text = self._as_told(piece.text, is_last=piece.finish is not None)
        finish = _ending(piece.finish)
        if not (text or told or finish) and piece.token is None:
            return
        for place, choice in enumerate(self._ask.choices):
            yield Delta(choice, text, told, int(piece.token is not None and place == 0), finish)

    def _released(self, piece: TextDelta) -> tuple[ToldToken, ...]:
        """The tokens whose text is told now; at the end all but those of a stop string."""
        if piece.finish is None or (piece.finish == "stop" and self._speller.finish() > self._shown):
            released = tuple(told for told in self._held if told.offset < self._shown)
        else:
            released = tuple(self._held)
        self._held = self._held[len(released) :]
        return released

    def _as_told(self, text: str, *, is_last: bool) -> str:
        if self._manner.strips and not self._has_begun:
            text = text.lstrip()
            self._has_begun = bool(text)
        if self._mender is not None:
            text = self._mender.push(text) + (self._mender.finish() if is_last else "")
        return text

    def _found(self, piece: TextDelta) -> Iterator[Delta]:
        """The best texts of a search."""
        for choice, hypothesis in zip(self._ask.choices, piece.hypotheses, strict=False):
            speller = _Speller(self._tokenizer, self._ask, self._manner)
            finder = StopFinder(self._ask.request.config.stop)
            text, told = "", list[ToldToken]()
            for token in hypothesis.tokens:
                told.append(ToldToken(token, speller.length))
                text += finder.push(speller.push(token.id))
            text += finder.push(speller.rest()) + finder.finish()
            kept = tuple(each for each in told if not finder.is_found or each.offset < len(text))
            finish = "stop" if finder.is_found else _ending(hypothesis.reason)
            text = text.lstrip() if self._manner.strips else text
            text = fix_spacing(self._tokenizer, text) if self._manner.mends else text
            yield Delta(choice, text, kept, len(hypothesis.tokens), finish)


class _Speller:
    """Spells the tokens of one text and counts its characters."""

    def __init__(self, tokenizer: Tokenizer, ask: Ask, manner: Manner) -> None:
        self._decoder = decoder_after(tokenizer, ask.request.ids)
        self._hidden = frozenset[int]() if manner.shows_special else frozenset(tokenizer.special_tokens.values())
        self.length = 0

    def push(self, index: int) -> str:
        text = "" if index in self._hidden else self._decoder.push(index)
        self.length += len(text)
        return text

    def rest(self) -> str:
        """What an unfinished character is told as."""
        text = self._decoder.finish()
        self.length += len(text)
        return text

    def finish(self) -> int:
        """How long the whole text is."""
        self.rest()
        return self.length


def _ending(reason: str | None) -> Ending | None:
    return None if reason is None else "length" if reason == "length" else "stop"
