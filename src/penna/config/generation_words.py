"""Settings of writing as words: ``temperature=0.5 stop="a b"`` in, values by name out, and back.

What ``--strategy``, chat's ``/set`` and the studio's strategies are written in. What a field takes comes from the
model itself, which checks them. pydantic takes longer to be imported than all of ``penna --help``, so the model is
imported only where it is asked.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterable
from types import UnionType
from typing import Any, Literal, NamedTuple, Union, cast, get_args, get_origin

from penna.errors import RecipeError

_ESCAPES = {r"\n": "\n", r"\t": "\t", r"\\": "\\"}  # in texts of the command line, where a line end is hard to type


class Kind(NamedTuple):  # a dataclass would have to import inspect
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
    "history_tokens": Kind(int, optional=True),
    "history_turns": Kind(int, optional=True),
    "seed": Kind(int),
}


def settings_of(words: str, more: Collection[str] = ()) -> dict[str, Any]:
    """``temperature=0.5 top_k=none stop="a b"`` as settings; ``greedy`` stands for temperature=0.

    ``more`` names what may be set beside the fields of writing. Raises RecipeError for what sets nothing.
    """
    lexer = shlex.shlex(words, posix=True, punctuation_chars=False)
    lexer.whitespace_split, lexer.commenters, lexer.escape = True, "", ""  # a backslash is the value's
    try:
        split = list(lexer)
    except ValueError as error:
        raise RecipeError(
            f"{words} cannot be read: {str(error)[0].lower()}{str(error)[1:]}.",
            'NAME=VALUE with spaces between; a value with spaces in it stands in quotes: stop="a b".',
            "Close the quotes.",
        ) from error
    given: dict[str, Any] = {}
    for word in split:
        name, equals, value = word.partition("=")
        name = name.replace("-", "_")
        if word == "greedy":
            name, value = "temperature", "0"
        elif not equals or name not in (*_fields(), *more):
            raise RecipeError(
                f"{word} sets nothing.",
                f"NAME=VALUE, where NAME is {', '.join((*_fields(), *more))}.",
                "For example: temperature=0.5",
            )
        found = setting(name, value)
        given[name] = (*given.get(name, ()), *found) if kind_of(name).repeatable else found
    return given


def strategy_of(words: str) -> tuple[str, dict[str, Any]]:
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
    return name, settings_of(rest)


def setting(name: str, word: str) -> Any:
    """A word as the value of a setting. Raises RecipeError where it is of another kind."""
    kind = kind_of(name)
    if kind.repeatable:
        return texts_of(name, [word])
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


def shown(value: Any) -> str:
    """A setting's value as it is typed behind NAME=."""
    if isinstance(value, tuple):
        return ",".join(shlex.quote(each) for each in cast(tuple[str, ...], value)) or "none"
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def kind_of(name: str) -> Kind:
    """What values a setting takes."""
    if name in _KINDS:
        return _KINDS[name]
    from penna.config.generation import GenerationConfig

    annotation: Any = GenerationConfig.model_fields[name].annotation
    if get_origin(annotation) is tuple:
        return Kind(str, repeatable=True)
    parts: tuple[Any, ...] = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    words = [word for part in parts if get_origin(part) is Literal for word in get_args(part)]
    if bool in parts:
        words = ["true", "false", *words]
    base = str if words else float if float in parts else int
    return Kind(base, tuple(words), optional=type(None) in parts)


def texts_of(name: str, words: Iterable[str]) -> tuple[str, ...]:
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
