"""Texts of the playground: every token with what the model thought of it, and a new text from any of them on.

A draft is a prompt and the tokens behind it. Where a person takes another token, what stands before it is kept and the
model goes on from there: for it all of that is the prompt, so `presence_penalty` and `frequency_penalty` count from the
branch on.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from penna.api.generate import prompt_request
from penna.config.generation import GenerationConfig
from penna.evaluate.language_model import perplexity
from penna.generate.request import FinishReason, GeneratedToken, Request
from penna.generate.stop_strings import StopFinder
from penna.generate.text_stream import TextDelta, decoder_after, request_for
from penna.loading import LoadedModel
from penna.serve.worker import Worker
from penna.tokenizer.tokenizer import Tokenizer

ALTERNATIVES = 20  # likeliest tokens told with each


@dataclass(frozen=True)
class Draft:
    """A text, as far as it is written."""

    prompt: str
    prompt_ids: tuple[int, ...]
    config: GenerationConfig
    seed: int
    tokens: tuple[GeneratedToken, ...] = ()
    texts: tuple[str, ...] = ()  # what each token adds; "" where it completes no character
    kept: int = 0  # so many tokens were there before it; the last of them a person chose
    finish: FinishReason | None = None  # None: it is being written

    @property
    def text(self) -> str:
        """What stands behind the prompt."""
        return "".join(self.texts)

    @property
    def own(self) -> str:
        """What was written behind the tokens kept, beginning with the one that was chosen."""
        return "".join(self.texts[max(0, self.kept - 1) :])

    @property
    def logprob(self) -> float:
        """Natural logarithm of the probability of all its tokens."""
        return math.fsum(token.logprob for token in self.tokens)

    @property
    def perplexity(self) -> float | None:
        """exp of a token's mean cost; None without a token."""
        return perplexity(-self.logprob / len(self.tokens)) if self.tokens else None


@dataclass(frozen=True)
class Alternative:
    """A token that could stand in a place."""

    id: int
    text: str  # as `Tokenizer.token_text` shows it
    probability: float  # by the model itself, before any setting
    rank: int  # 1: the likeliest
    is_chosen: bool


def begun(loaded: LoadedModel, prompt: str, config: GenerationConfig, seed: int) -> Draft:
    """A draft of which nothing is written. Raises what `penna.api.generate.prompt_request` raises."""
    request = prompt_request(loaded, prompt, config, seed=seed)
    return Draft(prompt, tuple(request.ids), config, seed)


def alternatives(tokenizer: Tokenizer, token: GeneratedToken) -> list[Alternative]:
    """The likeliest tokens of a place, and last the one that stands there, where it is none of them."""
    told = [(index, logprob, rank) for rank, (index, logprob) in enumerate(token.alternatives, start=1)]
    if all(index != token.id for index, _, _ in told):
        told.append((token.id, token.logprob, token.rank))
    return [
        Alternative(index, tokenizer.token_text(index), math.exp(logprob), rank, index == token.id)
        for index, logprob, rank in told
        if index < tokenizer.vocab_size  # an embedding may have rows that no token has
    ]


def branched(tokenizer: Tokenizer, draft: Draft, place: int, index: int) -> Draft:
    """The draft up to its token ``place``, with the token ``index`` there. It is over where that one ends a text.

    ``choices`` are given up: the person's own choice may be none of them.
    """
    was = draft.tokens[place]
    likely = {each: (logprob, rank) for rank, (each, logprob) in enumerate(was.alternatives, start=1)}
    before = replace(draft, tokens=draft.tokens[:place], texts=draft.texts[:place], kept=place, finish=None)
    before = replace(before, config=draft.config.model_copy(update={"choices": ()}))
    if index in request_for(tokenizer, draft.prompt_ids, before.config).stop_ids:
        return replace(before, finish="stop")
    logprob, rank = (was.logprob, was.rank) if index == was.id else likely[index]
    taken = replace(was, id=index, logprob=logprob, rank=rank)
    tokens = (*before.tokens, taken)
    return replace(before, tokens=tokens, texts=_spelled(tokenizer, draft.prompt_ids, tokens), kept=place + 1)


def rest(tokenizer: Tokenizer, draft: Draft) -> Request | None:
    """What the engine is asked to go on with a draft; None where it is as long as it may be, or over."""
    config, count = draft.config, len(draft.tokens)
    left = config.max_new_tokens - count
    if draft.finish is not None or left < 1:
        return None
    least = max(0, config.min_new_tokens - count)
    config = config.model_copy(update={"max_new_tokens": left, "min_new_tokens": least})
    ids = (*draft.prompt_ids, *(token.id for token in draft.tokens))
    return request_for(tokenizer, ids, config, seed=draft.seed, top_n=ALTERNATIVES)


class Growth:
    """A draft that grows by what the engine tells."""

    def __init__(self, tokenizer: Tokenizer, draft: Draft) -> None:
        """Go on with a draft that is not over."""
        self._draft = draft
        self._decoder = decoder_after(tokenizer, draft.prompt_ids)
        self._stops = StopFinder(draft.config.stop)
        self._tokens = list(draft.tokens)
        self._texts: list[str] = []
        self._finish: FinishReason | None = None
        self._shown = 0  # characters that stand before a stop string
        for token in draft.tokens:
            self._spell(token)

    @property
    def is_over(self) -> bool:
        """Whether a stop string came, be it that it began before the branch."""
        return self._stops.is_found

    @property
    def draft(self) -> Draft:
        """As far as it has grown."""
        tokens, texts = tuple(self._tokens), tuple(self._texts)
        return replace(self._draft, tokens=tokens, texts=texts, finish=self._finish)

    def push(self, piece: TextDelta) -> None:
        """Take in a piece."""
        if piece.token is not None and not self.is_over:
            self._tokens.append(piece.token)
            self._spell(piece.token)
        if piece.finish is not None:
            self.end(piece.finish)

    def end(self, reason: FinishReason) -> None:
        """It grows no more; what a stop string takes away is told of neither as text nor as tokens."""
        if self._finish is not None:
            return
        left = self._decoder.finish()
        if left and self._texts:
            self._texts[-1] += left
            self._shown += len(self._stops.push(left))
        self._shown += len(self._stops.finish())
        self._finish = "stop" if self.is_over else reason
        if self.is_over:
            self._cut()

    def _spell(self, token: GeneratedToken) -> None:
        text = self._decoder.push(token.id)
        self._texts.append(text)
        self._shown += len(self._stops.push(text))

    def _cut(self) -> None:
        texts, room = list[str](), self._shown
        for text in self._texts:
            if room <= 0:
                break
            texts.append(text[:room])
            room -= len(text)
        self._texts = texts
        self._tokens = self._tokens[: len(texts)]


async def written(worker: Worker, drafts: Sequence[Draft]) -> AsyncGenerator[tuple[int, Draft]]:
    """The place of a draft and the draft as it grows, all of them at once; those that are whole already come first.

    Closing the generator lets go of all of them. Raises what ``Worker.generate`` raises.
    """
    tokenizer = worker.loaded.require_tokenizer()
    asked = [(place, rest(tokenizer, draft)) for place, draft in enumerate(drafts)]
    for place, request in asked:
        if request is None:
            yield place, replace(drafts[place], finish=drafts[place].finish or "length")
    growing = [(place, Growth(tokenizer, drafts[place])) for place, request in asked if request is not None]
    requests = [request for _, request in asked if request is not None]
    async with aclosing(worker.generate(requests, show_special=True)) as pieces:
        async for piece in pieces:
            place, growth = growing[piece.request]
            growth.push(piece)
            yield place, growth.draft


def _spelled(tokenizer: Tokenizer, prompt_ids: Sequence[int], tokens: Sequence[GeneratedToken]) -> tuple[str, ...]:
    """What each token adds to the text."""
    decoder = decoder_after(tokenizer, prompt_ids)
    return tuple(decoder.push(token.id) for token in tokens)
