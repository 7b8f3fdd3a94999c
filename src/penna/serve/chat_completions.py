"""POST /v1/chat/completions: the turns of a dialogue in, the model's replies out.

The run's own template makes a text of the turns, in its sandbox. Of a dialogue that is longer than the model reads,
whole exchanges are left out from the oldest, and the answer says how many turns were.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, replace
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from penna.api.chat import PromptTooLongError, chat_window, reply_settings
from penna.loading import LoadedModel
from penna.serve.choices import Delta, Manner, ToldToken, gathered, written
from penna.serve.completions import STREAMED
from penna.serve.dependencies import Answering, ServerState, ServerStateDep, answering
from penna.serve.errors import RequestRejected, hide_model_path
from penna.serve.json_body import JsonResponse
from penna.serve.logprobs import chat_logprobs
from penna.serve.params import Ask, asks_of, check_texts, generation_of, seed_of
from penna.serve.request_schemas import ChatRequest
from penna.serve.response_schemas import ChatCompletion, usage
from penna.serve.settings import ServeSettings
from penna.serve.streaming import event_stream, run_until_disconnect
from penna.serve.worker import Worker
from penna.tasks.chat import Dialogue
from penna.tokenizer.chat_template import Message
from penna.tokenizer.tokenizer import Tokenizer

router = APIRouter()
_MANNER = Manner(mends=True)


@dataclass(frozen=True)
class _Plan:
    """What the engine is asked for one request."""

    asks: list[Ask]
    prompt_tokens: int
    forgotten: int
    tokenizer: Tokenizer
    asked: ChatRequest

    def logprobs(self, tokens: Sequence[ToldToken]) -> dict[str, Any] | None:
        """The tokens, where they are asked for."""
        return chat_logprobs(self.tokenizer, tokens).model_dump() if self.asked.tells_tokens else None


@router.post("/v1/chat/completions", response_model=ChatCompletion, responses=STREAMED)
async def chat(asked: ChatRequest, request: Request, serving: ServerStateDep) -> Response:
    """Reply to the last turn."""
    check_texts(asked, serving.settings)
    marks = answering("chatcmpl", asked.model, seed_of(asked))
    if asked.stream:
        chunks = _chunks(asked, serving, marks)
        return await event_stream(request, chunks, serving.streams, serving.settings.request_timeout)
    whole = _whole(asked, serving, marks)
    return JsonResponse(await run_until_disconnect(request, whole, serving.settings.request_timeout))


async def _whole(asked: ChatRequest, serving: ServerState, marks: Answering) -> dict[str, Any]:
    worker, plan = await _ready(asked, serving, marks)
    with hide_model_path(worker.loaded, asked.model):
        choices, count = await gathered(worker, plan.asks, _MANNER)
    told = [
        {
            "index": index,
            "message": {"role": "assistant", "content": each.text, "refusal": None},
            "logprobs": plan.logprobs(each.tokens),
            "finish_reason": each.finish,
        }
        for index, each in enumerate(choices)
    ]
    used = usage(plan.prompt_tokens, count).model_dump()
    return {**_head(marks, plan, "chat.completion"), "choices": told, "usage": used}


async def _chunks(asked: ChatRequest, serving: ServerState, marks: Answering) -> AsyncGenerator[dict[str, Any]]:
    worker, plan = await _ready(asked, serving, marks)
    head = _head(marks, plan, "chat.completion.chunk")
    begun, count = set[int](), 0
    with hide_model_path(worker.loaded, asked.model):
        async with aclosing(written(worker, plan.asks, _MANNER)) as deltas:
            async for delta in deltas:
                count += delta.written
                if delta.choice not in begun:
                    begun.add(delta.choice)
                    yield {**head, "choices": [_choice(delta.choice, {"role": "assistant", "content": ""})]}
                if delta.text or delta.tokens or delta.finish:
                    yield {**head, "choices": [_grown(delta, plan)]}
    if asked.stream_options is not None and asked.stream_options.include_usage:
        yield {**head, "choices": [], "usage": usage(plan.prompt_tokens, count).model_dump()}


def _head(marks: Answering, plan: _Plan, kind: str) -> dict[str, Any]:
    return {**asdict(marks), "object": kind, "forgotten": plan.forgotten}


def _grown(delta: Delta, plan: _Plan) -> dict[str, Any]:
    content = {"content": delta.text} if delta.text or delta.tokens else {}
    return {**_choice(delta.choice, content, delta.finish), "logprobs": plan.logprobs(delta.tokens)}


def _choice(index: int, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}


async def _ready(asked: ChatRequest, serving: ServerState, marks: Answering) -> tuple[Worker, _Plan]:
    """The model's worker and what it is asked; the turns are read beside the loop, which goes on meanwhile."""
    worker = await serving.registry.worker(asked.model)
    with hide_model_path(worker.loaded, asked.model):
        return worker, await serving.thread_pool.run(_plan, worker.loaded, asked, serving.settings, marks.seed)


def _plan(loaded: LoadedModel, asked: ChatRequest, limits: ServeSettings, seed: int) -> _Plan:
    config = generation_of(asked, reply_settings(loaded), limits)
    try:
        read = chat_window(loaded, _turns(asked), config, seed=seed, most_tokens=limits.max_prompt_tokens)
    except PromptTooLongError as error:
        raise RequestRejected(
            error.happened,
            error.expected,
            "Say it in fewer words, or ask for a shorter reply (max_tokens).",
            param="messages",
            code="context_length_exceeded",
        ) from error
    asks = asks_of([replace(read.request, top_n=asked.top_n)], asked)
    return _Plan(asks, read.tokens, read.forgotten, loaded.require_tokenizer(), asked)


def _turns(asked: ChatRequest) -> Dialogue:
    """The turns of a dialogue. Raises RequestRejected where the user's and the assistant's do not come by turns."""
    turns = [Message("system" if turn.role == "developer" else turn.role, turn.text) for turn in asked.messages]
    spoken = turns[1:] if turns[0].role == "system" else turns
    for place, turn in enumerate(spoken):
        due = "assistant" if place % 2 else "user"
        if turn.role != due:
            raise _out_of_turn(len(turns) - len(spoken) + place + 1, turn.role, due)
    if len(spoken) % 2 == 0:
        raise _out_of_turn(len(turns) + 1, "nobody", "user")
    return tuple(turns)


def _out_of_turn(number: int, speaker: str, due: str) -> RequestRejected:
    return RequestRejected(
        f"Turn {number} is {speaker}'s, and the {due}'s is due.",
        "A system turn or none, then the user's and the assistant's by turns, the user's last.",
        "Put the turns in this order, two of one speaker into one.",
        param="messages",
    )
