"""POST /v1/completions: prompts in, what the model writes behind them out.

A model of the task complete reads a prompt as what is to be completed, as it learned to; any other goes on with it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

from fastapi import APIRouter, Request
from starlette.responses import Response

from penna.api.capabilities import check_can_continue, check_can_generate
from penna.api.complete import GREEDY, completer
from penna.api.generate import DEFAULT_CONFIG
from penna.api.generation_defaults import override_settings
from penna.config.generation import GenerationConfig
from penna.generate import request as engine
from penna.generate.text_stream import prompt_ids, request_for
from penna.loading import LoadedModel
from penna.serve.choices import Ending, Manner, ToldToken, gathered, written
from penna.serve.dependencies import Answering, ServerState, ServerStateDep, answering
from penna.serve.errors import RequestRejected, hide_model_path
from penna.serve.json_body import JsonResponse
from penna.serve.limits import check_count, encode_within_limit
from penna.serve.logprobs import completion_logprobs
from penna.serve.params import Ask, asks_of, check_texts, generation_of, most_tokens, seed_of
from penna.serve.request_schemas import CompletionRequest
from penna.serve.response_schemas import Completion, CompletionChoice, Usage, usage
from penna.serve.settings import ServeSettings
from penna.serve.streaming import event_stream, run_until_disconnect
from penna.serve.worker import Worker
from penna.tokenizer.tokenizer import Tokenizer

router = APIRouter()
STREAMED: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {}}},  # of several schemas' parts, each a line "data: {...}"
}


@dataclass(frozen=True)
class _Plan:
    """What the engine is asked for one request."""

    asks: list[Ask]
    prompt_tokens: int
    manner: Manner
    tokenizer: Tokenizer
    tells_tokens: bool
    includes_usage: bool

    def choice(self, index: int, text: str, tokens: Sequence[ToldToken], finish: Ending | None) -> dict[str, Any]:
        """A choice, or what it grew by."""
        echoed = next((ask.echoed for ask in self.asks if index in ask.choices), "")
        told = completion_logprobs(self.tokenizer, tokens, len(echoed)) if self.tells_tokens else None
        return CompletionChoice(index=index, text=text, logprobs=told, finish_reason=finish).model_dump()


@router.post("/v1/completions", response_model=Completion, responses=STREAMED)
async def complete(asked: CompletionRequest, request: Request, serving: ServerStateDep) -> Response:
    """Go on with each prompt."""
    check_texts(asked, serving.settings)
    marks = answering("cmpl", asked.model, seed_of(asked))
    if asked.stream:
        chunks = _chunks(asked, serving, marks)
        return await event_stream(request, chunks, serving.streams, serving.settings.request_timeout)
    whole = _whole(asked, serving, marks)
    return JsonResponse(await run_until_disconnect(request, whole, serving.settings.request_timeout))


async def _whole(asked: CompletionRequest, serving: ServerState, marks: Answering) -> dict[str, Any]:
    worker, plan = await _ready(asked, serving, marks)
    with hide_model_path(worker.loaded, asked.model):
        choices, count = await gathered(worker, plan.asks, plan.manner)
    told = [plan.choice(index, each.text, each.tokens, each.finish) for index, each in enumerate(choices)]
    return _answer(marks, told, usage(plan.prompt_tokens, count))


async def _chunks(asked: CompletionRequest, serving: ServerState, marks: Answering) -> AsyncGenerator[dict[str, Any]]:
    worker, plan = await _ready(asked, serving, marks)
    count = 0
    with hide_model_path(worker.loaded, asked.model):
        async with aclosing(written(worker, plan.asks, plan.manner)) as deltas:
            async for delta in deltas:
                count += delta.written
                if delta.text or delta.tokens or delta.finish:
                    yield _answer(marks, [plan.choice(delta.choice, delta.text, delta.tokens, delta.finish)], None)
    if plan.includes_usage:
        yield _answer(marks, [], usage(plan.prompt_tokens, count))


def _answer(marks: Answering, choices: list[dict[str, Any]], used: Usage | None) -> dict[str, Any]:
    return {**asdict(marks), "object": "text_completion", "choices": choices, "usage": used and used.model_dump()}


async def _ready(asked: CompletionRequest, serving: ServerState, marks: Answering) -> tuple[Worker, _Plan]:
    """The model's worker and what it is asked; the texts are read beside the loop, which goes on meanwhile."""
    worker = await serving.registry.worker(asked.model)
    with hide_model_path(worker.loaded, asked.model):
        return worker, await serving.thread_pool.run(_plan, worker, asked, serving.settings, marks.seed)


def _plan(worker: Worker, asked: CompletionRequest, limits: ServeSettings, seed: int) -> _Plan:
    if asked.echo and asked.tells_tokens:
        raise RequestRejected(
            "echo and logprobs are asked for together.",
            "The tokens of what is written; those of a prompt are told by /v1/score.",
            "Leave one of the two out.",
            param="echo",
        )
    loaded = worker.loaded
    tokenizer = loaded.require_tokenizer()
    is_completer = loaded.task.kind == "complete"
    config = generation_of(asked, worker.defaults(GREEDY if is_completer else DEFAULT_CONFIG), limits)
    prompts = texts_or_ids(asked.prompt)
    check_count(len(prompts), limits, "prompt")
    cuts = is_completer and all(isinstance(prompt, str) for prompt in prompts)  # as it learned to
    if not cuts or limits.max_prompt_tokens is not None:
        for prompt in prompts:
            encode_within_limit(tokenizer, prompt, limits, loaded.model.config.block_size, "prompt")
    if cuts:
        requests = _completions(
            loaded, cast(list[str], prompts), config, most=most_tokens(asked), limits=limits, seed=seed
        )
    else:
        check_can_generate(loaded)
        check_can_continue(loaded)
        requests = [_request(loaded, prompt, config, seed) for prompt in prompts]
    requests = [replace(each, top_n=asked.top_n) for each in requests]
    echoed = [prompt if isinstance(prompt, str) else tokenizer.decode(prompt) for prompt in prompts]
    return _Plan(
        asks_of(requests, asked, echoed if asked.echo else ()),
        sum(len(each.source) or len(each.ids) for each in requests),
        Manner(shows_special=not cuts, strips=cuts),
        tokenizer,
        asked.tells_tokens,
        bool(asked.stream_options and asked.stream_options.include_usage),
    )


def _completions(
    loaded: LoadedModel,
    texts: list[str],
    config: GenerationConfig,
    *,
    most: int | None,
    limits: ServeSettings,
    seed: int,
) -> list[engine.Request]:
    """Requests for completions of ``most`` tokens; of as many as the model learned to write where none is given."""
    reader = completer(loaded)
    new = min(reader.new_tokens(most), limits.max_new_tokens)
    config = override_settings(config, {"max_new_tokens": new})
    return reader.requests(texts, config, seed=seed)[0]


def _request(loaded: LoadedModel, prompt: str | list[int], config: GenerationConfig, seed: int) -> engine.Request:
    tokenizer = loaded.require_tokenizer()
    if isinstance(prompt, str):
        prompt = prompt_ids(tokenizer, prompt, starts_document=loaded.starts_documents)
    return request_for(tokenizer, prompt, config, seed=seed)


def texts_or_ids(given: str | list[str] | list[int] | list[list[int]]) -> list[str | list[int]]:
    """One text or list of ids, or several, as several."""
    if isinstance(given, str):
        return [given]
    if given and isinstance(given[0], int):
        return [cast(list[int], given)]
    return list(cast(list[str] | list[list[int]], given))
