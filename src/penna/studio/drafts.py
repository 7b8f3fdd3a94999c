"""Texts of the Playground: every token with its alternatives, and new texts that branch off at any token.

A draft is a prompt and the tokens after it. When a person replaces a token, the tokens before it are kept and the model
continues from there. The kept tokens then count as prompt, so `presence_penalty` and `frequency_penalty` count from the
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
from penna.generate.request import Finish, FinishReason, GeneratedToken, Request
from penna.generate.text_stream import SHOW_SPECIAL, TextDelta, TextStream, request_for
from penna.loading import LoadedModel
from penna.serve.worker import Worker
from penna.tokenizer.tokenizer import Tokenizer

ALTERNATIVES = 20  # most likely tokens that are recorded at each position


@dataclass(frozen=True)
class Draft:
    """A text, complete or growing."""

    prompt: str
    prompt_ids: tuple[int, ...]
    config: GenerationConfig
    seed: int
    tokens: tuple[GeneratedToken, ...] = ()
    texts: tuple[str, ...] = ()  # what each token adds; "" if it completes no character
    kept: int = 0  # tokens taken from an earlier draft; a person chose the last of them
    finish: FinishReason | None = None  # None while it grows

    @property
    def text(self) -> str:
        """The text after the prompt."""
        return "".join(self.texts)

    @property
    def own_text(self) -> str:
        """The text from the chosen token on."""
        return "".join(self.texts[max(0, self.kept - 1) :])

    @property
    def logprob(self) -> float:
        """Natural logarithm of the probability of all its tokens."""
        return math.fsum(token.logprob for token in self.tokens)

    @property
    def perplexity(self) -> float | None:
        """exp of the mean negative log-probability per token; None without a token."""
        return perplexity(-self.logprob / len(self.tokens)) if self.tokens else None


@dataclass(frozen=True)
class Alternative:
    """A token that is possible at a position."""

    id: int
    text: str  # as `Tokenizer.token_text` shows it
    probability: float  # under the model itself, before any setting
    rank: int  # 1: the most likely
    is_chosen: bool


def new_draft(loaded: LoadedModel, prompt: str, config: GenerationConfig, seed: int) -> Draft:
    """A draft without tokens. Raises what `penna.api.generate.prompt_request` raises."""
    request = prompt_request(loaded, prompt, config, seed=seed)
    return Draft(prompt, tuple(request.ids), config, seed)


def token_alternatives(tokenizer: Tokenizer, token: GeneratedToken) -> list[Alternative]:
    """The most likely tokens at a position. The token that is there comes last if it is not one of them."""
    ranked = [(index, logprob, rank) for rank, (index, logprob) in enumerate(token.alternatives, start=1)]
    if all(index != token.id for index, _, _ in ranked):
        ranked.append((token.id, token.logprob, token.rank))
    return [
        Alternative(index, tokenizer.token_text(index), math.exp(logprob), rank, index == token.id)
        for index, logprob, rank in ranked
        if index < tokenizer.vocab_size  # an embedding may have more rows than the tokenizer has tokens
    ]


def branch_draft(tokenizer: Tokenizer, draft: Draft, place: int, token_id: int) -> Draft:
    """The draft up to its token ``place``, with another token there. It is complete if that token ends a text.

    ``choices`` are dropped, because the person's token may fit none of them.
    """
    old = draft.tokens[place]
    before = replace(
        draft,
        tokens=draft.tokens[:place],
        texts=draft.texts[:place],
        kept=place,
        finish=None,
        config=draft.config.model_copy(update={"choices": ()}),
    )
    if token_id in request_for(tokenizer, draft.prompt_ids, before.config).stop_ids:
        return replace(before, finish="stop")
    likely = {index: (logprob, rank) for rank, (index, logprob) in enumerate(old.alternatives, start=1)}
    logprob, rank = (old.logprob, old.rank) if token_id == old.id else likely[token_id]
    tokens = (*before.tokens, replace(old, id=token_id, logprob=logprob, rank=rank))
    stream = _text_stream(tokenizer, before)
    for token in tokens:
        stream.push(token)
    texts = tuple(each.text for each in stream.tokens)
    return replace(before, tokens=tokens, texts=texts, kept=place + 1)


def continuation_request(tokenizer: Tokenizer, draft: Draft) -> Request | None:
    """The engine's request to continue a draft; None if it is complete or has reached its maximum length."""
    config, count = draft.config, len(draft.tokens)
    left = config.max_new_tokens - count
    if draft.finish is not None or left < 1:
        return None
    minimum = max(0, config.min_new_tokens - count)
    config = config.model_copy(update={"max_new_tokens": left, "min_new_tokens": minimum})
    ids = (*draft.prompt_ids, *(token.id for token in draft.tokens))
    return request_for(tokenizer, ids, config, seed=draft.seed, top_n=ALTERNATIVES)


class DraftBuilder:
    """Extends a draft by the deltas that the engine yields."""

    def __init__(self, tokenizer: Tokenizer, draft: Draft) -> None:
        """Continue a draft that is not complete."""
        self._draft = draft
        self._stream = _text_stream(tokenizer, draft)
        self._finish: FinishReason | None = None
        for token in draft.tokens:
            self._stream.push(token)

    @property
    def is_stopped(self) -> bool:
        """Whether a stop string was found; it may begin before the branch."""
        return self._stream.is_stopped

    @property
    def draft(self) -> Draft:
        """The draft so far."""
        tokens = tuple(each.token for each in self._stream.tokens)
        texts = tuple(each.text for each in self._stream.tokens)
        return replace(self._draft, tokens=tokens, texts=texts, finish=self._finish)

    def push(self, delta: TextDelta) -> None:
        """Add a delta."""
        if delta.token is not None and not self.is_stopped:
            self._stream.push(delta.token)
        if delta.finish is not None:
            self.end(delta.finish)

    def end(self, reason: FinishReason) -> None:
        """Complete the draft, and remove a stop string with its tokens."""
        if self._finish is None:
            self._finish = self._stream.finish(Finish(0, reason)).finish


def _text_stream(tokenizer: Tokenizer, draft: Draft) -> TextStream:
    return TextStream(tokenizer, Request(draft.prompt_ids, draft.config), SHOW_SPECIAL)


async def stream_drafts(worker: Worker, drafts: Sequence[Draft]) -> AsyncGenerator[tuple[int, Draft]]:
    """Continue several drafts at once: the position of a draft and the draft as it grows. Complete ones come first.

    Closing the generator cancels all of them. Raises what ``Worker.generate`` raises.
    """
    tokenizer = worker.loaded.require_tokenizer()
    growing: list[tuple[int, DraftBuilder]] = []
    requests: list[Request] = []
    for place, draft in enumerate(drafts):
        request = continuation_request(tokenizer, draft)
        if request is None:
            yield place, replace(draft, finish=draft.finish or "length")
        else:
            growing.append((place, DraftBuilder(tokenizer, draft)))
            requests.append(request)
    async with aclosing(worker.generate(requests, SHOW_SPECIAL)) as deltas:
        async for delta in deltas:
            place, builder = growing[delta.request]
            builder.push(delta)
            yield place, builder.draft
