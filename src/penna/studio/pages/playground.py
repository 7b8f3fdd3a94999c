"""The Playground page: generate text token by token, inspect and replace any token, compare strategies.

Texts come from the run's worker, as in ``penna serve``, and equal those of ``penna generate``. Their versions are
stored with the browser tab, by run, and survive a reload.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, cast

from nicegui import app, context, ui

from penna.api.generate import DEFAULT_CONFIG
from penna.api.generation_defaults import override_settings
from penna.api.strategies import Strategy, default_grid
from penna.config.generation import GenerationConfig
from penna.serve.worker import Worker
from penna.studio.background import StoppableTask, UpdateThrottle
from penna.studio.drafts import Draft, branch_draft, new_draft, stream_drafts
from penna.studio.i18n import t
from penna.studio.layout import (
    busy,
    errors_shown_in,
    heading,
    in_thread,
    note,
    page_layout,
    run_select,
    show_command,
)
from penna.studio.pages import settings_form, token_view
from penna.studio.pages.settings_form import SettingsForm, flag_words, generation_flags
from penna.studio.pages.token_view import TokenPanel, TokenText, VersionTree, token_html
from penna.studio.training_processes import shell_command
from penna.studio.undo_tree import UndoTree
from penna.studio.workspace import Studio
from penna.tokenizer.tokenizer import Tokenizer

_TASKS = ("pretrain", "chat")
_MAIN_FIELDS = ("max_new_tokens", "temperature", "top_k", "top_p")
_PRESELECTED = ("greedy", "beam 4", "top-p 0.9", "contrastive 0.6")  # strategies to compare
_STORAGE = "playground"
_STYLE = """
.play{display:grid;gap:14px;grid-template-columns:minmax(0,3fr) minmax(260px,2fr);width:100%;align-items:start}
.play .aside{display:flex;flex-direction:column;gap:14px;min-width:0}
.prompt-field{width:100%}
@media (max-width:900px){.play{grid-template-columns:minmax(0,1fr)}}
"""


def add(studio: Studio) -> None:
    """Register the page."""
    ui.add_css(_STYLE + settings_form.STYLE + token_view.STYLE, shared=True)

    @ui.page("/playground")
    async def playground(run: str = "") -> None:
        with page_layout(studio, "playground"):
            note("playground.about")
            page = _Page(studio, run)
            if page.has_runs:
                await context.client.connected()
                await page.open()


class _Page:
    """One visit."""

    def __init__(self, studio: Studio, run: str) -> None:
        self._studio = studio
        runs = run_select(studio, tasks=_TASKS, remember="play", preselected=run, on_change=lambda _: self.open())
        self.has_runs = runs is not None
        if runs is None:
            return
        self._runs = runs
        self._worker: Worker | None = None
        self._versions: UndoTree[Draft] = UndoTree()
        self._prompt = ui.textarea(t("playground.prompt")).props("outlined autogrow").classes("prompt-field")
        self._form = SettingsForm(_MAIN_FIELDS, studio.settings)
        with ui.element("div").classes("line"):
            generate = ui.button(t("playground.write"), icon="edit", on_click=self._generate).props("unelevated")
            stop = ui.button(t("playground.stop"), icon="stop").props("outline")
            more = ui.button(t("playground.more"), icon="more_horiz", on_click=self._continue).props("outline")
            self._seed = ui.number(t("playground.seed"), value=0, precision=0, step=1).props("outlined dense")
            note("playground.seed-note")
        self._errors = ui.element("div")
        with ui.element("div").classes("play"):
            self._add_text_card()
            with ui.element("div").classes("aside"):
                self._panel = TokenPanel(self._replace_token)
                self._tree = VersionTree(self._show)
        with ui.expansion(t("playground.side")).classes("fold"):
            self._side_errors = ui.element("div")
            self._side = _SideBySide(self._keep)
            side = self._side.add_button(self._generate_side_by_side)
        self._task = StoppableTask((generate, more, side, runs), stop)

    def _add_text_card(self) -> None:
        with ui.element("section").classes("card") as card:
            card.props["aria-label"] = t("playground.text")
            heading(t("playground.text"))
            self._text = TokenText(t("playground.text"), self._select_token)
            self._facts = ui.label(t("playground.empty")).classes("name").props("role=status")
            note("playground.colors")
            self._command = ui.element("div")

    async def open(self) -> None:
        """Load the chosen run and show its texts."""
        stored = app.storage.tab.setdefault(_STORAGE, {})
        self._versions = cast("UndoTree[Draft]", stored.setdefault(self._runs.value, UndoTree()))
        self._side.clear()
        with errors_shown_in(self._errors):
            with self._errors, busy():
                self._worker = await self._studio.models.worker(self._runs.value)
            self._form.show(self._worker.defaults(DEFAULT_CONFIG))
            self._side.offer(self._worker.loaded.require_tokenizer().vocab_size)
            self._show()

    async def _generate(self) -> None:
        """Generate a new text."""
        if self._task.is_running:
            return
        with self._errors, errors_shown_in(self._errors), self._task.running():
            worker = await self._current_worker()
            config, seed = self._form.config(), int(self._seed.value or 0)
            draft = await in_thread(new_draft, worker.loaded, self._prompt.value or "", config, seed)
            await self._grow(worker, draft, None)

    async def _continue(self) -> None:
        """Continue the current text by as many tokens again."""
        draft = self._versions.value
        if draft is None or self._task.is_running:
            return
        with self._errors, errors_shown_in(self._errors), self._task.running():
            worker = await self._current_worker()
            added = self._form.config().max_new_tokens
            config = draft.config.model_copy(update={"max_new_tokens": len(draft.tokens) + added})
            longer = replace(draft, config=config, kept=len(draft.tokens), finish=None)
            await self._grow(worker, longer, self._versions.current)

    async def _replace_token(self, place: int, token_id: int) -> None:
        """Replace a token of the current text and continue from it."""
        draft = self._versions.value
        if draft is None or self._task.is_running:
            return
        with self._errors, errors_shown_in(self._errors), self._task.running():
            worker = await self._current_worker()
            branch = branch_draft(worker.loaded.require_tokenizer(), draft, place, token_id)
            await self._grow(worker, branch, self._versions.current)

    async def _generate_side_by_side(self) -> None:
        if self._task.is_running:
            return
        with self._side_errors, errors_shown_in(self._side_errors), self._task.running():
            worker = await self._current_worker()
            config, seed = self._form.config(), int(self._seed.value or 0)
            await self._side.generate(worker, self._prompt.value or "", config, seed)

    def _keep(self, draft: Draft) -> None:
        """Add a text of a strategy to the versions."""
        self._versions.select(None)
        self._versions.add(draft)
        self._show()

    async def _current_worker(self) -> Worker:
        """The run's worker. The task that calls this keeps it loaded."""
        self._worker = await self._studio.models.worker(self._runs.value)
        return self._worker

    async def _grow(self, worker: Worker, draft: Draft, parent: int | None) -> None:
        """Add a draft as a version after ``parent``, and show it as it grows."""
        versions, tokenizer, throttle = self._versions, worker.loaded.require_tokenizer(), UpdateThrottle()
        self._facts.set_text(t("playground.writing"))
        self._panel.clear()
        number: int | None = None
        try:
            async with aclosing(stream_drafts(worker, [draft])) as drafts:
                async for _, longer in drafts:
                    draft = longer
                    if number is None:
                        versions.select(parent)
                        number = versions.add(draft).number
                    versions.replace(number, draft)
                    if throttle.is_due(len(draft.text)):
                        self._text.show(draft, tokenizer)
        finally:
            if number is not None and draft.finish is None:
                versions.replace(number, replace(draft, finish="cancelled"))
            self._show()

    def _show(self) -> None:
        """Show the current version."""
        with self._errors:  # the element that was clicked may be redrawn
            self._show_version(self._versions.value)

    def _show_version(self, draft: Draft | None) -> None:
        self._tree.show(self._versions)
        self._panel.clear()
        self._command.clear()
        if draft is None or self._worker is None:
            self._text.clear()
            self._facts.set_text(t("playground.empty"))
            return
        self._text.show(draft, self._worker.loaded.require_tokenizer())
        self._facts.set_text(facts(draft))
        if not draft.kept:
            run = str(self._studio.runs_dir / self._runs.value)
            words = ["penna", "generate", run, *flag_words("prompt", draft.prompt), "--seed", str(draft.seed)]
            words += generation_flags(draft.config, self._worker.defaults(DEFAULT_CONFIG))
            with self._command:
                show_command(t("playground.command"), shell_command(words))

    def _select_token(self, place: int) -> None:
        draft = self._versions.value
        if draft is not None and self._worker is not None and 0 <= place < len(draft.tokens):
            self._panel.show(draft, place, self._worker.loaded.require_tokenizer())


@dataclass
class _StrategyCard:
    """The text of one strategy."""

    text: ui.html
    facts: ui.label
    keep: ui.button

    def show(self, draft: Draft, tokenizer: Tokenizer) -> None:
        self.text.set_content(token_html(draft, tokenizer, can_select=False))
        if draft.finish is not None:
            self.facts.set_text(facts(draft))
            self.keep.set_visibility(bool(draft.tokens))


class _SideBySide:
    """One prompt, seed and length with several strategies, all growing at once."""

    def __init__(self, on_keep: Callable[[Draft], Any]) -> None:
        """``on_keep`` receives a text that is to be added to the versions."""
        self._on_keep = on_keep
        note("playground.side-note")
        self._choices = ui.element("div").classes("line").props("role=group")
        self._choices.props["aria-label"] = t("playground.side")
        self._line = ui.element("div").classes("line")
        self._cards = ui.element("div").classes("cards")
        self._strategies: list[Strategy] = []
        self._boxes: dict[str, ui.checkbox] = {}  # by strategy; "" is the settings above
        self._drafts: list[Draft] = []

    def add_button(self, on_click: Callable[[], Any]) -> ui.button:
        """Add the button that starts the generation."""
        with self._line:
            return ui.button(t("playground.side-write"), on_click=on_click).props("outline")

    def offer(self, vocab_size: int) -> None:
        """Offer the strategies for a model with this vocabulary. Chosen ones stay chosen."""
        chosen = {name for name, box in self._boxes.items() if box.value} if self._boxes else {"", *_PRESELECTED}
        self._strategies = default_grid(vocab_size)
        self._choices.clear()
        with self._choices:
            labels = {"": t("playground.own"), **{strategy.name: strategy.name for strategy in self._strategies}}
            self._boxes = {name: ui.checkbox(label, value=name in chosen) for name, label in labels.items()}

    async def generate(self, worker: Worker, prompt: str, own: GenerationConfig, seed: int) -> None:
        """Generate with all chosen strategies; ``own`` are the settings above. Raises what ``stream_drafts`` raises."""
        lengths = {"max_new_tokens": own.max_new_tokens, "min_new_tokens": own.min_new_tokens}
        by_name = {strategy.name: strategy.config for strategy in self._strategies}
        configs = {
            name: override_settings(by_name[name], lengths) if name else own
            for name, box in self._boxes.items()
            if box.value
        }
        tokenizer = worker.loaded.require_tokenizer()
        self._drafts = [await in_thread(new_draft, worker.loaded, prompt, each, seed) for each in configs.values()]
        self._cards.clear()
        with self._cards:
            cards = [self._card(place, name or t("playground.own")) for place, name in enumerate(configs)]
        throttles = [UpdateThrottle() for _ in cards]
        try:
            async with aclosing(stream_drafts(worker, self._drafts)) as drafts:
                async for place, draft in drafts:
                    self._drafts[place] = draft
                    if draft.finish is not None or throttles[place].is_due(len(draft.text) * len(cards)):
                        cards[place].show(draft, tokenizer)
        finally:
            for place, draft in enumerate(self._drafts):
                if draft.finish is None:
                    self._drafts[place] = replace(draft, finish="cancelled")
                    cards[place].show(self._drafts[place], tokenizer)

    def clear(self) -> None:
        """Remove the texts."""
        self._cards.clear()

    def _card(self, place: int, name: str) -> _StrategyCard:
        with ui.element("section").classes("card side") as card:
            card.props["aria-label"] = name
            heading(name, 3)
            text = ui.html("", sanitize=False).classes("tokens generated")
            status = ui.label(t("playground.writing")).classes("note").props("role=status")
            keep = ui.button(t("playground.keep"), on_click=lambda: self._on_keep(self._drafts[place]))
            keep.props("flat dense").set_visibility(False)
        return _StrategyCard(text, status, keep)


def facts(draft: Draft) -> str:
    """The length and perplexity of a text, and how it ended."""
    return t(
        "playground.facts",
        count=f"{len(draft.tokens):,}",
        perplexity="–" if draft.perplexity is None else f"{draft.perplexity:.3g}",
        end=t(f"playground.end-{draft.finish or 'cancelled'}"),
    )
