"""How a text is written: the settings of every decoding strategy, checked together.

The names are those of Hugging Face's ``generation_config.json`` where it has them, so that a run's defaults mean the
same to other tools. Which strategy is meant follows from the fields: beams where ``num_beams`` is above 1, contrastive
search where ``penalty_alpha`` is given, else one token after another, drawn, or the likeliest where ``temperature`` is
0. What does not go together is refused by name.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterable, Mapping
from types import UnionType
from typing import Any, Literal, NamedTuple, Self, Union, cast, get_args, get_origin

from pydantic import Field, ValidationError, field_validator, model_validator

from penna.config.sections import Section
from penna.errors import RecipeError

_CONTRASTIVE, _BEAMS = "penalty_alpha (contrastive search)", "num_beams (beam search)"
_ONE_BY_ONE = ("prompt_lookup_num_tokens", "choices", "past_block")  # for texts that grow without a search
_DRAWING = ("top_k", "top_p", "min_p", "typical_p")  # what a draw is limited to


class GenerationConfig(Section):
    """How the next tokens are chosen, and when a text ends."""

    max_new_tokens: int = Field(default=200, ge=0, description="Tokens to write, at most.")
    min_new_tokens: int = Field(default=0, ge=0, description="No text ends by itself before so many.")
    temperature: float = Field(
        default=1.0,
        ge=0,
        allow_inf_nan=False,
        description="Below 1 tamer, above 1 wilder; 0 takes the likeliest.",
    )
    top_k: int | None = Field(
        default=None, ge=1, description="Only the so many likeliest tokens; contrastive search weighs these."
    )
    top_p: float | None = Field(
        default=None, gt=0, le=1, description="Only the likeliest tokens that make up this share (nucleus)."
    )
    min_p: float | None = Field(
        default=None, gt=0, le=1, description="Only tokens at least this share as likely as the likeliest."
    )
    typical_p: float | None = Field(
        default=None, gt=0, le=1, description="Only tokens of usual surprise that make up this share (locally typical)."
    )
    repetition_penalty: float = Field(
        default=1.0,
        gt=0,
        allow_inf_nan=False,
        description="Above 1, tokens that stand in prompt or text lose likelihood.",
    )
    presence_penalty: float = Field(
        default=0.0, allow_inf_nan=False, description="Taken off the logit of every token already written."
    )
    frequency_penalty: float = Field(
        default=0.0, allow_inf_nan=False, description="Taken off a token's logit for each time it was written."
    )
    no_repeat_ngram_size: int | None = Field(
        default=None, ge=1, description="No run of so many tokens is written twice; the prompt counts."
    )
    bad_words: tuple[str, ...] = Field(default=(), description="Never written, neither so nor behind a space.")
    stop: tuple[str, ...] = Field(default=(), description="A text ends where one of these comes, and without it.")
    choices: tuple[str, ...] = Field(default=(), description="The text is one of these.")
    num_beams: int = Field(default=1, ge=1, description="Partial texts kept side by side (beam search).")
    num_beam_groups: int = Field(
        default=1, ge=1, description="Groups of beams that keep apart from each other (diverse beam search)."
    )
    diversity_penalty: float = Field(
        default=0.0, ge=0, allow_inf_nan=False, description="Taken off what an earlier group of beams chose."
    )
    length_penalty: float = Field(
        default=1.0, ge=-10, le=10, description="A beam's score is divided by its length to this power."
    )
    early_stopping: bool | Literal["never"] = Field(
        default=False,
        description="Beams end: true, once so many are finished; false, once none is likely to do better; never, once "
        "none can.",
    )
    penalty_alpha: float | None = Field(
        default=None, ge=0, le=1, description="Contrastive search: the weight of being unlike what stands before."
    )
    prompt_lookup_num_tokens: int | None = Field(
        default=None, ge=1, description="Tokens guessed ahead from the text before, at most; the result stays the same."
    )
    past_block: Literal["restart", "slide"] = Field(
        default="restart",
        description="Behind a full block: restart from its last half, or slide it on token by token, which is slow.",
    )

    @field_validator("bad_words", "stop", "choices")
    @classmethod
    def _none_is_empty(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        if "" in texts:
            raise ValueError("an empty text stands everywhere; give at least one character")
        return texts

    @model_validator(mode="after")
    def _fields_fit(self) -> Self:
        if self.min_new_tokens > self.max_new_tokens:
            raise ValueError(f"min_new_tokens = {self.min_new_tokens} is above max_new_tokens = {self.max_new_tokens}")
        drawing = [name for name in _DRAWING if getattr(self, name) is not None]
        tempered = ["temperature"] if self.temperature not in (0, 1) else []
        if self.penalty_alpha is not None:
            self._refuse(_CONTRASTIVE, [*(name for name in drawing if name != "top_k"), *tempered])
            self._refuse_unless_default(_CONTRASTIVE, "num_beams", *_ONE_BY_ONE)
            if self.top_k is None or self.top_k == 1:
                raise ValueError(f"{_CONTRASTIVE} chooses among top_k tokens: give a top_k above 1")
        elif self.num_beams > 1:
            self._refuse(_BEAMS, [*drawing, *tempered])
            self._refuse_unless_default(_BEAMS, *_ONE_BY_ONE)
        elif self.temperature == 0 and drawing:
            raise ValueError(f"temperature = 0 takes the likeliest token, and {_listed(drawing)} limits a draw")
        if self.num_beams == 1:
            for name in ("num_beam_groups", "diversity_penalty", "length_penalty", "early_stopping"):
                if getattr(self, name) != type(self).model_fields[name].default:
                    raise ValueError(f"{name} = {getattr(self, name)} belongs to beam search: give num_beams above 1")
        elif self.num_beams % self.num_beam_groups:
            raise ValueError(f"num_beams = {self.num_beams} does not divide into {self.num_beam_groups} groups")
        if (self.num_beam_groups > 1) != (self.diversity_penalty > 0):
            raise ValueError("num_beam_groups above 1 and a diversity_penalty above 0 go together")
        if self.choices:
            self._refuse_unless_default(
                "choices", "min_new_tokens", "bad_words", "stop", "no_repeat_ngram_size", "prompt_lookup_num_tokens"
            )
        return self

    def _refuse_unless_default(self, owner: str, *names: str) -> None:
        self._refuse(owner, [name for name in names if getattr(self, name) != type(self).model_fields[name].default])

    def _refuse(self, owner: str, names: list[str]) -> None:
        if names:
            raise ValueError(f"{_listed(names)} does not go with {owner}: leave one of them out")

    @property
    def is_greedy(self) -> bool:
        """Whether each token is the likeliest one, rather than drawn."""
        return self.temperature == 0

    @property
    def strategy(self) -> Literal["greedy", "sample", "beam", "contrastive"]:
        """Which kind of decoding the fields mean."""
        if self.penalty_alpha is not None:
            return "contrastive"
        if self.num_beams > 1:
            return "beam"
        return "greedy" if self.is_greedy else "sample"

    def explicit_settings(self) -> dict[str, Any]:
        """The fields that were given, or differ from their defaults."""
        return {
            name: value
            for name, value in self
            if name in self.model_fields_set or value != type(self).model_fields[name].default
        }


def generation_config(values: Mapping[str, Any]) -> GenerationConfig:
    """Settings as a checked whole. Raises RecipeError, which names every fault."""
    try:
        return GenerationConfig.model_validate(dict(values))
    except ValidationError as error:
        faults = [_fault(detail) for detail in error.errors()]
        raise RecipeError(
            " ".join(dict.fromkeys(fault[0] for fault in faults)),
            " ".join(dict.fromkeys(fault[1] for fault in faults)),
            "Change or leave out that setting.",
        ) from error


def _fault(detail: Any) -> tuple[str, str]:
    """One pydantic fault as (what happened, what is expected)."""
    message = str(detail["msg"]).removeprefix("Value error, ")
    name = str(detail["loc"][0]) if detail["loc"] else ""
    if not name:
        return f"These settings cannot go together: {message}.", "Settings of one decoding strategy."
    if detail["type"] == "extra_forbidden":
        return f"There is no setting {name!r}.", f"Settings: {', '.join(GenerationConfig.model_fields)}."
    field = GenerationConfig.model_fields[name]
    return f"{name} = {detail['input']!r} cannot be: {message[0].lower()}{message[1:]}.", f"{name}: {field.description}"


def _listed(names: list[str]) -> str:
    return " and ".join(names)


# MERGED config.generation_words: Settings of writing as words: ``temperature=0.5 stop="a b"`` in, values by name
# out, and back.
#
# What ``--strategy``, chat's ``/set`` and the studio's strategies are written in. What a field takes comes from the
# model itself, which checks them. pydantic takes longer to be imported than all of ``penna --help``, so the model is
# imported only where it is asked.


_ESCAPES = {r"\n": "\n", r"\t": "\t", r"\\": "\\"}  # in texts of the command line, where a line end is hard to type


class SettingType(NamedTuple):  # a dataclass would have to import inspect
    """What values a field takes."""

    base: type  # int, float or str
    words: tuple[str, ...] = ()  # that may be given
    optional: bool = False
    repeatable: bool = False

    @property
    def metavar(self) -> str:
        """As help shows a value."""
        return "|".join(self.words) or {int: "N", float: "X", str: "TEXT"}[self.base]

    @property
    def sentence(self) -> str:
        """What a value is."""
        if self.words:
            return " or ".join(self.words)
        return {int: "a whole number", float: "a number", str: "a text"}[self.base] + (
            ", or none" if self.optional or self.repeatable else ""
        )


_KINDS = {  # of what is set beside the model's fields
    "history_tokens": SettingType(int, optional=True),
    "history_turns": SettingType(int, optional=True),
    "seed": SettingType(int),
}


def parse_settings(text: str, extra: Collection[str] = ()) -> dict[str, Any]:
    """``temperature=0.5 top_k=none stop="a b"`` as settings; ``greedy`` stands for temperature=0.

    ``more`` names what may be set beside the fields of writing. Raises RecipeError for what sets nothing.
    """
    lexer = shlex.shlex(text, posix=True, punctuation_chars=False)
    lexer.whitespace_split, lexer.commenters, lexer.escape = True, "", ""  # a backslash is the value's
    try:
        split = list(lexer)
    except ValueError as error:
        raise RecipeError(
            f"{text} cannot be read: {str(error)[0].lower()}{str(error)[1:]}.",
            'NAME=VALUE with spaces between; a value with spaces in it stands in quotes: stop="a b".',
            "Close the quotes.",
        ) from error
    given: dict[str, Any] = {}
    for word in split:
        name, equals, value = word.partition("=")
        name = name.replace("-", "_")
        if word == "greedy":
            name, value = "temperature", "0"
        elif not equals or name not in (*_fields(), *extra):
            raise RecipeError(
                f"{word} sets nothing.",
                f"NAME=VALUE, where NAME is {', '.join((*_fields(), *extra))}.",
                "For example: temperature=0.5",
            )
        found = parse_value(name, value)
        given[name] = (*given.get(name, ()), *found) if setting_type(name).repeatable else found
    return given


def parse_strategy(words: str) -> tuple[str, dict[str, Any]]:
    """``NAME: SETTINGS`` as a name and settings; without a name the settings are it."""
    name, colon, rest = words.partition(":")
    is_named = bool(colon) and "=" not in name
    name, rest = (name.strip(), rest) if is_named else (words.strip(), words)
    if not name:
        raise RecipeError(
            f"The strategy {words!r} has no name.",
            "Settings, or a name, a colon and settings.",
            'Such as --strategy "top_p=0.9 temperature=0.7".',
        )
    return name, parse_settings(rest)


def parse_value(name: str, word: str) -> Any:
    """A word as the value of a setting. Raises RecipeError where it is of another kind."""
    kind = setting_type(name)
    if kind.repeatable:
        return parse_texts(name, [word])
    if word == "none" and kind.optional:
        return None
    if word in kind.words:
        return {"true": True, "false": False}.get(word, word)
    try:
        if not kind.words:
            return kind.base(word)
    except ValueError:
        pass
    raise RecipeError(f"{name} = {word!r} cannot be.", f"{name} is {kind.sentence}.", "Change that setting.")


def format_value(value: Any) -> str:
    """A setting's value as it is typed behind NAME=."""
    if isinstance(value, tuple):
        return ",".join(shlex.quote(each) for each in cast(tuple[str, ...], value)) or "none"
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def setting_type(name: str) -> SettingType:
    """What values a setting takes."""
    if name in _KINDS:
        return _KINDS[name]
    from penna.config.generation import GenerationConfig

    annotation: Any = GenerationConfig.model_fields[name].annotation
    if get_origin(annotation) is tuple:
        return SettingType(str, repeatable=True)
    parts: tuple[Any, ...] = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    words = [word for part in parts if get_origin(part) is Literal for word in get_args(part)]
    if bool in parts:
        words = ["true", "false", *words]
    base = str if words else float if float in parts else int
    return SettingType(base, tuple(words), optional=type(None) in parts)


def parse_texts(name: str, words: Iterable[str]) -> tuple[str, ...]:
    """The texts of a setting that takes several."""
    words = list(words)
    if "" in words:
        raise RecipeError(
            f"{name} = '' cannot be: an empty text stands everywhere.",
            "A text of one character or more.",
            r"Leave it out; a line end is written \n.",
        )
    if words == ["none"]:
        return ()
    return tuple(re.sub(r"\\[nt\\]", lambda found: _ESCAPES[found[0]], word) for word in words)


def _fields() -> tuple[str, ...]:
    from penna.config.generation import GenerationConfig

    return tuple(GenerationConfig.model_fields)
