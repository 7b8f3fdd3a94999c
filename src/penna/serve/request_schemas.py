"""Request bodies: pydantic models that reject unknown fields.

Fields are those of OpenAI's API plus all settings of ``penna.config.generation``. An unsupported field of that API is
rejected if it would change the result, and ignored if it would not. Null means that a field is not set. No field is
ever opened as a file or address. Every list has a maximum length and fails at its first invalid item: a body may hold
half a million items, and reporting each would take seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from penna.config.generation import GenerationConfig
from penna.explain.explanation import METHODS
from penna.serve.errors import RequestRejected

_MAX_STRING = 1024  # characters of a stop string, a bad word or a choice
_MAX_STRINGS = 256  # bad words or choices
_MAX_LOOKUP = 32  # tokens of prompt lookup
_MAX_LOGPROBS = 20  # alternatives of a token, as in OpenAI's API
_MAX_TEXTS = 4096  # texts; the server's own limit is checked later
_MAX_IDS = 1 << 18  # tokens of a text, likewise
_MAX_MESSAGES = 1024  # of a dialogue, and parts of a message
_MAX_HEADS = 1024  # attention heads to switch off
_MAX_FIELDS = 128  # more than any body has

ShortString = Annotated[str, Field(min_length=1, max_length=_MAX_STRING)]
ShortStrings = Annotated[list[ShortString], Field(max_length=_MAX_STRINGS, fail_fast=True)]
TokenIds = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1, max_length=_MAX_IDS, fail_fast=True)]
TextList = Annotated[list[str], Field(max_length=_MAX_TEXTS, fail_fast=True)]
Texts = str | Annotated[TextList, Field(min_length=1)]
TextsOrIds = Texts | TokenIds | Annotated[list[TokenIds], Field(min_length=1, max_length=_MAX_TEXTS, fail_fast=True)]

_IGNORED = frozenset(
    {
        "user",
        "metadata",
        "store",
        "service_tier",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "prediction",
        "parallel_tool_calls",
    }
)
"""Fields of OpenAI's API that change no result."""


class RequestBody(BaseModel):
    """Base class of all bodies: no unknown fields, and exact types ("5" is not a number)."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    unsupported: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    """Unsupported fields of OpenAI's API, with the values that have no effect (besides null)."""

    @model_validator(mode="before")
    @classmethod
    def _drop_unsupported(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        if len(values) > _MAX_FIELDS:
            raise RequestRejected(
                f"An object in the body has {len(values):,} fields.",
                f"At most {_MAX_FIELDS} are allowed; /openapi.json describes every field.",
                "Drop the unknown fields.",
            )
        for name, neutral in cls.unsupported.items():
            if name in values and values[name] is not None and not any(values[name] == value for value in neutral):
                raise RequestRejected(
                    f"{name} is not supported.",
                    "Penna cannot follow it, and the result would not be what you requested.",
                    f"Drop {name}.",
                    param=name,
                    code="unsupported_parameter",
                )
        ignored = _IGNORED | cls.unsupported.keys()
        return {name: value for name, value in values.items() if name not in ignored}


def _setting(name: str) -> Any:
    """The field for a generation setting, with its bounds and description."""
    field = GenerationConfig.model_fields[name]
    bounds = {key: getattr(part, key) for part in field.metadata for key in ("ge", "gt", "le") if hasattr(part, key)}
    return Field(default=None, description=field.description, **bounds)


class StreamOptions(RequestBody):
    """Options of a stream."""

    include_usage: bool | None = Field(default=None, description="Send a last chunk with the token counts.")
    include_obfuscation: bool | None = Field(default=None, description="Accepted and ignored.")


class GenerationRequest(RequestBody):
    """Fields of all requests that generate text. Fields that are not set use the run's own settings."""

    model: str = Field(max_length=256, description="A name listed by /v1/models.")
    stream: bool | None = Field(default=None, description="Send the text as it grows, as server-sent events.")
    stream_options: StreamOptions | None = None
    n: int | None = Field(default=None, ge=1, description="Texts for each prompt, with the seeds seed, seed + 1, …")
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63, description="Sampling seed; default: random.")
    max_tokens: int | None = Field(default=None, ge=0, description="Maximum tokens to generate.")
    stop: ShortString | ShortStrings | None = _setting("stop")
    temperature: float | None = _setting("temperature")
    top_p: float | None = _setting("top_p")
    presence_penalty: float | None = _setting("presence_penalty")
    frequency_penalty: float | None = _setting("frequency_penalty")

    max_new_tokens: int | None = Field(default=None, ge=0, description="Another name of max_tokens.")
    min_new_tokens: int | None = _setting("min_new_tokens")
    top_k: int | None = _setting("top_k")
    min_p: float | None = _setting("min_p")
    typical_p: float | None = _setting("typical_p")
    repetition_penalty: float | None = _setting("repetition_penalty")
    no_repeat_ngram_size: int | None = _setting("no_repeat_ngram_size")
    bad_words: ShortStrings | None = _setting("bad_words")
    choices: ShortStrings | None = _setting("choices")
    num_beams: int | None = _setting("num_beams")
    num_beam_groups: int | None = _setting("num_beam_groups")
    diversity_penalty: float | None = _setting("diversity_penalty")
    length_penalty: float | None = _setting("length_penalty")
    early_stopping: bool | Literal["never"] | None = _setting("early_stopping")
    penalty_alpha: float | None = _setting("penalty_alpha")
    prompt_lookup_num_tokens: int | None = Field(
        default=None,
        ge=1,
        le=_MAX_LOOKUP,
        description=GenerationConfig.model_fields["prompt_lookup_num_tokens"].description,
    )
    past_block: Literal["restart", "slide"] | None = _setting("past_block")

    @property
    def top_n(self) -> int:
        """The number of alternatives to return for each token."""
        return 0

    @property
    def with_logprobs(self) -> bool:
        """Whether to return the tokens with their log-probabilities."""
        return False


class CompletionRequest(GenerationRequest):
    """Continue a text, as /v1/completions of OpenAI's API."""

    unsupported = {"logit_bias": ({},), "best_of": (1,), "suffix": ("",)}

    prompt: TextsOrIds = Field(default="", description="One or several prompts, as text or token ids.")
    echo: bool | None = Field(default=None, description="Return the prompt before the generated text.")
    logprobs: int | None = Field(
        default=None, ge=0, le=_MAX_LOGPROBS, description="Return log-probabilities, and this many alternatives."
    )

    @property
    def top_n(self) -> int:
        """The number of alternatives to return for each token."""
        return self.logprobs or 0

    @property
    def with_logprobs(self) -> bool:
        """Whether to return the tokens with their log-probabilities."""
        return self.logprobs is not None


class TextPart(RequestBody):
    """A part of a message."""

    type: Literal["text"]
    text: str


TextParts = Annotated[list[TextPart], Field(min_length=1, max_length=_MAX_MESSAGES, fail_fast=True)]


class ChatMessage(RequestBody):
    """A message of a dialogue."""

    unsupported = {"tool_calls": ([],), "function_call": (), "audio": (), "refusal": ("",)}

    role: Literal["system", "developer", "user", "assistant"] = Field(
        description="The speaker; developer is another name of system."
    )
    content: str | TextParts = Field(description="The text of the message.")
    name: str | None = Field(default=None, description="Accepted and ignored.")

    @property
    def text(self) -> str:
        """The text of the message."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class ChatRequest(GenerationRequest):
    """Reply to a dialogue, as /v1/chat/completions of OpenAI's API."""

    unsupported = {
        "logit_bias": ({},),
        "tools": ([],),
        "tool_choice": ("none", "auto"),
        "functions": ([],),
        "function_call": ("none", "auto"),
        "response_format": ({"type": "text"},),
        "modalities": (["text"],),
        "audio": (),
        "reasoning_effort": ("none",),
        "verbosity": (),
        "web_search_options": (),
    }

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=_MAX_MESSAGES, fail_fast=True)] = Field(
        description="An optional system message, then user and assistant in turns, the user's last. If they do not fit "
        "the context, the oldest exchanges are dropped."
    )
    max_completion_tokens: int | None = Field(default=None, ge=1, description="Another name of max_tokens.")
    logprobs: bool | None = Field(default=None, description="Return log-probabilities of the tokens.")
    top_logprobs: int | None = Field(
        default=None, ge=0, le=_MAX_LOGPROBS, description="With logprobs, the number of alternatives for each token."
    )

    @property
    def top_n(self) -> int:
        """The number of alternatives to return for each token."""
        return self.top_logprobs or 0

    @property
    def with_logprobs(self) -> bool:
        """Whether to return the tokens with their log-probabilities."""
        return bool(self.logprobs)


class EmbeddingsRequest(RequestBody):
    """Embed texts, as /v1/embeddings of OpenAI's API; a vector is the mean of the model's last hidden states."""

    model: str = Field(max_length=256, description="A name listed by /v1/models.")
    input: TextsOrIds = Field(description="One or several texts or lists of token ids.")
    encoding_format: Literal["float", "base64"] | None = Field(
        default=None, description="base64: the bytes of little-endian float32 numbers."
    )
    dimensions: int | None = Field(default=None, ge=1, description="The model's own width, if set.")


class ClassifyRequest(RequestBody):
    """Classify texts."""

    model: str = Field(max_length=256, description="A name listed by /v1/models.")
    input: Texts = Field(description="One or several texts.")
    pairs: Texts | None = Field(default=None, description="The second text of each, if the model was trained on pairs.")


class ScoreRequest(RequestBody):
    """Score texts, or words after a context."""

    model: str = Field(max_length=256, description="A name listed by /v1/models.")
    input: Texts | None = Field(default=None, description="Texts to score; alternatively set context and words.")
    context: str | None = Field(default=None, description="The text before the words.")
    words: TextList | None = Field(default=None, description="Words to score after the context.")
    top: int | None = Field(default=None, ge=0, le=1000, description="How many likeliest next tokens to return (10).")
    start_token: bool | None = Field(default=None, description="Put the document separator in front.")
    space: bool | None = Field(
        default=None, description="Put a space between context and word if the language needs one (true)."
    )


class ExplainRequest(RequestBody):
    """Explain which words of a text influenced a prediction."""

    model: str = Field(max_length=256, description="A name listed by /v1/models.")
    input: str = Field(description="The text.")
    continuation: str | None = Field(default=None, description="Explain this continuation of the text.")
    generate: int | None = Field(default=None, ge=1, description="Explain this many generated tokens.")
    label: ShortString | None = Field(default=None, description="Explain this class.")
    against: ShortString | None = Field(default=None, description="Explain the difference to this token or class.")
    next_token: bool | None = Field(default=None, description="Explain the next token, also with a classifier.")
    pair: str | None = Field(default=None, description="A classifier's second text.")
    start_token: bool | None = Field(default=None, description="Put the document separator before the text.")
    longest: int | None = Field(default=None, ge=1, description="Explain at most this many tokens, the last ones.")
    methods: Annotated[list[str], Field(max_length=len(METHODS), fail_fast=True)] | None = Field(
        default=None, description=f"Any of {', '.join(METHODS)} (occlusion, integrated-gradients)."
    )
    layer: int | None = Field(default=None, ge=1, description="The layer whose state the method information keeps.")
    attention: bool | None = Field(default=None, description="Return the attention maps of all layers and heads.")
    lens: bool | None = Field(default=None, description="Return what each layer would predict.")
    heads: bool | None = Field(default=None, description="Return the prediction without each head.")
    layers: bool | None = Field(default=None, description="Return how much information each layer keeps of each word.")
    without: (
        Annotated[
            list[Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=2, max_length=2, fail_fast=True)]],
            Field(max_length=_MAX_HEADS, fail_fast=True),
        ]
        | None
    ) = Field(default=None, description="Pairs of layer and head, from 0, to switch off together.")
    seed: int | None = Field(default=None, ge=0, lt=2**31, description="Seed of the method information (0).")
