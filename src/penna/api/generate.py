"""Texts side by side: a model, prompts and strategies in, so many texts of each out, every one as soon as it is done.

What is drawn is drawn with the seeds ``seed``, ``seed + 1`` …, the same for every prompt and strategy, so that each
text can be written again by itself. A beam search gives its best texts instead. What is the same with any seed is
written once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from penna.api.capabilities import check_can_continue, check_can_generate
from penna.api.strategies import Strategy
from penna.config.generation import GenerationConfig
from penna.errors import DataError, RecipeError
from penna.generate.engine import generate
from penna.generate.request import Finish, GeneratedToken, Hypothesis, Request
from penna.generate.stop_strings import StopFinder
from penna.generate.text_stream import TextDelta, decoder_after, prompt_ids, request_for, stream_texts
from penna.loading import LoadedModel
from penna.tokenizer.offsets import encode_with_offsets, out_of_vocabulary
from penna.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class SampleRequest:
    """One request, and what it is of."""

    prompt_number: int  # from 0
    prompt: str
    strategy: Strategy
    sample: int  # from 0: its seed is so far above the first one
    samples: int  # of this prompt by this strategy
    texts: int  # that it gives: of a beam search several
    request: Request


@dataclass(frozen=True)
class SampledText:
    """One text that was written."""

    origin: SampleRequest
    number: int  # from 0, among the texts of its prompt and strategy
    text: str
    finish: str  # "stop", or "length" where all the tokens allowed were written
    tokens: int
    logprob: float  # natural logarithm of the probability of its tokens under the model; of a beam's, its end counts
    score: float | None  # what a beam search ranked it by
    generated: tuple[GeneratedToken, ...]  # its tokens

    @property
    def seed(self) -> int:
        """What it was drawn with."""
        return self.origin.request.seed


@dataclass(frozen=True)
class TruncatedPrompt:
    """A prompt longer than the block: its beginning is not read."""

    number: int  # from 0
    tokens: int


@dataclass(frozen=True)
class SampleBatch:
    """All that is asked, in the order of prompts, then strategies, then samples."""

    loaded: LoadedModel
    requests: tuple[SampleRequest, ...]
    truncated: tuple[TruncatedPrompt, ...]
    unknown_text: tuple[str, ...]  # what stands in prompts and the vocabulary has no token for

    def stream(self) -> Iterator[TextDelta]:
        """What is asked, piece by piece."""
        requests = [ask.request for ask in self.requests]
        return stream_texts(self.loaded.model, self.loaded.require_tokenizer(), requests, show_special=True)

    def results(self) -> Iterator[tuple[int, list[SampledText]]]:
        """The place of an ask and its texts, as soon as they are written; those of beam searches come last."""
        searches = [place for place, ask in enumerate(self.requests) if ask.strategy.config.strategy == "beam"]
        others = [place for place, ask in enumerate(self.requests) if ask.strategy.config.strategy != "beam"]
        yield from self._write(others)
        yield from self._search(searches)

    def _write(self, places: Sequence[int]) -> Iterator[tuple[int, list[SampledText]]]:
        asks = [self.requests[place] for place in places]
        growing = [_Growing() for _ in asks]
        requests = [ask.request for ask in asks]
        for piece in stream_texts(self.loaded.model, self.loaded.require_tokenizer(), requests, show_special=True):
            own, ask = growing[piece.request], asks[piece.request]
            own.texts.append(piece.text)
            if piece.token is not None:
                own.tokens.append(piece.token)
            if piece.finish is None:
                continue
            text, tokens = "".join(own.texts), tuple(own.tokens)
            logprob = sum(token.logprob for token in tokens)
            written = SampledText(ask, ask.sample, text, piece.finish, len(tokens), logprob, None, tokens)
            yield places[piece.request], [written]

    def _search(self, places: Sequence[int]) -> Iterator[tuple[int, list[SampledText]]]:
        asks = [self.requests[place] for place in places]
        for event in generate(self.loaded.model, [ask.request for ask in asks]):
            if isinstance(event, Finish):
                yield places[event.request], self._found(asks[event.request], event.hypotheses)

    def _found(self, ask: SampleRequest, hypotheses: Sequence[Hypothesis]) -> list[SampledText]:
        tokenizer = self.loaded.require_tokenizer()
        texts: list[SampledText] = []
        for number, each in enumerate(hypotheses[: ask.texts]):
            text, is_stopped = _spelled(tokenizer, ask.request, each.ids)
            finish = "stop" if is_stopped else each.reason
            count = len(each.tokens)
            texts.append(SampledText(ask, number, text, finish, count, each.logprob, each.score, each.tokens))
        return texts or [SampledText(ask, 0, "", "stop", 0, 0.0, None, ())]


@dataclass
class _Growing:
    texts: list[str] = field(default_factory=list[str])
    tokens: list[GeneratedToken] = field(default_factory=list[GeneratedToken])


def sample_batch(
    loaded: LoadedModel,
    prompts: Sequence[str],
    strategies: Sequence[Strategy],
    *,
    samples: int = 1,
    seed: int = 0,
    top_n: int = 0,
) -> SampleBatch:
    """Ask for ``samples`` texts behind each prompt by each strategy, ``top_n`` likeliest tokens told with each token.

    Raises RunError where the model never learned to write, DataError where there is nothing to start from, and
    RecipeError where a beam search has fewer texts to give.
    """
    check_can_generate(loaded)
    check_can_continue(loaded)
    tokenizer, block = loaded.require_tokenizer(), loaded.model.config.block_size
    for strategy in strategies:
        _check_texts(strategy, samples)
    asks: list[SampleRequest] = []
    cut: list[TruncatedPrompt] = []
    lacked: dict[str, None] = {}
    for number, prompt in enumerate(prompts):
        ids = _ids(loaded, prompt, number if len(prompts) > 1 else None)
        if len(ids) - loaded.starts_documents > block:
            cut.append(TruncatedPrompt(number, len(ids)))
        lacked |= dict.fromkeys(out_of_vocabulary(tokenizer, prompt, encode_with_offsets(tokenizer, prompt)))
        for strategy in strategies:
            first = request_for(tokenizer, ids, strategy.config, seed=seed, top_n=top_n)
            drawn = samples if strategy.config.strategy == "sample" else 1
            texts = samples if strategy.config.strategy == "beam" else 1
            for sample in range(drawn):
                asks.append(
                    SampleRequest(number, prompt, strategy, sample, drawn, texts, replace(first, seed=seed + sample))
                )
    return SampleBatch(loaded, tuple(asks), tuple(cut), tuple(lacked))


def sample_to_json(text: SampledText, tokenizer: Tokenizer, *, with_tokens: bool) -> dict[str, Any]:
    """A text for JSON, with the settings it was written by: max_new_tokens, and whatever is not as it usually is."""
    config = text.origin.strategy.config
    found: dict[str, Any] = {
        "number": text.origin.prompt_number + 1,
        "prompt": text.origin.prompt,
        "text": text.text,
        "strategy": text.origin.strategy.name,
        "seed": text.seed,
        "finish": text.finish,
        "tokens": text.tokens,
        "logprob": text.logprob,
    }
    if text.score is not None:
        found["score"] = text.score
    if with_tokens:
        found["logprobs"] = [_token_json(each, tokenizer) for each in text.generated]
    usual = {"max_new_tokens": config.max_new_tokens}
    return {**found, "settings": {**usual, **config.model_dump(mode="json", exclude_defaults=True)}}


def _check_texts(strategy: Strategy, samples: int) -> None:
    config = strategy.config
    if config.strategy == "beam" and samples > config.num_beams:
        raise RecipeError(
            f"{samples:,} texts are asked of a search with num_beams = {config.num_beams} ({strategy.name}).",
            "A beam search gives its best texts, at most as many as it has beams.",
            "Ask for fewer, or take more beams.",
        )


def _ids(loaded: LoadedModel, prompt: str, number: int | None) -> list[int]:
    """A prompt's ids. Raises DataError, which says the prompt's number, where it has none to start from."""
    try:
        return prompt_ids(loaded.require_tokenizer(), prompt, starts_document=loaded.starts_documents)
    except DataError as error:
        if number is None:
            raise
        raise DataError(f"Prompt {number + 1}: {error.happened}", error.expected, error.advice) from None


def _spelled(tokenizer: Tokenizer, request: Request, ids: Sequence[int]) -> tuple[str, bool]:
    """The text of ids up to a stop string, and whether there was one."""
    decoder, finder = decoder_after(tokenizer, request.ids), StopFinder(request.config.stop)
    text = "".join(finder.push(decoder.push(index)) for index in ids)
    text += finder.push(decoder.finish()) + finder.finish()
    return text, finder.is_found


def _token_json(token: GeneratedToken, tokenizer: Tokenizer) -> dict[str, Any]:
    def shown(index: int, logprob: float) -> dict[str, Any]:
        return {"token": tokenizer.token_text(index), "id": index, "logprob": logprob}

    alternatives = [shown(*each) for each in token.alternatives]
    return {**shown(token.id, token.logprob), "rank": token.rank, "alternatives": alternatives}


# MERGED api.writing: Writing: a model and prompts in, texts out, piece by piece.


DEFAULT_CONFIG = GenerationConfig(temperature=0.8)  # where a model has no settings of its own and none are given


def generate_stream(
    loaded: LoadedModel, prompts: Sequence[str], config: GenerationConfig = DEFAULT_CONFIG, *, seed: int = 0
) -> Iterator[TextDelta]:
    """Continue every prompt at once, in pieces as they are written; a document's end ends a text.

    Raises, before the first piece is asked for, RunError where the model never learned to write, and DataError where
    there is nothing to start from.
    """
    requests = [prompt_request(loaded, prompt, config, seed=seed) for prompt in prompts]
    return stream_texts(loaded.model, loaded.require_tokenizer(), requests, show_special=True)


def prompt_request(
    loaded: LoadedModel,
    prompt: str,
    config: GenerationConfig = DEFAULT_CONFIG,
    *,
    seed: int = 0,
    top_n: int = 0,
    report_beams: bool = False,
) -> Request:
    """What the engine is asked to go on with a prompt. Raises as ``generate_stream``."""
    check_can_generate(loaded)
    check_can_continue(loaded)
    tokenizer = loaded.require_tokenizer()
    ids = prompt_ids(tokenizer, prompt, starts_document=loaded.starts_documents)
    return request_for(tokenizer, ids, config, seed=seed, top_n=top_n, report_beams=report_beams)


def prompts_too_long(loaded: LoadedModel, prompts: Sequence[str]) -> list[int]:
    """Places of the prompts that do not fit the block and are cut from the left."""
    tokenizer = loaded.require_tokenizer()
    block = loaded.model.config.block_size - loaded.starts_documents
    return [number for number, prompt in enumerate(prompts) if len(tokenizer.encode(prompt)) > block]
