"""Text generation for /v1/completions and /v1/chat/completions: request body to response or event stream."""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from fastapi import Request as HttpRequest
from starlette.responses import Response

from penna.generate.request import Request
from penna.generate.text_stream import TextDelta, TextStyle, TextToken, hypothesis_text
from penna.serve.dependencies import ResponseInfo, ServerState
from penna.serve.errors import RequestRejected, hide_model_path
from penna.serve.json_body import JsonResponse
from penna.serve.params import check_options
from penna.serve.request_schemas import GenerationRequest
from penna.serve.response_schemas import FinishReason, usage
from penna.serve.settings import ServeSettings
from penna.serve.streaming import event_stream, run_until_disconnect
from penna.serve.worker import Worker
from penna.tokenizer.tokenizer import Tokenizer

Body = TypeVar("Body", bound=GenerationRequest)
EVENT_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {}}},  # each event is a line "data: {...}"; several schemas are possible
}
_SEEDS = 2**31  # random seeds are below this


@dataclass(frozen=True)
class ChoiceDelta:
    """What a choice of a response grew by."""

    index: int
    text: str
    tokens: tuple[TextToken, ...] = ()
    generated: int = 0  # tokens generated, including those that a stop string removed; choices that share count once
    finish: FinishReason | None = None


@dataclass
class Choice:
    """A choice of a response."""

    text: str = ""
    tokens: list[TextToken] = field(default_factory=list[TextToken])
    finish: FinishReason = "stop"


@dataclass(frozen=True)
class GenerationPlan(ABC):
    """What the engine generates for a request body, and how the response shows it."""

    requests: list[Request]
    choices_per_request: int  # a search, or a text that no seed changes, is generated once for several choices
    prompt_tokens: int
    tokenizer: Tokenizer
    with_logprobs: bool
    style: TextStyle
    echo: tuple[str, ...]  # the text in front of each choice; empty if there is none

    @abstractmethod
    def head(self, *, is_chunk: bool) -> dict[str, Any]:
        """The fields of a response, or of a chunk of a stream, besides its choices and usage."""

    @abstractmethod
    def choice(self, index: int, choice: Choice) -> dict[str, Any]:
        """A choice of a response."""

    @abstractmethod
    def chunk_choices(self, delta: ChoiceDelta, *, is_first: bool) -> list[dict[str, Any]]:
        """The choices of the chunks that report a delta; ``is_first`` for the first delta of a choice."""


async def respond(
    body: Body,
    request: HttpRequest,
    state: ServerState,
    id_prefix: str,
    make_plan: Callable[[Worker, Body, ServeSettings, int], GenerationPlan],
) -> Response:
    """Generate what ``body`` requests; respond with JSON, or with events if ``body.stream`` is set.

    ``make_plan`` takes the model's worker, the body, the limits and the seed. It runs in the thread pool.
    """
    check_options(body, state.settings)
    seed = secrets.randbelow(_SEEDS) if body.seed is None else body.seed
    info = ResponseInfo.create(id_prefix, body.model, seed)

    async def prepare() -> tuple[Worker, GenerationPlan]:
        worker = await state.registry.worker(body.model)
        with hide_model_path(worker.loaded, body.model):
            return worker, await state.thread_pool.run(make_plan, worker, body, state.settings, seed)

    async def response() -> dict[str, Any]:
        worker, plan = await prepare()
        choices = {index: Choice() for index in range(len(plan.requests) * plan.choices_per_request)}
        count = 0
        with hide_model_path(worker.loaded, body.model):
            async with aclosing(_generate(worker, plan)) as deltas:
                async for delta in deltas:
                    choice = choices[delta.index]
                    choice.text += delta.text
                    choice.tokens += delta.tokens
                    choice.finish = delta.finish or choice.finish
                    count += delta.generated
        return {
            **asdict(info),
            **plan.head(is_chunk=False),
            "choices": [plan.choice(index, choice) for index, choice in choices.items()],
            "usage": usage(plan.prompt_tokens, count).model_dump(),
        }

    async def chunks() -> AsyncGenerator[dict[str, Any]]:
        worker, plan = await prepare()
        head = {**asdict(info), **plan.head(is_chunk=True)}
        started, count = set[int](), 0
        with hide_model_path(worker.loaded, body.model):
            async with aclosing(_generate(worker, plan)) as deltas:
                async for delta in deltas:
                    count += delta.generated
                    for choice in plan.chunk_choices(delta, is_first=delta.index not in started):
                        yield {**head, "choices": [choice]}
                    started.add(delta.index)
        if body.stream_options is not None and body.stream_options.include_usage:
            yield {**head, "choices": [], "usage": usage(plan.prompt_tokens, count).model_dump()}

    timeout = state.settings.request_timeout
    if body.stream:
        return await event_stream(request, chunks(), state.streams, timeout)
    return JsonResponse(await run_until_disconnect(request, response(), timeout))


async def _generate(worker: Worker, plan: GenerationPlan) -> AsyncGenerator[ChoiceDelta]:
    """All choices as they grow; closing the generator cancels them.

    Raises what ``Worker.generate`` raises, and RequestRejected if the server stops meanwhile.
    """
    for index, text in enumerate(plan.echo):
        yield ChoiceDelta(index, text)
    async with aclosing(worker.generate(plan.requests, plan.style)) as deltas:
        async for delta in deltas:
            if delta.finish == "cancelled":
                raise RequestRejected(
                    "The text was cancelled before it was complete.",
                    "The server must keep running until a request ends.",
                    "Try again later.",
                    status=503,
                )
            for choice in _choice_deltas(plan, delta):
                yield choice


def _choice_deltas(plan: GenerationPlan, delta: TextDelta) -> Iterator[ChoiceDelta]:
    """What the choices of one engine request grew by. A beam search reports all its texts at its end."""
    request, n = plan.requests[delta.request], plan.choices_per_request
    indices = range(delta.request * n, (delta.request + 1) * n)
    if delta.hypotheses:
        for index, hypothesis in zip(indices, delta.hypotheses, strict=False):
            found = hypothesis_text(plan.tokenizer, request, hypothesis, plan.style)
            yield ChoiceDelta(index, found.text, found.tokens, len(hypothesis.tokens), _finish_reason(found.finish))
    elif request.config.strategy != "beam" or delta.finish is not None:
        generated, finish = int(delta.token is not None), _finish_reason(delta.finish)
        for index in indices:
            yield ChoiceDelta(index, delta.text, delta.tokens, generated if index == indices[0] else 0, finish)


def _finish_reason(reason: str | None) -> FinishReason | None:
    return None if reason is None else "length" if reason == "length" else "stop"
