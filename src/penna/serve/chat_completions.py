"""POST /v1/chat/completions: reply to a dialogue.

The run's chat template turns the messages into text. If a dialogue is longer than the model's context, the oldest
exchanges are dropped; the response reports how many turns were.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from penna.api.chat import PromptTooLongError, chat_window, reply_settings
from penna.generate.text_stream import TextStyle
from penna.serve.dependencies import ServerStateDep
from penna.serve.errors import RequestRejected
from penna.serve.generation import EVENT_STREAM, Choice, ChoiceDelta, GenerationPlan, respond
from penna.serve.logprobs import chat_logprobs
from penna.serve.params import expand_choices, generation_settings
from penna.serve.request_schemas import ChatRequest
from penna.serve.response_schemas import ChatCompletion
from penna.serve.settings import ServeSettings
from penna.serve.worker import Worker
from penna.tasks.chat import Dialogue
from penna.tokenizer.chat_template import Message

router = APIRouter()


@dataclass(frozen=True)
class _ChatPlan(GenerationPlan):
    forgotten: int  # turns of the dialogue that did not fit

    def head(self, *, is_chunk: bool) -> dict[str, Any]:
        return {"object": "chat.completion.chunk" if is_chunk else "chat.completion", "forgotten": self.forgotten}

    def choice(self, index: int, choice: Choice) -> dict[str, Any]:
        return {
            "index": index,
            "message": {"role": "assistant", "content": choice.text, "refusal": None},
            "logprobs": self._logprobs(choice),
            "finish_reason": choice.finish,
        }

    def chunk_choices(self, delta: ChoiceDelta, *, is_first: bool) -> list[dict[str, Any]]:
        empty: dict[str, Any] = {"index": delta.index, "logprobs": None, "finish_reason": None}
        choices = [{**empty, "delta": {"role": "assistant", "content": ""}}] if is_first else []
        if delta.text or delta.tokens or delta.finish:
            content = {"content": delta.text} if delta.text or delta.tokens else {}
            logprobs = self._logprobs(delta)
            choices.append({**empty, "delta": content, "logprobs": logprobs, "finish_reason": delta.finish})
        return choices

    def _logprobs(self, choice: Choice | ChoiceDelta) -> dict[str, Any] | None:
        return chat_logprobs(self.tokenizer, choice.tokens).model_dump() if self.with_logprobs else None


@router.post("/v1/chat/completions", response_model=ChatCompletion, responses=EVENT_STREAM)
async def chat(body: ChatRequest, request: Request, state: ServerStateDep) -> Response:
    """Reply to the last message."""
    return await respond(body, request, state, "chatcmpl", _plan)


def _plan(worker: Worker, body: ChatRequest, limits: ServeSettings, seed: int) -> GenerationPlan:
    loaded = worker.loaded
    config = generation_settings(body, reply_settings(loaded), limits)
    try:
        window = chat_window(loaded, _dialogue(body), config, seed=seed, most_tokens=limits.max_prompt_tokens)
    except PromptTooLongError as error:
        raise RequestRejected(
            error.happened,
            error.expected,
            "Shorten the message, or request a shorter reply (max_tokens).",
            param="messages",
            code="context_length_exceeded",
        ) from error
    requests, choices_per_request = expand_choices([replace(window.request, top_n=body.top_n)], body)
    return _ChatPlan(
        requests,
        choices_per_request,
        window.tokens,
        loaded.require_tokenizer(),
        body.with_logprobs,
        TextStyle(fix_spacing=True),
        (),
        window.forgotten,
    )


def _dialogue(body: ChatRequest) -> Dialogue:
    """The messages of a dialogue. Raises RequestRejected unless user and assistant alternate."""
    turns = [Message("system" if turn.role == "developer" else turn.role, turn.text) for turn in body.messages]
    spoken = turns[1:] if turns[0].role == "system" else turns
    for place, turn in enumerate(spoken):
        expected = "assistant" if place % 2 else "user"
        if turn.role != expected:
            number = len(turns) - len(spoken) + place + 1
            raise _wrong_order(f"Message {number} has the role {turn.role}, but {expected} is expected there.")
    if len(spoken) % 2 == 0:
        raise _wrong_order("The last message is not the user's.")
    return tuple(turns)


def _wrong_order(happened: str) -> RequestRejected:
    return RequestRejected(
        happened,
        "Messages are an optional system message, then user and assistant in turns, with the user's last.",
        "Reorder the messages; merge consecutive messages of one role.",
        param="messages",
    )
