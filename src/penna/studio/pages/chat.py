"""The page of conversations: lines in, replies as they are written; one model, or two that are told the same.

Replies come through the run's worker, as those of `penna serve` do, and are what `penna chat` gives. Conversations are
kept with the browser's tab, by run, so that a reload loses none.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace

from nicegui import app, context, ui

from penna.api.chat import reply_settings
from penna.studio.conversation import Talk, replied
from penna.studio.frame import busy, frame, in_thread, meaning, run_select, told_problems, usable
from penna.studio.pages import settings_words, transcript
from penna.studio.pages.chat_settings import ReplySettings
from penna.studio.pages.chat_words import WORDS as WORDS
from penna.studio.pages.flow import Flow, Pace
from penna.studio.pages.transcript import Transcript
from penna.studio.state import Studio
from penna.studio.words import add as add_words
from penna.studio.words import t

_TASKS = ("chat",)
_KEPT = "chat"
_ENTER = "(e) => { if (e.key === 'Enter' && !e.shiftKey && !e.isComposing) { e.preventDefault(); emit(); } }"
_STYLE = """
.talks{display:grid;gap:14px;grid-template-columns:repeat(auto-fit,minmax(min(100%,360px),1fr));width:100%;
align-items:start}
.say{width:100%}.say .q-field{flex:1 1 260px}
"""


def add(studio: Studio) -> None:
    """Put the page in place."""
    add_words(WORDS)
    add_words(settings_words.WORDS)
    ui.add_css(_STYLE + settings_words.STYLE + transcript.STYLE, shared=True)

    @ui.page("/chat")
    async def chat(run: str = "") -> None:
        with frame(studio, "chat"):
            meaning("chat.about")
            if not usable(studio, _TASKS):
                run_select(studio, tasks=_TASKS)  # says so
                return
            page = _Page(studio, run)
            await context.client.connected()
            await page.open()


class _Column:
    """One model, and what was said with it."""

    def __init__(self, studio: Studio, label: str, remember: str, wanted: str | None) -> None:
        self._studio, self._remember = studio, remember
        self._talk = Talk()
        self.flow: Flow | None = None
        with ui.element("section").classes("card") as self.card:
            self.card.props["aria-label"] = label
            runs = run_select(
                studio, tasks=_TASKS, label=label, remember=remember, wanted=wanted, on_change=lambda _: self.open()
            )
            assert runs is not None
            self.runs = runs
            self._settings = ReplySettings(studio.settings)
            self._told = ui.element("div")
            self._transcript = Transcript(label, on_edit=self._edit, on_again=self._again)

    async def open(self) -> None:
        """Load the model that is chosen, and show what was said with it."""
        kept = app.storage.tab.setdefault(f"{_KEPT}.{self._remember}", {})
        self._talk = kept.setdefault(self.runs.value, Talk())
        self._show()
        with told_problems(self._told):
            with self._told, busy():
                worker = await self._studio.models.worker(self.runs.value)
                own = await in_thread(reply_settings, worker.loaded)
            self._settings.show(own)

    async def say(self, line: str, behind: int | None) -> bool:
        """Say a line behind an exchange, and show the reply as it grows; what goes wrong is shown in its place.

        Whether it could be said.
        """
        is_said = False
        with self._told, told_problems(self._told):  # what was pressed may be drawn anew meanwhile
            worker = await self._studio.models.worker(self.runs.value)
            talk, settings = self._talk, self._settings.settings()
            asked = await in_thread(talk.asked, worker.loaded, settings, line, behind)
            number, exchange, pace = talk.begin(asked), asked.exchange, Pace()
            is_said = True
            self._show()
            try:
                async with aclosing(replied(worker, asked)) as grown:
                    async for exchange in grown:
                        talk.branches.put(number, exchange)
                        if pace.is_due(len(exchange.reply)):
                            self._transcript.grow(exchange)
            finally:
                if exchange.finish is None:
                    talk.branches.put(number, replace(exchange, finish="cancelled"))
                self._show()
        return is_said

    def forget(self) -> None:
        """Begin a new conversation; the versions of the old one stay reachable no more."""
        kept = app.storage.tab[f"{_KEPT}.{self._remember}"]
        self._talk = kept[self.runs.value] = Talk()
        self._told.clear()
        self._show()

    @property
    def last(self) -> int | None:
        """The exchange that the next line follows."""
        return self._talk.branches.current

    def _show(self) -> None:
        self._transcript.show(self._talk, self.runs.value)

    async def _edit(self, number: int, line: str) -> None:
        await self._anew(line, number)

    async def _again(self, number: int) -> None:
        await self._anew(self._talk.branches[number].value.line, number)

    async def _anew(self, line: str, number: int) -> None:
        """Another version of an exchange."""
        if self.flow is not None and not self.flow.is_running:
            with self.flow.running():
                await self.say(line, self._talk.branches[number].parent)


class _Page:
    """One visit: a column or two, and the line that is said in them."""

    def __init__(self, studio: Studio, run: str) -> None:
        self._two = ui.switch(t("chat.two"), on_change=self._shown)
        with ui.element("div").classes("talks"):
            self._columns = [
                _Column(studio, t("chat.first"), "chat", run),
                _Column(studio, t("chat.second"), "chat.second", None),
            ]
        self._columns[1].card.set_visibility(False)
        with ui.element("div").classes("line say"):
            self._line = ui.textarea(t("chat.line")).props("outlined dense autogrow rows=1")
            self._line.on("keydown", self._say, js_handler=_ENTER)
            send = ui.button(t("chat.send"), icon="send", on_click=self._say).props("unelevated")
            stop = ui.button(t("chat.stop"), icon="stop").props("outline")
            new = ui.button(t("chat.new"), on_click=self._new).props("flat")
        meaning("chat.send-means")
        self._flow = Flow((send, new, self._two, *(column.runs for column in self._columns)), stop)
        for column in self._columns:
            column.flow = self._flow

    async def open(self) -> None:
        """Show what was said in this tab."""
        await self._columns[0].open()

    async def _shown(self) -> None:
        is_two = bool(self._two.value)
        self._columns[1].card.set_visibility(is_two)
        if is_two:
            await self._columns[1].open()

    async def _say(self) -> None:
        line = (self._line.value or "").strip()
        if not line or self._flow.is_running:
            return
        self._line.set_value("")
        columns = self._columns if self._two.value else self._columns[:1]
        with self._flow.running():
            said = await asyncio.gather(*(column.say(line, column.last) for column in columns))
            if not any(said):
                self._line.set_value(line)

    def _new(self) -> None:
        for column in self._columns if self._two.value else self._columns[:1]:
            column.forget()
