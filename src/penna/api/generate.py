"""Generate text: a stream of continuations, or samples of several prompts by several decoding strategies.

Samples use the seeds ``seed``, ``seed + 1`` and so on, the same for every prompt and strategy, so that each text can be
reproduced alone. A beam search returns its best texts instead. A text that no seed changes is generated once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from penna.api.capabilities import check_can_continue, check_can_generate
from penna.api.strategies import Strategy
from penna.config.generation import GenerationConfig
from penna.errors import DataError, RecipeError
from penna.generate.request import GeneratedToken, Request
from penna.generate.text_stream import (
    SHOW_SPECIAL,
    GeneratedText,
    TextDelta,
    finished_texts,
    hypothesis_text,
    prompt_ids,
    request_for,
    stream_texts,
)
from penna.loading import LoadedModel
from penna.tokenizer.offsets import encode_with_offsets, out_of_vocabulary
from penna.tokenizer.tokenizer import Tokenizer

DEFAULT_CONFIG = GenerationConfig(temperature=0.8)  # for models without generation settings of their own


def prompt_request(
    loaded: LoadedModel,
    prompt: str,
    config: GenerationConfig = DEFAULT_CONFIG,
    *,
    seed: int = 0,
    top_n: int = 0,
    report_beams: bool = False,
) -> Request:
    """The engine's request for a continuation of a prompt. The end of the document ends the text.

    Raises RunError if the model was not trained to generate text, and DataError if there is no token to start from.
    """
    check_can_generate(loaded)
    check_can_continue(loaded)
    tokenizer = loaded.require_tokenizer()
    ids = prompt_ids(tokenizer, prompt, starts_document=loaded.starts_documents)
    return request_for(tokenizer, ids, config, seed=seed, top_n=top_n, report_beams=report_beams)


def generate_stream(
    loaded: LoadedModel, prompts: Sequence[str], config: GenerationConfig = DEFAULT_CONFIG, *, seed: int = 0
) -> Iterator[TextDelta]:
    """Continue all prompts in one batch and yield the texts as they grow. Raises as ``prompt_request``, at once."""
    requests = [prompt_request(loaded, prompt, config, seed=seed) for prompt in prompts]
    return stream_texts(loaded.model, loaded.require_tokenizer(), requests, SHOW_SPECIAL)


def prompts_too_long(loaded: LoadedModel, prompts: Sequence[str]) -> list[int]:
    """The indices of prompts that exceed the context and are truncated on the left."""
    tokenizer = loaded.require_tokenizer()
    block = loaded.model.config.block_size - loaded.starts_documents
    return [number for number, prompt in enumerate(prompts) if len(tokenizer.encode(prompt)) > block]


@dataclass(frozen=True)
class SampleRequest:
    """An engine request with the prompt and strategy that it belongs to."""

    prompt_number: int  # from 0
    prompt: str
    strategy: Strategy
    sample: int  # from 0; added to the first seed
    samples: int  # requests for this prompt and strategy
    texts: int  # texts that the request returns; several for a beam search
    request: Request


@dataclass(frozen=True)
class SampledText:
    """A generated text."""

    origin: SampleRequest
    number: int  # from 0, among the texts of its prompt and strategy
    text: str
    finish: str  # "stop", or "length" if max_new_tokens were generated
    logprob: float  # natural logarithm of the tokens' probability under the model; in a beam search with the end token
    score: float | None  # by which a beam search ranked it
    generated: tuple[GeneratedToken, ...]

    @property
    def tokens(self) -> int:
        """The number of tokens."""
        return len(self.generated)

    @property
    def seed(self) -> int:
        """The seed it was sampled with."""
        return self.origin.request.seed


@dataclass(frozen=True)
class TruncatedPrompt:
    """A prompt longer than the context; its beginning is ignored."""

    number: int  # from 0
    tokens: int


@dataclass(frozen=True)
class SampleBatch:
    """All requests, ordered by prompt, strategy and sample."""

    loaded: LoadedModel
    requests: tuple[SampleRequest, ...]
    truncated: tuple[TruncatedPrompt, ...]
    unknown_text: tuple[str, ...]  # parts of prompts that the vocabulary has no token for

    def stream(self) -> Iterator[TextDelta]:
        """The texts of all requests as they grow."""
        requests = [each.request for each in self.requests]
        return stream_texts(self.loaded.model, self.loaded.require_tokenizer(), requests, SHOW_SPECIAL)

    def results(self) -> Iterator[tuple[int, list[SampledText]]]:
        """The index of a request and its texts, as soon as they are complete. Beam searches run last."""
        for is_search in (False, True):
            numbers = [
                number
                for number, each in enumerate(self.requests)
                if (each.strategy.config.strategy == "beam") == is_search
            ]
            requests = [self.requests[number].request for number in numbers]
            tokenizer = self.loaded.require_tokenizer()
            for place, text in finished_texts(self.loaded.model, tokenizer, requests, SHOW_SPECIAL):
                yield numbers[place], _sampled_texts(tokenizer, self.requests[numbers[place]], text)


def _sampled_texts(tokenizer: Tokenizer, origin: SampleRequest, text: GeneratedText) -> list[SampledText]:
    """The texts of a request; of a beam search its best ones."""
    if not text.hypotheses:
        return [SampledText(origin, origin.sample, text.text, text.finish, text.logprob, None, text.tokens)]
    texts: list[SampledText] = []
    for number, each in enumerate(text.hypotheses[: origin.texts]):
        found = hypothesis_text(tokenizer, origin.request, each, SHOW_SPECIAL)
        finish = found.finish or each.reason
        texts.append(SampledText(origin, number, found.text, finish, each.logprob, each.score, each.tokens))
    return texts


def sample_batch(
    loaded: LoadedModel,
    prompts: Sequence[str],
    strategies: Sequence[Strategy],
    *,
    samples: int = 1,
    seed: int = 0,
    top_n: int = 0,
) -> SampleBatch:
    """Requests for ``samples`` continuations of each prompt by each strategy; ``top_n`` alternatives per token.

    Raises RunError if the model was not trained to generate text, DataError if there is no token to start from, and
    RecipeError for more samples than a beam search has beams.
    """
    check_can_generate(loaded)
    check_can_continue(loaded)
    tokenizer, block = loaded.require_tokenizer(), loaded.model.config.block_size
    for strategy in strategies:
        _check_beams(strategy, samples)
    requests: list[SampleRequest] = []
    truncated: list[TruncatedPrompt] = []
    unknown: dict[str, None] = {}
    for number, prompt in enumerate(prompts):
        ids = _prompt_ids(loaded, prompt, number if len(prompts) > 1 else None)
        if len(ids) - loaded.starts_documents > block:
            truncated.append(TruncatedPrompt(number, len(ids)))
        unknown |= dict.fromkeys(out_of_vocabulary(tokenizer, prompt, encode_with_offsets(tokenizer, prompt)))
        for strategy in strategies:
            request = request_for(tokenizer, ids, strategy.config, seed=seed, top_n=top_n)
            count = samples if strategy.config.strategy == "sample" else 1
            texts = samples if strategy.config.strategy == "beam" else 1
            requests += [
                SampleRequest(number, prompt, strategy, sample, count, texts, replace(request, seed=seed + sample))
                for sample in range(count)
            ]
    return SampleBatch(loaded, tuple(requests), tuple(truncated), tuple(unknown))


def sample_to_json(text: SampledText, tokenizer: Tokenizer, *, with_tokens: bool) -> dict[str, Any]:
    """A text as JSON, with max_new_tokens and all settings that differ from their defaults."""
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
        found["logprobs"] = [_token_to_json(each, tokenizer) for each in text.generated]
    settings = {"max_new_tokens": config.max_new_tokens, **config.model_dump(mode="json", exclude_defaults=True)}
    return {**found, "settings": settings}


def _token_to_json(token: GeneratedToken, tokenizer: Tokenizer) -> dict[str, Any]:
    def described(index: int, logprob: float) -> dict[str, Any]:
        return {"token": tokenizer.token_text(index), "id": index, "logprob": logprob}

    alternatives = [described(*each) for each in token.alternatives]
    return {**described(token.id, token.logprob), "rank": token.rank, "alternatives": alternatives}


def _check_beams(strategy: Strategy, samples: int) -> None:
    config = strategy.config
    if config.strategy == "beam" and samples > config.num_beams:
        raise RecipeError(
            f"{samples:,} texts are requested, but the strategy {strategy.name!r} has num_beams = {config.num_beams}.",
            "A beam search returns at most one text for each beam.",
            "Request fewer texts or increase num_beams.",
        )


def _prompt_ids(loaded: LoadedModel, prompt: str, number: int | None) -> list[int]:
    """``prompt_ids``, with the prompt's number in its DataError."""
    try:
        return prompt_ids(loaded.require_tokenizer(), prompt, starts_document=loaded.starts_documents)
    except DataError as error:
        if number is None:
            raise
        raise DataError(f"Prompt {number + 1}: {error.happened}", error.expected, error.advice) from None
