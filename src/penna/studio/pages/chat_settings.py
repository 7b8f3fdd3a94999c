"""How one model of a conversation replies, as a form: its own settings in, `penna.api.chat.ChatSettings` out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nicegui import ui

from penna.api.chat import ChatSettings
from penna.config.generation import GenerationConfig
from penna.serve.settings import ServeSettings
from penna.studio.pages.settings_form import SettingsForm
from penna.studio.words import t

_SEEN = ("max_new_tokens", "temperature", "top_k", "top_p")
_FIELD = "outlined dense stack-label"


class ReplySettings:
    """The form of one model."""

    def __init__(self, limits: ServeSettings) -> None:
        """Draw it, folded."""
        with ui.expansion(t("chat.settings")).classes("fold"):
            with ui.element("div").classes("settings"):
                self._system = _described(lambda: ui.input("system"), "chat.system-means")
                self._seed = _described(lambda: ui.number("seed", value=0, precision=0, step=1), "chat.seed-means")
                self._limits = {
                    name: _described(lambda name=name: ui.number(name, precision=0, step=1), f"chat.{key}-means")
                    for name, key in (("history_tokens", "history-tokens"), ("history_turns", "history-turns"))
                }
            self._form = SettingsForm(_SEEN, limits)

    def show(self, own: GenerationConfig) -> None:
        """Fill in how the model replies unless told otherwise."""
        self._form.show(own)

    def settings(self) -> ChatSettings:
        """What is set. Raises RecipeError for what cannot be."""
        limits = {name: None if field.value in (None, "") else int(field.value) for name, field in self._limits.items()}
        system = (self._system.value or "").strip() or None
        return ChatSettings(self._form.config(), seed=int(self._seed.value or 0), system=system, **limits)


def _described(field: Callable[[], Any], key: str) -> Any:
    """A field with a sentence below it."""
    with ui.element("div").classes("setting"):
        drawn = field().props(_FIELD)
        ui.label(t(key)).classes("meaning")
    return drawn
