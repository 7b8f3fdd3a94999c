"""The Chat page: conversations with one model, or the same message to two.

Replies come from the run's worker, as in ``penna serve``, and equal those of ``penna chat``. Conversations are stored
with the browser tab, by run, and survive a reload.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from nicegui import app, context, ui

from penna.api.chat import ChatSettings, reply_settings
from penna.config.generation import GenerationConfig
from penna.serve.settings import ServeSettings
from penna.studio.background import StoppableTask, UpdateThrottle
from penna.studio.conversation import ConversationTree, stream_reply
from penna.studio.i18n import t
from penna.studio.layout import busy, errors_shown_in, in_thread, note, page_layout, run_select, usable_runs
from penna.studio.pages import chat_transcript, settings_form
from penna.studio.pages.chat_transcript import Transcript
from penna.studio.pages.settings_form import SettingsForm
from penna.studio.workspace import Studio

_TASKS = ("chat",)
_STORAGE = "chat"
_MAIN_FIELDS = ("max_new_tokens", "temperature", "top_k", "top_p")
_FIELD = "outlined dense stack-label"
_ENTER = "(e) => { if (e.key === 'Enter' && !e.shiftKey && !e.isComposing) { e.preventDefault(); emit(); } }"
_STYLE = """
.conversations{display:grid;gap:14px;grid-template-columns:repeat(auto-fill,minmax(min(100%,360px),1fr));width:100%;
align-items:start}
.message{width:100%}.message .q-field{flex:1 1 260px}
"""


def add(studio: Studio) -> None:
    """Register the page."""
    ui.add_css(_STYLE + settings_form.STYLE + chat_transcript.STYLE, shared=True)

    @ui.page("/chat")
    async def chat(run: str = "") -> None:
        with page_layout(studio, "chat"):
            note("chat.about")
            if not usable_runs(studio, _TASKS):
                note("layout.no-run")
                return
            page = _Page(studio, run)
            await context.client.connected()
            await page.open()


class _ReplyForm:
    """The settings of one model's replies, in a fold."""

    def __init__(self, limits: ServeSettings) -> None:
        with ui.expansion(t("chat.settings")).classes("fold"):
            with ui.element("div").classes("settings"):
                self._system = _described(lambda: ui.input("system"), "chat.system-note")
                self._seed = _described(lambda: ui.number("seed", value=0, precision=0, step=1), "chat.seed-note")
                self._limits = {
                    name: _described(lambda name=name: ui.number(name, precision=0, step=1), key)
                    for name, key in (
                        ("history_tokens", "chat.history-tokens-note"),
                        ("history_turns", "chat.history-turns-note"),
                    )
                }
            self._form = SettingsForm(_MAIN_FIELDS, limits)

    def show(self, defaults: GenerationConfig) -> None:
        """Fill in the model's defaults."""
        self._form.show(defaults)

    def settings(self) -> ChatSettings:
        """The settings of the form. Raises RecipeError for invalid ones."""
        limits = {name: None if field.value in (None, "") else int(field.value) for name, field in self._limits.items()}
        system = (self._system.value or "").strip() or None
        return ChatSettings(self._form.config(), seed=int(self._seed.value or 0), system=system, **limits)


def _described(make_field: Callable[[], Any], key: str) -> Any:
    """A field with a note below it."""
    with ui.element("div").classes("setting"):
        field = make_field().props(_FIELD)
        note(key)
    return field


class _Column:
    """One model and its conversation."""

    def __init__(self, studio: Studio, label: str, remember: str, preselected: str | None) -> None:
        self._studio, self._storage = studio, f"{_STORAGE}.{remember}"
        self._conversation = ConversationTree()
        self.task: StoppableTask | None = None
        with ui.element("section").classes("card") as self.card:
            self.card.props["aria-label"] = label
            runs = run_select(
                studio,
                tasks=_TASKS,
                label=label,
                remember=remember,
                preselected=preselected,
                on_change=lambda _: self.open(),
            )
            assert runs is not None
            self.runs = runs
            self._form = _ReplyForm(studio.settings)
            self._errors = ui.element("div")
            self._transcript = Transcript(label, on_edit=self._edit, on_again=self._reply_again)

    async def open(self) -> None:
        """Show the conversation with the chosen model, and load the model."""
        stored = app.storage.tab.setdefault(self._storage, {})
        self._conversation = stored.setdefault(self.runs.value, ConversationTree())
        self._show()
        with errors_shown_in(self._errors):
            with self._errors, busy():
                worker = await self._studio.models.worker(self.runs.value)
                defaults = await in_thread(reply_settings, worker.loaded)
            self._form.show(defaults)

    async def send(self, line: str, after: int | None) -> bool:
        """Send a message after an exchange and show the reply as it grows. Return whether it could be sent."""
        is_sent = False
        with self._errors, errors_shown_in(self._errors):  # the button that was pressed may be redrawn meanwhile
            worker = await self._studio.models.worker(self.runs.value)
            conversation, settings = self._conversation, self._form.settings()
            pending = await in_thread(conversation.prepare, worker.loaded, settings, line, after)
            number, exchange, throttle = conversation.start(pending), pending.exchange, UpdateThrottle()
            is_sent = True
            self._show()
            try:
                async with aclosing(stream_reply(worker, pending)) as exchanges:
                    async for exchange in exchanges:
                        conversation.tree.replace(number, exchange)
                        if throttle.is_due(len(exchange.reply)):
                            self._transcript.update_reply(exchange)
            finally:
                if exchange.finish is None:
                    conversation.tree.replace(number, replace(exchange, finish="cancelled"))
                self._show()
        return is_sent

    def clear(self) -> None:
        """Start a new conversation; the old one is deleted."""
        self._conversation = app.storage.tab[self._storage][self.runs.value] = ConversationTree()
        self._errors.clear()
        self._show()

    @property
    def last(self) -> int | None:
        """The exchange that the next message follows."""
        return self._conversation.tree.current

    def _show(self) -> None:
        self._transcript.show(self._conversation, self.runs.value)

    async def _edit(self, number: int, line: str) -> None:
        """Add a version of an exchange."""
        if self.task is not None and not self.task.is_running:
            with self.task.running():
                await self.send(line, self._conversation.tree[number].parent)

    async def _reply_again(self, number: int) -> None:
        await self._edit(number, self._conversation.tree[number].value.line)


class _Page:
    """One visit: one or two columns, and the field for messages."""

    def __init__(self, studio: Studio, run: str) -> None:
        self._two = ui.switch(t("chat.two"), on_change=self._show_columns)
        with ui.element("div").classes("conversations"):
            self._columns = [
                _Column(studio, t("chat.first"), "chat", run),
                _Column(studio, t("chat.second"), "chat.second", None),
            ]
        self._columns[1].card.set_visibility(False)
        with ui.element("div").classes("line message"):
            self._line = ui.textarea(t("chat.line")).props("outlined dense autogrow rows=1")
            self._line.on("keydown", self._send, js_handler=_ENTER)
            send = ui.button(t("chat.send"), icon="send", on_click=self._send).props("unelevated")
            stop = ui.button(t("chat.stop"), icon="stop").props("outline")
            new = ui.button(t("chat.new"), on_click=self._clear).props("flat")
        note("chat.send-note")
        self._task = StoppableTask((send, new, self._two, *(column.runs for column in self._columns)), stop)
        for column in self._columns:
            column.task = self._task

    @property
    def _visible_columns(self) -> list[_Column]:
        return self._columns if self._two.value else self._columns[:1]

    async def open(self) -> None:
        """Show this tab's conversation."""
        await self._columns[0].open()

    async def _show_columns(self) -> None:
        has_two = bool(self._two.value)
        self._columns[1].card.set_visibility(has_two)
        if has_two:
            await self._columns[1].open()

    async def _send(self) -> None:
        line = (self._line.value or "").strip()
        if not line or self._task.is_running:
            return
        self._line.set_value("")
        with self._task.running():
            sent = await asyncio.gather(*(column.send(line, column.last) for column in self._visible_columns))
            if not any(sent):
                self._line.set_value(line)

    def _clear(self) -> None:
        for column in self._visible_columns:
            column.clear()
