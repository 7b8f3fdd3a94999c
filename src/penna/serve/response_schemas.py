"""What the server answers, in the shapes of OpenAI's API, with what Penna says beside them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from penna.serve.choices import Ending


class Usage(BaseModel):
    """How many tokens were read and written."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


def usage(prompt: int, written: int) -> Usage:
    """What reading and writing came to."""
    return Usage(prompt_tokens=prompt, completion_tokens=written, total_tokens=prompt + written)


class CompletionLogprobs(BaseModel):
    """The tokens of a text, as /v1/completions tells them; one that is no whole character is written bytes:\\xe2."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class CompletionChoice(BaseModel):
    """A text."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: Ending | None


class Completion(BaseModel):
    """The answer of /v1/completions, or a chunk of its stream."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    seed: int
    choices: list[CompletionChoice]
    usage: Usage | None = None


class TopLogprob(BaseModel):
    """A token that could have stood there."""

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
    finish_reason: Ending


class ChatCompletion(BaseModel):
    """The answer of /v1/chat/completions."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    seed: int
    forgotten: int  # turns of the dialogue that did not fit and were not read
    choices: list[ChatChoice]
    usage: Usage


class ReplyDelta(BaseModel):
    """What a reply grew by."""

    role: Literal["assistant"] | None = None
    content: str | None = None


class ChatChunkChoice(BaseModel):
    """What one of the replies grew by."""

    index: int
    delta: ReplyDelta
    logprobs: ChatLogprobs | None = None
    finish_reason: Ending | None = None


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
    """How many tokens were read."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingRow(BaseModel):
    """The vector of one text."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class Embeddings(BaseModel):
    """The answer of /v1/embeddings."""

    object: Literal["list"] = "list"
    model: str
    data: list[EmbeddingRow]
    usage: EmbeddingUsage


class ClassifiedText(BaseModel):
    """What the model makes of one text."""

    index: int
    label: str
    probability: float
    probabilities: dict[str, float]


class Classification(BaseModel):
    """The answer of /v1/classify."""

    object: Literal["list"] = "list"
    model: str
    data: list[ClassifiedText]


class ScoredTexts(BaseModel):
    """The answer of /v1/score: of texts, each as `penna score --json` tells it; or of words behind a context."""

    object: Literal["list", "words"]
    model: str
    data: list[dict[str, Any]]


class ModelRow(BaseModel):
    """A model that is served."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "penna"
    task: str
    block_size: int
    parameters: int | None
    state: str


class ModelList(BaseModel):
    """The answer of /v1/models."""

    object: Literal["list"] = "list"
    data: list[ModelRow]


class Health(BaseModel):
    """Whether the server is well."""

    status: str
