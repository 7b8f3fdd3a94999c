"""A form for generation settings, built from ``penna.config.generation``.

A field shows the run's own value. Only values that a person changes are given on, so choosing another decoding strategy
drops the run's conflicting settings (``penna.api.generation_defaults.override_settings``).
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
from penna.studio.i18n import t

Kind = Literal["integer", "number", "lines", "choice"]
_FIELD = "outlined dense stack-label"
STYLE = """
.settings{display:grid;gap:8px 14px;grid-template-columns:repeat(auto-fill,minmax(min(100%,200px),1fr));width:100%}
.setting{display:flex;flex-direction:column;gap:2px;min-width:0}
.setting .note{font-size:.8rem;line-height:1.3}
.fold{width:100%}
.body--dark .q-btn.text-primary{--q-primary:var(--accent)}
.fold .nicegui-expansion-content{padding:8px 0}
"""


def field_kind(name: str) -> tuple[Kind, tuple[Any, ...]]:
    """The kind of a setting's field, and its choices if it has any."""
    annotation: Any = GenerationConfig.model_fields[name].annotation
    if get_origin(annotation) is tuple:
        return "lines", ()
    parts: tuple[Any, ...] = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    choices = [choice for part in parts if get_origin(part) is Literal for choice in get_args(part)]
    if bool in parts:
        choices = [False, True, *choices]
    if choices:
        return "choice", tuple(choices)
    return ("number" if float in parts else "integer"), ()


def parse_value(name: str, content: Any) -> Any:
    """The value of a field's content. An empty field means no limit, or the setting's default."""
    kind, _ = field_kind(name)
    if kind == "lines":
        return tuple(re.sub(r"\\[n\\]", _unescape, line) for line in (content or "").splitlines() if line)
    if content in (None, ""):
        return GenerationConfig.model_fields[name].default
    return int(content) if kind == "integer" and float(content).is_integer() else content


def field_text(name: str, value: Any) -> Any:
    """The field's content for a value."""
    if field_kind(name)[0] == "lines":
        return "\n".join(map(_escape, value))
    return value


def _escape(text: str) -> str:
    r"""A text on one line, with line ends as \n."""
    return text.replace("\\", r"\\").replace("\n", r"\n")


def _unescape(escape: re.Match[str]) -> str:
    return "\n" if escape[0] == r"\n" else "\\"


def generation_flags(config: GenerationConfig, defaults: GenerationConfig) -> list[str]:
    """The command-line flags for settings that differ from the run's defaults."""
    words: list[str] = []
    for name in GenerationConfig.model_fields:
        value = getattr(config, name)
        if value == getattr(defaults, name):
            continue
        if not isinstance(value, tuple):
            words += flag_words(name, "none" if value is None else str(value).lower())
            continue
        for text in value:
            words += flag_words(name, _escape(text))
        if not value:
            words += flag_words(name, "none")
    return words


def flag_words(name: str, value: str) -> list[str]:
    """A flag and its value; one word if the value looks like another flag."""
    flag = f"--{name.replace('_', '-')}"
    return [f"{flag}={value}"] if value.startswith("-") else [flag, value]


class SettingsForm:
    """A field for each setting; the main ones are always visible, the others in a fold."""

    def __init__(self, main_fields: Sequence[str], limits: ServeSettings) -> None:
        self._defaults, self._limits = GenerationConfig(), limits
        self._fields: dict[str, Any] = {}
        with ui.element("div").classes("settings"):
            for name in main_fields:
                self._add_field(name)
        with ui.expansion(t("settings.all")).classes("fold"), ui.element("div").classes("settings"):
            for name in GenerationConfig.model_fields:
                if name not in main_fields:
                    self._add_field(name)

    def show(self, defaults: GenerationConfig) -> None:
        """Fill in a run's own settings."""
        self._defaults = defaults
        for name, field in self._fields.items():
            field.set_value(field_text(name, getattr(defaults, name)))

    def config(self) -> GenerationConfig:
        """The settings. Raises RecipeError for invalid ones, and the error of ``check_generation`` beyond a limit."""
        values = {name: parse_value(name, field.value) for name, field in self._fields.items()}
        changed = {name: value for name, value in values.items() if value != getattr(self._defaults, name)}
        config = override_settings(self._defaults, changed)
        check_generation(config, self._limits)
        return config

    def _add_field(self, name: str) -> None:
        kind, choices = field_kind(name)
        value = field_text(name, getattr(self._defaults, name))
        with ui.element("div").classes("setting"):
            field: Any
            if kind == "lines":
                field = ui.textarea(name, value=value).props(f"{_FIELD} autogrow rows=1")
            elif kind == "choice":
                labels = {choice: str(choice).lower() for choice in choices}
                field = ui.select(labels, label=name, value=value).props(_FIELD)
            else:
                field = ui.number(name, value=value, step=1 if kind == "integer" else 0.05).props(_FIELD)
            ui.label(t(f"settings.{name}")).classes("note")
        self._fields[name] = field
