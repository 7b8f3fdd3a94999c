"""The playground: a prompt and settings in, a text out as it is written; any token can be looked into and changed.

Texts come through the run's worker, as those of `penna serve` do, and are what `penna generate` writes. Their versions
are kept with the browser's tab, by run, so that a reload loses none.
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace
from typing import cast

from nicegui import app, context, ui

from penna.api.generate import DEFAULT_CONFIG
from penna.serve.worker import Worker
from penna.studio.branches import Branches
from penna.studio.drafts import Draft, begun, branched, written
from penna.studio.frame import busy, frame, heading, in_thread, meaning, run_select, told_problems
from penna.studio.jobs import as_typed
from penna.studio.pages import playground_tree, settings_words, token_panel, token_text
from penna.studio.pages.flow import Flow, Pace
from penna.studio.pages.playground_side import SideBySide, facts
from penna.studio.pages.playground_tree import Tree
from penna.studio.pages.playground_words import WORDS as WORDS
from penna.studio.pages.settings_form import SettingsForm, flag, flags
from penna.studio.pages.token_panel import TokenPanel
from penna.studio.pages.token_text import TokenText
from penna.studio.state import Studio
from penna.studio.words import add as add_words
from penna.studio.words import t

_TASKS = ("pretrain", "chat")
_SEEN = ("max_new_tokens", "temperature", "top_k", "top_p")
_KEPT = "playground"
_STYLE = """
.play{display:grid;gap:14px;grid-template-columns:minmax(0,3fr) minmax(260px,2fr);width:100%;align-items:start}
.play .aside{display:flex;flex-direction:column;gap:14px;min-width:0}
.prompt-field{width:100%}
@media (max-width:900px){.play{grid-template-columns:minmax(0,1fr)}}
"""


def add(studio: Studio) -> None:
    """Put the page in place."""
    add_words(WORDS)
    add_words(settings_words.WORDS)
    style = _STYLE + settings_words.STYLE + token_text.STYLE + token_panel.STYLE + playground_tree.STYLE
    ui.add_css(style, shared=True)

    @ui.page("/playground")
    async def playground(run: str = "") -> None:
        with frame(studio, "playground"):
            meaning("play.about")
            page = _Page(studio, run)
            if page.has_runs:
                await context.client.connected()
                await page.open()


class _Page:
    """One visit."""

    def __init__(self, studio: Studio, run: str) -> None:
        self._studio = studio
        runs = run_select(studio, tasks=_TASKS, remember="play", wanted=run, on_change=lambda _: self.open())
        self.has_runs = runs is not None
        if runs is None:
            return
        self._runs = runs
        self._worker: Worker | None = None
        self._branches: Branches[Draft] = Branches()
        self._prompt = ui.textarea(t("play.prompt")).props("outlined autogrow").classes("prompt-field")
        self._form = SettingsForm(_SEEN, studio.settings)
        with ui.element("div").classes("line"):
            write = ui.button(t("play.write"), icon="edit", on_click=self._write).props("unelevated")
            stop = ui.button(t("play.stop"), icon="stop").props("outline")
            more = ui.button(t("play.more"), icon="more_horiz", on_click=self._more).props("outline")
            self._seed = ui.number(t("play.seed"), value=0, precision=0, step=1).props("outlined dense")
            ui.label(t("play.seed-means")).classes("meaning")
        self._told = ui.element("div")
        with ui.element("div").classes("play"):
            self._draw_text()
            with ui.element("div").classes("aside"):
                self._panel = TokenPanel(self._branch)
                self._tree = Tree(self._show)
        with ui.expansion(t("play.side")).classes("fold"):
            self._side_told = ui.element("div")
            self._side = SideBySide(self._keep)
            side = self._side.button(self._write_side)
        self._flow = Flow((write, more, side, runs), stop)

    def _draw_text(self) -> None:
        with ui.element("section").classes("card") as card:
            card.props["aria-label"] = t("play.text")
            heading(t("play.text"))
            self._text = TokenText(t("play.text"), self._choose)
            self._facts = ui.label(t("play.empty")).classes("name").props("role=status")
            meaning("play.colours")
            self._command = ui.element("div")

    async def open(self) -> None:
        """Load the run that is chosen, and show what was written with it."""
        kept = app.storage.tab.setdefault(_KEPT, {})
        self._branches = cast("Branches[Draft]", kept.setdefault(self._runs.value, Branches()))
        self._side.clear()
        with told_problems(self._told):
            with self._told, busy():
                self._worker = await self._studio.models.worker(self._runs.value)
            self._form.show(self._worker.defaults(DEFAULT_CONFIG))
            self._side.offer(self._worker.loaded.require_tokenizer().vocab_size)
            self._show()

    async def _write(self) -> None:
        """A new text."""
        if self._flow.is_running:
            return
        with self._told, told_problems(self._told), self._flow.running():
            worker = await self._ready()
            config, seed = self._form.config(), int(self._seed.value or 0)
            draft = await in_thread(begun, worker.loaded, self._prompt.value or "", config, seed)
            await self._grow(worker, draft, None)

    async def _more(self) -> None:
        """The text that is looked at, and as many tokens again."""
        draft = self._branches.value
        if draft is None or self._flow.is_running:
            return
        with self._told, told_problems(self._told), self._flow.running():
            worker = await self._ready()
            new = self._form.config().max_new_tokens
            config = draft.config.model_copy(update={"max_new_tokens": len(draft.tokens) + new})
            longer = replace(draft, config=config, kept=len(draft.tokens), finish=None)
            await self._grow(worker, longer, self._branches.current)

    async def _branch(self, place: int, index: int) -> None:
        """The text that is looked at with another token, and on from there."""
        draft = self._branches.value
        if draft is None or self._flow.is_running:
            return
        with self._told, told_problems(self._told), self._flow.running():
            worker = await self._ready()
            branch = branched(worker.loaded.require_tokenizer(), draft, place, index)
            await self._grow(worker, branch, self._branches.current)

    async def _write_side(self) -> None:
        if self._flow.is_running:
            return
        with self._side_told, told_problems(self._side_told), self._flow.running():
            worker = await self._ready()
            await self._side.write(worker, self._prompt.value or "", self._form.config(), int(self._seed.value or 0))

    def _keep(self, draft: Draft) -> None:
        self._branches.go(None)
        self._branches.add(draft)
        self._show()

    async def _ready(self) -> Worker:
        """The run's worker; asked for in the task that uses it, which keeps it loaded meanwhile."""
        self._worker = await self._studio.models.worker(self._runs.value)
        return self._worker

    async def _grow(self, worker: Worker, draft: Draft, behind: int | None) -> None:
        """Write a draft as a version behind another, and show it as it grows."""
        branches, tokenizer, pace = self._branches, worker.loaded.require_tokenizer(), Pace()
        self._facts.set_text(t("play.writing"))
        self._panel.clear()
        number: int | None = None
        try:
            async with aclosing(written(worker, [draft])) as grown:
                async for _, longer in grown:
                    draft = longer
                    if number is None:
                        branches.go(behind)
                        number = branches.add(draft).number
                    branches.put(number, draft)
                    if pace.is_due(len(draft.text)):
                        self._text.show(draft, tokenizer)
        finally:
            if number is not None and draft.finish is None:
                branches.put(number, replace(draft, finish="cancelled"))
            self._show()

    def _show(self) -> None:
        """Show the version that is looked at."""
        with self._told:  # whoever asked for it may be drawn anew by it
            self._show_version(self._branches.value)

    def _show_version(self, draft: Draft | None) -> None:
        self._tree.show(self._branches)
        self._panel.clear()
        self._command.clear()
        if draft is None or self._worker is None:
            self._text.clear()
            self._facts.set_text(t("play.empty"))
            return
        self._text.show(draft, self._worker.loaded.require_tokenizer())
        self._facts.set_text(facts(draft))
        if not draft.kept:
            words = ["penna", "generate", str(self._studio.runs_dir / self._runs.value), *flag("prompt", draft.prompt)]
            words += ["--seed", str(draft.seed), *flags(draft.config, self._worker.defaults(DEFAULT_CONFIG))]
            with self._command:
                ui.label(t("play.command")).classes("name")
                ui.label(as_typed(words)).classes("code")

    def _choose(self, place: int) -> None:
        draft = self._branches.value
        if draft is not None and self._worker is not None and 0 <= place < len(draft.tokens):
            self._panel.show(draft, place, self._worker.loaded.require_tokenizer())
