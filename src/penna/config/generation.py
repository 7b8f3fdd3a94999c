"""Settings of text generation: one model for all decoding strategies, and their ``NAME=VALUE`` text form.

Names are those of Hugging Face's ``generation_config.json`` where it has them. The strategy follows from the fields:
beam search if ``num_beams`` is above 1, contrastive search if ``penalty_alpha`` is given, greedy decoding if
``temperature`` is 0, otherwise sampling.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterable, Mapping
from itertools import groupby
from types import UnionType
from typing import Any, Literal, NamedTuple, Self, Union, cast, get_args, get_origin

from pydantic import Field, ValidationError, field_validator, model_validator

from penna.config.sections import Section
from penna.config.validation import describe_errors, did_you_mean
from penna.errors import RecipeError

_CONTRASTIVE, _BEAMS = "penalty_alpha (contrastive search)", "num_beams (beam search)"
_WITHOUT_SEARCH = ("prompt_lookup_num_tokens", "choices", "past_block")  # only for greedy decoding and sampling
_SAMPLING_LIMITS = ("top_k", "top_p", "min_p", "typical_p")


class GenerationConfig(Section):
    """How the next tokens are chosen, and when a text ends."""

    max_new_tokens: int = Field(default=200, ge=0, description="Maximum number of tokens to generate.")
    min_new_tokens: int = Field(default=0, ge=0, description="Minimum number of tokens before a text may end.")
    temperature: float = Field(
        default=1.0,
        ge=0,
        allow_inf_nan=False,
        description="Sampling temperature: below 1 more conservative, above 1 more random; 0: greedy.",
    )
    top_k: int | None = Field(
        default=None,
        ge=1,
        description="Keep only the k most likely tokens; contrastive search chooses among them.",
    )
    top_p: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Keep only the most likely tokens whose probabilities add up to p (nucleus sampling).",
    )
    min_p: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Keep only tokens at least this fraction as likely as the most likely token.",
    )
    typical_p: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Keep only the most typical tokens whose probabilities add up to p (locally typical sampling).",
    )
    repetition_penalty: float = Field(
        default=1.0,
        gt=0,
        allow_inf_nan=False,
        description="Above 1, makes tokens of the prompt and the text so far less likely.",
    )
    presence_penalty: float = Field(
        default=0.0, allow_inf_nan=False, description="Subtracted from the logit of every token generated before."
    )
    frequency_penalty: float = Field(
        default=0.0,
        allow_inf_nan=False,
        description="Subtracted from a token's logit once for each time it was generated before.",
    )
    no_repeat_ngram_size: int | None = Field(
        default=None, ge=1, description="Never repeat an n-gram of this many tokens, including those in the prompt."
    )
    bad_words: tuple[str, ...] = Field(
        default=(), description="Texts never to generate, with or without a leading space."
    )
    stop: tuple[str, ...] = Field(default=(), description="Stop strings: a text ends before the first of them.")
    choices: tuple[str, ...] = Field(default=(), description="Generate exactly one of these texts.")
    num_beams: int = Field(default=1, ge=1, description="Number of beams (beam search if above 1).")
    num_beam_groups: int = Field(
        default=1, ge=1, description="Number of groups of beams that avoid each other's tokens (diverse beam search)."
    )
    diversity_penalty: float = Field(
        default=0.0,
        ge=0,
        allow_inf_nan=False,
        description="Subtracted from the scores of tokens that earlier beam groups chose.",
    )
    length_penalty: float = Field(
        default=1.0, ge=-10, le=10, description="A beam's score is divided by its length to this power."
    )
    early_stopping: bool | Literal["never"] = Field(
        default=False,
        description="When beam search stops. true: as soon as num_beams texts are finished. false: when a better text "
        "is unlikely. never: when a better text is impossible.",
    )
    penalty_alpha: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Contrastive search: weight of the penalty for tokens similar to the text so far.",
    )
    prompt_lookup_num_tokens: int | None = Field(
        default=None,
        ge=1,
        description="Prompt lookup: propose up to this many tokens copied from the text so far. Faster, same result.",
    )
    past_block: Literal["restart", "slide"] = Field(
        default="restart",
        description="When the context is full. restart: keep its last half. slide: drop one token per step (slow).",
    )

    @field_validator("bad_words", "stop", "choices")
    @classmethod
    def _check_not_empty(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        if "" in texts:
            raise ValueError("must not contain an empty text")
        return texts

    @model_validator(mode="after")
    def _check_fields_fit(self) -> Self:
        if self.min_new_tokens > self.max_new_tokens:
            raise ValueError(
                f"min_new_tokens = {self.min_new_tokens} must not exceed max_new_tokens = {self.max_new_tokens}"
            )
        limits = [name for name in _SAMPLING_LIMITS if getattr(self, name) is not None]
        temperature = ["temperature"] if self.temperature not in (0, 1) else []
        if self.penalty_alpha is not None:
            self._refuse(_CONTRASTIVE, [*(name for name in limits if name != "top_k"), *temperature])
            self._refuse_unless_default(_CONTRASTIVE, "num_beams", *_WITHOUT_SEARCH)
            if self.top_k is None or self.top_k == 1:
                raise ValueError(f"{_CONTRASTIVE} needs a top_k above 1")
        elif self.num_beams > 1:
            self._refuse(_BEAMS, [*limits, *temperature])
            self._refuse_unless_default(_BEAMS, *_WITHOUT_SEARCH)
        elif self.temperature == 0:
            self._refuse("temperature = 0 (greedy decoding)", limits)
        if self.num_beams == 1:
            for name in ("num_beam_groups", "diversity_penalty", "length_penalty", "early_stopping"):
                if getattr(self, name) != type(self).model_fields[name].default:
                    raise ValueError(f"{name} = {getattr(self, name)} needs beam search: give num_beams above 1")
        elif self.num_beams % self.num_beam_groups:
            raise ValueError(f"num_beams = {self.num_beams} must be divisible into {self.num_beam_groups} groups")
        if (self.num_beam_groups > 1) != (self.diversity_penalty > 0):
            raise ValueError("num_beam_groups above 1 and diversity_penalty above 0 must be given together")
        if self.choices:
            self._refuse_unless_default(
                "choices", "min_new_tokens", "bad_words", "stop", "no_repeat_ngram_size", "prompt_lookup_num_tokens"
            )
        return self

    def _refuse_unless_default(self, owner: str, *names: str) -> None:
        self._refuse(owner, [name for name in names if getattr(self, name) != type(self).model_fields[name].default])

    def _refuse(self, owner: str, names: list[str]) -> None:
        if names:
            raise ValueError(f"{' and '.join(names)} cannot be combined with {owner}")

    @property
    def is_greedy(self) -> bool:
        """Whether the temperature is 0, so that nothing is drawn at random."""
        return self.temperature == 0

    @property
    def strategy(self) -> Literal["greedy", "sample", "beam", "contrastive"]:
        """The decoding strategy that the fields select."""
        if self.penalty_alpha is not None:
            return "contrastive"
        if self.num_beams > 1:
            return "beam"
        return "greedy" if self.is_greedy else "sample"

    def explicit_settings(self) -> dict[str, Any]:
        """The fields that were given or differ from their defaults."""
        return {
            name: value
            for name, value in self
            if name in self.model_fields_set or value != type(self).model_fields[name].default
        }


def generation_config(values: Mapping[str, Any]) -> GenerationConfig:
    """Validate settings. Raises RecipeError that names every error."""
    try:
        return GenerationConfig.model_validate(dict(values))
    except ValidationError as error:
        by_field = groupby(error.errors(), key=lambda detail: detail["loc"][:1])
        errors = [_explain_errors(list(details)) for _, details in by_field]
        raise RecipeError(
            " ".join(happened for happened, _ in errors),
            " ".join(dict.fromkeys(expected for _, expected in errors)),
            "Change that setting or leave it out.",
        ) from error


def _explain_errors(details: list[Any]) -> tuple[str, str]:
    """The errors of one field as (what happened, what was expected)."""
    if not details[0]["loc"]:
        message = describe_errors("", details)
        return f"These settings do not fit together: {message}", "Settings of one decoding strategy are needed."
    name, *index = map(str, details[0]["loc"])
    fields = GenerationConfig.model_fields
    if details[0]["type"] == "extra_forbidden":
        return f"There is no setting {name!r}.{did_you_mean(name, fields)}", f"Settings: {', '.join(fields)}."
    element = f"[{index[0]}]" if index and index[0].isdecimal() else ""
    return describe_errors(name + element, details), f"{name}: {fields[name].description}"


# Settings as text: ``temperature=0.5 stop="a b"``, the form of --strategy, of /set in a chat, and of the studio.

_ESCAPES = {r"\n": "\n", r"\t": "\t", r"\\": "\\"}  # a line end is hard to type on a command line


class SettingType(NamedTuple):
    """The values that a setting may have."""

    type: type  # int, float or str
    choices: tuple[str, ...] = ()
    is_optional: bool = False
    is_repeatable: bool = False

    @property
    def metavar(self) -> str:
        """The value's placeholder in ``--help``."""
        return "|".join(self.choices) or {int: "N", float: "X", str: "TEXT"}[self.type]

    @property
    def description(self) -> str:
        """The rule for values, after "must be"."""
        if self.choices:
            return " or ".join(self.choices)
        return {int: "a whole number", float: "a number", str: "text"}[self.type] + (
            " or none" if self.is_optional or self.is_repeatable else ""
        )


_EXTRA_SETTINGS = {  # of a chat
    "history_tokens": SettingType(int, is_optional=True),
    "history_turns": SettingType(int, is_optional=True),
    "seed": SettingType(int),
}


def parse_settings(text: str, extra: Collection[str] = ()) -> dict[str, Any]:
    """Parse ``temperature=0.5 top_k=none stop="a b"``; the word ``greedy`` means temperature=0.

    ``extra`` names settings that are allowed besides the fields of GenerationConfig. Raises RecipeError for an unknown
    setting or a value of the wrong type.
    """
    lexer = shlex.shlex(text, posix=True, punctuation_chars=False)
    lexer.whitespace_split, lexer.commenters, lexer.escape = True, "", ""  # a backslash is part of the value
    try:
        words = list(lexer)
    except ValueError as error:
        raise RecipeError(
            f"The settings {text} cannot be read: {str(error)[0].lower()}{str(error)[1:]}.",
            'Settings have the form NAME=VALUE, with spaces in between; quote a value with spaces: stop="a b".',
            "Close the quotes.",
        ) from error
    known = (*GenerationConfig.model_fields, *extra)
    given: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        name = name.replace("-", "_")
        if word == "greedy":
            name, value = "temperature", "0"
        elif not equals or name not in known:
            raise RecipeError(
                f"{word!r} is not a setting.{did_you_mean(name, known)}",
                f"Settings have the form NAME=VALUE, where NAME is one of {', '.join(known)}.",
                "For example: temperature=0.5",
            )
        parsed = parse_value(name, value)
        given[name] = (*given.get(name, ()), *parsed) if setting_type(name).is_repeatable else parsed
    return given


def parse_strategy(text: str) -> tuple[str, dict[str, Any]]:
    """Parse ``NAME: SETTINGS`` into a name and settings; without a name, the settings' text is the name."""
    name, colon, settings = text.partition(":")
    is_named = bool(colon) and "=" not in name
    name, settings = (name.strip(), settings) if is_named else (text.strip(), text)
    if not name:
        raise RecipeError(
            f"The strategy {text!r} has no name.",
            "A strategy is a list of settings, or a name, a colon and settings.",
            'For example: --strategy "top_p=0.9 temperature=0.7".',
        )
    return name, parse_settings(settings)


def parse_value(name: str, text: str) -> Any:
    """Parse the value of a setting. Raises RecipeError for a value of the wrong type."""
    kind = setting_type(name)
    if kind.is_repeatable:
        return parse_texts(name, [text])
    if text == "none" and kind.is_optional:
        return None
    if text in kind.choices:
        return {"true": True, "false": False}.get(text, text)
    try:
        if not kind.choices:
            return kind.type(text)
    except ValueError:
        pass
    description = f"{name}: {GenerationConfig.model_fields[name].description}" if name not in _EXTRA_SETTINGS else ""
    raise RecipeError(f"{name} must be {kind.description} (got {text!r}).", description, "Change that setting.")


def parse_texts(name: str, texts: Iterable[str]) -> tuple[str, ...]:
    r"""Parse the values of a setting that takes several texts: ``\n`` becomes a line end, "none" an empty list."""
    texts = list(texts)
    if "" in texts:
        raise RecipeError(
            f"{name} must not be empty.",
            "The text needs at least one character.",
            r"Leave the setting out, or write \n for a line end.",
        )
    if texts == ["none"]:
        return ()
    return tuple(re.sub(r"\\[nt\\]", lambda found: _ESCAPES[found[0]], text) for text in texts)


def format_value(value: Any) -> str:
    """A setting's value as it is typed after ``NAME=``."""
    if isinstance(value, tuple):
        return ",".join(shlex.quote(each) for each in cast(tuple[str, ...], value)) or "none"
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def setting_type(name: str) -> SettingType:
    """The values that a setting may have."""
    if name in _EXTRA_SETTINGS:
        return _EXTRA_SETTINGS[name]
    annotation: Any = GenerationConfig.model_fields[name].annotation
    if get_origin(annotation) is tuple:
        return SettingType(str, is_repeatable=True)
    parts: tuple[Any, ...] = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    choices = [choice for part in parts if get_origin(part) is Literal for choice in get_args(part)]
    if bool in parts:
        choices = ["true", "false", *choices]
    value_type = str if choices else float if float in parts else int
    return SettingType(value_type, tuple(choices), is_optional=type(None) in parts)
