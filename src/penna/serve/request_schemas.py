"""What may be asked of the server: the bodies of its requests, closed to fields that are not known.

Fields are those of OpenAI's API, with every setting of `penna.config.generation` beside them. What that API has and
Penna has not is refused by name where it would change the answer, and left aside where it would not. Null stands for a
field that is not given. Texts are texts: no field is ever opened as a file or an address. Every list has an end and is
given up at its first fault: a body may hold half a million of them, and to tell each would take seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from penna.config.generation import GenerationConfig
from penna.explain.explanation import METHODS
from penna.serve.errors import RequestRejected

_LONGEST_WORD = 1024  # characters of a stop string, a bad word or a choice
_WORDS = 256  # bad words or choices
_GUESSED = 32  # tokens guessed ahead
_TOP = 20  # alternatives told beside a token, as in OpenAI's API
_TEXTS = 4096  # texts, before the server's own limit is looked at
_IDS = 1 << 18  # tokens of a text, likewise
_TURNS = 1024  # of a dialogue, and parts of a turn
_HEADS = 1024  # that are switched off
_FIELDS = 128  # more than any body has

Word = Annotated[str, Field(min_length=1, max_length=_LONGEST_WORD)]
Words = Annotated[list[Word], Field(max_length=_WORDS, fail_fast=True)]
TokenIds = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1, max_length=_IDS, fail_fast=True)]
Several = Annotated[list[str], Field(max_length=_TEXTS, fail_fast=True)]
Texts = str | Annotated[Several, Field(min_length=1)]
TextsOrIds = Texts | TokenIds | Annotated[list[TokenIds], Field(min_length=1, max_length=_TEXTS, fail_fast=True)]

_NEVER_READ = frozenset(
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
"""Fields of OpenAI's API that change no answer: left aside."""


class RequestBody(BaseModel):
    """Base of all bodies: closed to unknown fields, and exact about types ("5" is no number)."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    unserved: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    """Fields of OpenAI's API that are not served, with the values that ask for nothing; null is one of them."""

    @model_validator(mode="before")
    @classmethod
    def _without_what_is_not_served(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        if len(values) > _FIELDS:
            raise RequestRejected(
                f"An object of the body has {len(values):,} fields.",
                f"At most {_FIELDS}; /openapi.json describes every one.",
                "Leave out those that are not known here.",
            )
        for name, idle in cls.unserved.items():
            if name in values and values[name] is not None and not any(values[name] == value for value in idle):
                raise RequestRejected(
                    f"{name} is not served here.",
                    f"A request without {name}: Penna has no such thing, and the answer would not be what was asked.",
                    "Leave it out.",
                    param=name,
                    code="unsupported_parameter",
                )
        left_out = _NEVER_READ | cls.unserved.keys()
        return {name: value for name, value in values.items() if name not in left_out}


def _setting(name: str) -> Any:
    """The field of a body that stands for a setting of writing, within the same bounds."""
    field = GenerationConfig.model_fields[name]
    bounds = {key: getattr(part, key) for part in field.metadata for key in ("ge", "gt", "le") if hasattr(part, key)}
    return Field(default=None, description=field.description, **bounds)


class StreamOptions(RequestBody):
    """How a stream is told."""

    include_usage: bool | None = Field(default=None, description="A last chunk says how many tokens there were.")
    include_obfuscation: bool | None = Field(default=None, description="Taken and left aside.")


class GenerationRequest(RequestBody):
    """What every request to write may say. What it leaves open is as the run's own settings say."""

    model: str = Field(max_length=256, description="A name that /v1/models lists.")
    stream: bool | None = Field(default=None, description="Tell the text in pieces as it grows, as server-sent events.")
    stream_options: StreamOptions | None = None
    n: int | None = Field(default=None, ge=1, description="Texts of each prompt: with seed, seed + 1, …")
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63, description="Another seed, another text; none: any.")
    max_tokens: int | None = Field(default=None, ge=0, description="Tokens to write, at most.")
    stop: Word | Words | None = _setting("stop")
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
    bad_words: Words | None = _setting("bad_words")
    choices: Words | None = _setting("choices")
    num_beams: int | None = _setting("num_beams")
    num_beam_groups: int | None = _setting("num_beam_groups")
    diversity_penalty: float | None = _setting("diversity_penalty")
    length_penalty: float | None = _setting("length_penalty")
    early_stopping: bool | Literal["never"] | None = _setting("early_stopping")
    penalty_alpha: float | None = _setting("penalty_alpha")
    prompt_lookup_num_tokens: int | None = Field(
        default=None,
        ge=1,
        le=_GUESSED,
        description=GenerationConfig.model_fields["prompt_lookup_num_tokens"].description,
    )
    past_block: Literal["restart", "slide"] | None = _setting("past_block")

    @property
    def top_n(self) -> int:
        """How many alternatives are told beside each token."""
        return 0

    @property
    def tells_tokens(self) -> bool:
        """Whether each token is told with its probability."""
        return False


class CompletionRequest(GenerationRequest):
    """Go on with a text, as /v1/completions of OpenAI's API."""

    unserved = {"logit_bias": ({},), "best_of": (1,), "suffix": ("",)}

    prompt: TextsOrIds = Field(default="", description="What to go on from, as text or token ids; one, or several.")
    echo: bool | None = Field(default=None, description="Tell the prompt before what is written.")
    logprobs: int | None = Field(
        default=None, ge=0, le=_TOP, description="Tell each token's log-probability, and so many alternatives."
    )

    @property
    def top_n(self) -> int:
        """How many alternatives are told beside each token."""
        return self.logprobs or 0

    @property
    def tells_tokens(self) -> bool:
        """Whether each token is told with its probability."""
        return self.logprobs is not None


class TextPart(RequestBody):
    """A part of a turn."""

    type: Literal["text"]
    text: str


Parts = Annotated[list[TextPart], Field(min_length=1, max_length=_TURNS, fail_fast=True)]


class ChatMessage(RequestBody):
    """A turn of a dialogue."""

    unserved = {"tool_calls": ([],), "function_call": (), "audio": (), "refusal": ("",)}

    role: Literal["system", "developer", "user", "assistant"] = Field(
        description="Who speaks; developer is another name of system."
    )
    content: str | Parts = Field(description="What is said: text alone.")
    name: str | None = Field(default=None, description="Taken and left aside.")

    @property
    def text(self) -> str:
        """What is said."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class ChatRequest(GenerationRequest):
    """Reply to a dialogue, as /v1/chat/completions of OpenAI's API."""

    unserved = {
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

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=_TURNS, fail_fast=True)] = Field(
        description="The turns so far: a system turn or none, then the user's and the assistant's by turns, the user's "
        "last. Where they do not fit, whole exchanges are left out from the oldest."
    )
    max_completion_tokens: int | None = Field(default=None, ge=1, description="Another name of max_tokens.")
    logprobs: bool | None = Field(default=None, description="Tell each token's log-probability.")
    top_logprobs: int | None = Field(
        default=None, ge=0, le=_TOP, description="With logprobs, so many alternatives beside each token."
    )

    @property
    def top_n(self) -> int:
        """How many alternatives are told beside each token."""
        return self.top_logprobs or 0

    @property
    def tells_tokens(self) -> bool:
        """Whether each token is told with its probability."""
        return bool(self.logprobs)


class EmbeddingsRequest(RequestBody):
    """Texts as vectors, as /v1/embeddings of OpenAI's API: the mean of the model's last hidden states."""

    model: str = Field(max_length=256, description="A name that /v1/models lists.")
    input: TextsOrIds = Field(description="Texts or token ids; one, or several.")
    encoding_format: Literal["float", "base64"] | None = Field(
        default=None, description="base64: the bytes of little-endian float32 numbers."
    )
    dimensions: int | None = Field(default=None, ge=1, description="The model's own width, or none.")


class ClassifyRequest(RequestBody):
    """The classes of texts."""

    model: str = Field(max_length=256, description="A name that /v1/models lists.")
    input: Texts = Field(description="A text, or several.")
    pairs: Texts | None = Field(
        default=None, description="The second text of each, where the model learned from pairs."
    )


class ScoreRequest(RequestBody):
    """How likely a model finds texts; or, behind a context, words."""

    model: str = Field(max_length=256, description="A name that /v1/models lists.")
    input: Texts | None = Field(default=None, description="Texts to score; or context and words.")
    context: str | None = Field(default=None, description="What stands before the words.")
    words: Several | None = Field(default=None, description="Each is scored behind the context.")
    top: int | None = Field(default=None, ge=0, le=1000, description="So many of the likeliest next tokens (10).")
    start_token: bool | None = Field(default=None, description="Put the document separator in front.")
    space: bool | None = Field(
        default=None, description="Put a space between context and word where one is due (true)."
    )


class ExplainRequest(RequestBody):
    """Which words of a text moved a model's answer."""

    model: str = Field(max_length=256, description="A name that /v1/models lists.")
    input: str = Field(description="The text.")
    continuation: str | None = Field(default=None, description="Ask about this text behind it.")
    generate: int | None = Field(default=None, ge=1, description="Ask about so many tokens the model would write.")
    label: Word | None = Field(default=None, description="Ask about this class.")
    against: Word | None = Field(default=None, description="Why not this token, or class, instead.")
    next_token: bool | None = Field(default=None, description="Of a classifier, too, ask about the next token.")
    pair: str | None = Field(default=None, description="A classifier's second text.")
    start_token: bool | None = Field(default=None, description="Read the document separator before the text.")
    longest: int | None = Field(default=None, ge=1, description="Tokens explained at most, the last ones.")
    methods: Annotated[list[str], Field(max_length=len(METHODS), fail_fast=True)] | None = Field(
        default=None, description=f"Ways of answering, of {', '.join(METHODS)} (occlusion, integrated-gradients)."
    )
    layer: int | None = Field(default=None, ge=1, description="Whose state the method information keeps.")
    attention: bool | None = Field(default=None, description="The maps of every layer and head.")
    lens: bool | None = Field(default=None, description="What each layer would answer.")
    heads: bool | None = Field(default=None, description="The answer with each head switched off.")
    layers: bool | None = Field(default=None, description="The information that each layer keeps of each word.")
    without: (
        Annotated[
            list[Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=2, max_length=2, fail_fast=True)]],
            Field(max_length=_HEADS, fail_fast=True),
        ]
        | None
    ) = Field(default=None, description="Layers and heads, from 0, that are switched off together.")
    seed: int | None = Field(default=None, ge=0, lt=2**31, description="Of the method information (0).")
