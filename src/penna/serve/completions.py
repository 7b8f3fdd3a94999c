"""POST /v1/completions: continue prompts.

A model of the task "complete" reads a text as the prompt of a completion, as in training; other models continue it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from fastapi import APIRouter, Request
from starlette.responses import Response

from penna.api.capabilities import check_can_continue, check_can_generate
from penna.api.complete import GREEDY, completer
from penna.api.generate import DEFAULT_CONFIG
from penna.api.generation_defaults import override_settings
from penna.generate.text_stream import SHOW_SPECIAL, TextStyle, prompt_ids, request_for
from penna.serve.dependencies import ServerStateDep
from penna.serve.errors import RequestRejected
from penna.serve.generation import EVENT_STREAM, Choice, ChoiceDelta, GenerationPlan, respond
from penna.serve.limits import check_count, encode_within_limit
from penna.serve.logprobs import completion_logprobs
from penna.serve.params import expand_choices, generation_settings, requested_tokens
from penna.serve.request_schemas import CompletionRequest
from penna.serve.response_schemas import Completion, CompletionChoice
from penna.serve.settings import ServeSettings
from penna.serve.worker import Worker

router = APIRouter()


class _CompletionPlan(GenerationPlan):
    def head(self, *, is_chunk: bool) -> dict[str, Any]:
        return {"object": "text_completion", "usage": None}

    def choice(self, index: int, choice: Choice | ChoiceDelta) -> dict[str, Any]:
        logprobs = completion_logprobs(self.tokenizer, choice.tokens) if self.with_logprobs else None
        return CompletionChoice(
            index=index, text=choice.text, logprobs=logprobs, finish_reason=choice.finish
        ).model_dump()

    def chunk_choices(self, delta: ChoiceDelta, *, is_first: bool) -> list[dict[str, Any]]:
        return [self.choice(delta.index, delta)] if delta.text or delta.tokens or delta.finish else []


@router.post("/v1/completions", response_model=Completion, responses=EVENT_STREAM)
async def complete(body: CompletionRequest, request: Request, state: ServerStateDep) -> Response:
    """Continue each prompt."""
    return await respond(body, request, state, "cmpl", _plan)


def _plan(worker: Worker, body: CompletionRequest, limits: ServeSettings, seed: int) -> GenerationPlan:
    if body.echo and body.with_logprobs:
        raise RequestRejected(
            "echo and logprobs are both set.",
            "logprobs covers generated tokens only; /v1/score returns those of a prompt.",
            "Drop one of the two.",
            param="echo",
        )
    loaded, prompts = worker.loaded, as_list(body.prompt)
    tokenizer = loaded.require_tokenizer()
    is_completer = loaded.task.kind == "complete"
    config = generation_settings(body, worker.defaults(GREEDY if is_completer else DEFAULT_CONFIG), limits)
    check_count(len(prompts), limits, "prompt")
    as_completion = is_completer and all(isinstance(prompt, str) for prompt in prompts)
    if not as_completion or limits.max_prompt_tokens is not None:  # a completer truncates long prompts, as in training
        for prompt in prompts:
            encode_within_limit(tokenizer, prompt, limits, loaded.model.config.block_size, "prompt")
    if as_completion:
        model = completer(loaded)
        new_tokens = min(model.new_tokens(requested_tokens(body)), limits.max_new_tokens)
        config = override_settings(config, {"max_new_tokens": new_tokens})
        requests, _ = model.requests(cast(list[str], prompts), config, seed=seed)
    else:
        check_can_generate(loaded)
        check_can_continue(loaded)
        rows = [
            prompt_ids(tokenizer, prompt, starts_document=loaded.starts_documents)
            if isinstance(prompt, str)
            else prompt
            for prompt in prompts
        ]
        requests = [request_for(tokenizer, ids, config, seed=seed) for ids in rows]
    prompt_tokens = sum(len(each.source) or len(each.ids) for each in requests)
    requests, choices_per_request = expand_choices([replace(each, top_n=body.top_n) for each in requests], body)
    echo = [
        prompt if isinstance(prompt, str) else tokenizer.decode(prompt)
        for prompt in (prompts if body.echo else ())
        for _ in range(body.n or 1)
    ]
    return _CompletionPlan(
        requests,
        choices_per_request,
        prompt_tokens,
        tokenizer,
        body.with_logprobs,
        TextStyle(strip_start=True) if as_completion else SHOW_SPECIAL,
        tuple(echo),
    )


def as_list(values: str | list[str] | list[int] | list[list[int]]) -> list[str | list[int]]:
    """A list of texts or token id lists; a single one becomes a list of one."""
    if isinstance(values, str):
        return [values]
    if values and isinstance(values[0], int):
        return [cast(list[int], values)]
    return list(cast(list[str] | list[list[int]], values))
