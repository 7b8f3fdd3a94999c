"""The settings of writing as a form, made from `penna.config.generation`: a run's own in, what was changed out.

A field shows what counts for the run; only what a person changes is given, so that a changed strategy lets those of the
run's settings give way that belong to the other one (`penna.api.generation_defaults.laid_over`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from nicegui import ui

from penna.api.generation_defaults import override_settings
from penna.config.generation import GenerationConfig
from penna.serve.limits import check_generation
from penna.serve.settings import ServeSettings
from penna.studio.words import t

Kind = Literal["whole", "number", "texts", "words"]
_FIELD = "outlined dense stack-label"


def kind_of(name: str) -> tuple[Kind, tuple[Any, ...]]:
    """What values a setting takes; of "words", which."""
    annotation: Any = GenerationConfig.model_fields[name].annotation
    if get_origin(annotation) is tuple:
        return "texts", ()
    parts: tuple[Any, ...] = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    words = [word for part in parts if get_origin(part) is Literal for word in get_args(part)]
    if bool in parts:
        words = [False, True, *words]
    if words:
        return "words", tuple(words)
    return ("number" if float in parts else "whole"), ()


def value_of(name: str, typed: Any) -> Any:
    """What a field's content stands for; an empty field is no limit, or what usually counts."""
    kind, _ = kind_of(name)
    if kind == "texts":
        return tuple(re.sub(r"\\[n\\]", _meant, line) for line in (typed or "").splitlines() if line)
    if typed in (None, ""):
        return GenerationConfig.model_fields[name].default
    return int(typed) if kind == "whole" and float(typed).is_integer() else typed


def typed_of(name: str, value: Any) -> Any:
    """What stands in the field of a value."""
    if kind_of(name)[0] == "texts":
        return "\n".join(map(_on_one_line, value))
    return value


def _on_one_line(text: str) -> str:
    """A text as it is typed where a line end is hard to type."""
    return text.replace("\\", r"\\").replace("\n", r"\n")


def _meant(escape: re.Match[str]) -> str:
    return "\n" if escape[0] == r"\n" else "\\"


def flags(config: GenerationConfig, own: GenerationConfig) -> list[str]:
    """The words that say the same in the terminal, for a run whose own settings are ``own``."""
    words: list[str] = []
    for name in GenerationConfig.model_fields:
        value = getattr(config, name)
        if value == getattr(own, name):
            continue
        if not isinstance(value, tuple):
            words += flag(name, "none" if value is None else str(value).lower())
            continue
        for text in value:
            words += flag(name, _on_one_line(text))
        if not value:
            words += flag(name, "none")
    return words


def flag(name: str, value: str) -> list[str]:
    """A setting and its value as words; in one word where the value would be taken for another flag."""
    option = f"--{name.replace('_', '-')}"
    return [f"{option}={value}"] if value.startswith("-") else [option, value]


class SettingsForm:
    """Fields for all settings: some always seen, the rest within a fold."""

    def __init__(self, seen: Sequence[str], limits: ServeSettings) -> None:
        """Draw it. ``show`` says whose settings they are."""
        self._own, self._limits = GenerationConfig(), limits
        self._fields: dict[str, Any] = {}
        with ui.element("div").classes("settings"):
            for name in seen:
                self._draw(name)
        with ui.expansion(t("settings.all")).classes("fold"), ui.element("div").classes("settings"):
            for name in GenerationConfig.model_fields:
                if name not in seen:
                    self._draw(name)

    def show(self, own: GenerationConfig) -> None:
        """Fill in a run's own settings."""
        self._own = own
        for name, field in self._fields.items():
            field.set_value(typed_of(name, getattr(own, name)))

    def given(self) -> dict[str, Any]:
        """What differs from the run's own."""
        values = {name: value_of(name, field.value) for name, field in self._fields.items()}
        return {name: value for name, value in values.items() if value != getattr(self._own, name)}

    def config(self) -> GenerationConfig:
        """The settings. Raises RecipeError for what cannot be, RequestRejected for what is too much for a page."""
        config = override_settings(self._own, self.given())
        check_generation(config, self._limits)
        return config

    def _draw(self, name: str) -> None:
        kind, words = kind_of(name)
        own = typed_of(name, getattr(self._own, name))
        with ui.element("div").classes("setting"):
            field: Any
            if kind == "texts":
                field = ui.textarea(name, value=own).props(f"{_FIELD} autogrow rows=1")
            elif kind == "words":
                field = ui.select({word: str(word).lower() for word in words}, label=name, value=own).props(_FIELD)
            else:
                field = ui.number(name, value=own, step=1 if kind == "whole" else 0.05).props(_FIELD)
            ui.label(t(f"settings.{name}")).classes("meaning")
        self._fields[name] = field
