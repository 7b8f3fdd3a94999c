"""How texts are written, as words: a flag for every field of GenerationConfig, and ``NAME=VALUE`` for the same.

Name, description and type of each come from the model itself, and the values are checked there. pydantic takes longer
to be imported than all of ``penna --help``, so that it is imported only where one of the verbs that write is called.
"""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Collection, Iterable, Mapping
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


def add_generation_arguments(parser: argparse.ArgumentParser, own: Mapping[str, str]) -> None:
    """A flag for every setting of writing, and ``--greedy``; ``own`` says what counts where the run says nothing."""
    from penna.config.generation import GenerationConfig

    group = parser.add_argument_group(
        "how texts are written",
        "What is given here is laid over the run's own settings (its generation_config.json); without those, what "
        "stands in brackets counts. Where it chooses another strategy than the run's, all that chose the run's gives "
        "way: --num-beams 4 is enough where the run draws at a temperature, and --top-p 0.9 where it is greedy, which "
        "then draws at temperature 1. --top-k none takes a limit of the run away. In texts, \\n is a line end.",
    )
    alone = group.add_mutually_exclusive_group()
    alone.add_argument("--greedy", action="store_true", help="always the likeliest token: --temperature 0")
    for name, field in GenerationConfig.model_fields.items():
        kind, target = kind_of(name), alone if name == "temperature" else group
        usual = own.get(name, "" if field.default is None or kind.repeatable else str(field.default).lower())
        described = (field.description or "").rstrip(".")
        described = described[:1].lower() + described[1:] + ("; repeatable" if kind.repeatable else "")
        target.add_argument(
            f"--{name.replace('_', '-')}",
            action="append" if kind.repeatable else "store",
            metavar=kind.metavar,
            help=(described + (f" ({usual})" if usual else "")).replace("%", "%%"),
        )


def given_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings that flags give. Raises RecipeError for a value of another kind."""
    from penna.config.generation import GenerationConfig

    given: dict[str, Any] = {}
    for name in GenerationConfig.model_fields:
        words = getattr(arguments, name)
        if words is not None:
            given[name] = _values(name, words) if isinstance(words, list) else setting(name, words)
    return {**given, "temperature": 0.0} if arguments.greedy else given


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
        return _values(name, [word])
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


def _values(name: str, words: Iterable[str]) -> tuple[str, ...]:
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
