"""Response bodies: the shapes of OpenAI's API, with Penna's own fields."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

FinishReason = Literal["stop", "length"]


class Usage(BaseModel):
    """Token counts."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


def usage(prompt: int, generated: int) -> Usage:
    """Token counts with their total."""
    return Usage(prompt_tokens=prompt, completion_tokens=generated, total_tokens=prompt + generated)


class CompletionLogprobs(BaseModel):
    """The tokens of a text; one that is not valid UTF-8 is written bytes:\\xe2."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class CompletionChoice(BaseModel):
    """A generated text."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: FinishReason | None


class Completion(BaseModel):
    """The response of /v1/completions, or a chunk of its stream."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    seed: int
    choices: list[CompletionChoice]
    usage: Usage | None = None


class TopLogprob(BaseModel):
    """An alternative token."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(TopLogprob):
    """A token of a reply."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(BaseModel):
    """The tokens of a reply."""

    content: list[TokenLogprob]
    refusal: None = None


class ReplyMessage(BaseModel):
    """A reply."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class ChatChoice(BaseModel):
    """One of the replies."""

    index: int
    message: ReplyMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason


class ChatCompletion(BaseModel):
    """The response of /v1/chat/completions."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    seed: int
    forgotten: int  # turns of the dialogue that did not fit the context and were dropped
    choices: list[ChatChoice]
    usage: Usage


class ReplyDelta(BaseModel):
    """New text of a reply."""

    role: Literal["assistant"] | None = None
    content: str | None = None


class ChatChunkChoice(BaseModel):
    """New text of one of the replies."""

    index: int
    delta: ReplyDelta
    logprobs: ChatLogprobs | None = None
    finish_reason: FinishReason | None = None


class ChatChunk(BaseModel):
    """A chunk of the stream of /v1/chat/completions."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    seed: int
    forgotten: int
    choices: list[ChatChunkChoice]
    usage: Usage | None = None


class EmbeddingUsage(BaseModel):
    """Token counts."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingRow(BaseModel):
    """The vector of one text."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class Embeddings(BaseModel):
    """The response of /v1/embeddings."""

    object: Literal["list"] = "list"
    model: str
    data: list[EmbeddingRow]
    usage: EmbeddingUsage


class ClassifiedText(BaseModel):
    """The prediction for one text."""

    index: int
    label: str
    probability: float
    probabilities: dict[str, float]


class Classification(BaseModel):
    """The response of /v1/classify."""

    object: Literal["list"] = "list"
    model: str
    data: list[ClassifiedText]


class ScoredTexts(BaseModel):
    """The response of /v1/score: for texts, as in `penna score --json`, or for words after a context."""

    object: Literal["list", "words"]
    model: str
    data: list[dict[str, Any]]


class ModelRow(BaseModel):
    """A served model."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "penna"
    task: str
    block_size: int
    parameters: int | None
    state: str


class ModelList(BaseModel):
    """The response of /v1/models."""

    object: Literal["list"] = "list"
    data: list[ModelRow]


class Health(BaseModel):
    """The state of the server."""

    status: str
