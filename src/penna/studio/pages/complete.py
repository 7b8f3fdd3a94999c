"""The page of completions: a run and a source in; what it writes behind it, and what of that is copied, out."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

from nicegui import ui

from penna.api.asked import asked_of, read_asked
from penna.api.completing import completer, completion_settings
from penna.api.generation_defaults import laid_over
from penna.data.reading.shapes import Completion
from penna.errors import DataError
from penna.exchange.load import LoadedModel
from penna.generate.request import Request
from penna.serve.worker import Worker
from penna.studio.frame import busy, frame, heading, in_thread, meaning, run_select, told_problems
from penna.studio.jobs import as_typed
from penna.studio.pages.complete_labels import WORDS as WORDS
from penna.studio.pages.complete_result import show_completion, show_ranked
from penna.studio.pages.shading import add_shading
from penna.studio.state import Studio
from penna.studio.words import add as add_words
from penna.studio.words import t

_FIELD = "outlined dense"
_TYPED = 200  # characters of a source up to which it stands in the command


def add(studio: Studio) -> None:
    """Put the page in place."""
    add_words(WORDS)

    @ui.page("/complete")
    def complete_page(run: str = "") -> None:
        with frame(studio, "complete"):
            add_shading()
            meaning("complete.about")
            _Page(studio, run)


class _Page:
    """One visit."""

    def __init__(self, studio: Studio, run: str) -> None:
        self._studio = studio
        tasks = ("complete", "pretrain")
        runs = run_select(studio, tasks=tasks, remember="completer", wanted=run, on_change=self._changed)
        if runs is None:
            return
        self._runs = runs
        with ui.element("div").classes("line") as self._own:
            self._number = ui.number(t("complete.item"), value=1, min=1, precision=0).props(_FIELD)
            ui.button(t("complete.take"), on_click=self._take).props("outline")
        self._taken = ui.element("div").props("role=status")
        self._source = ui.textarea(t("complete.source")).props(_FIELD).classes("wide")
        self._reference = ui.textarea(t("complete.reference")).props(f"{_FIELD} autogrow").classes("wide")
        with ui.element("div").classes("line"):
            self._settings = {
                "max_new_tokens": ui.number(t("complete.max_new_tokens"), min=1, precision=0),
                "temperature": ui.number(t("complete.temperature"), min=0, step=0.1),
                "num_beams": ui.number(t("complete.num_beams"), min=1, precision=0),
            }
            self._seed = ui.number(t("complete.seed"), value=0, min=0, precision=0).props(_FIELD)
            for field in self._settings.values():
                field.props(f"{_FIELD} clearable")
        with ui.element("div").classes("line"):
            self._go = ui.button(t("complete.go"), on_click=self._complete).props("unelevated")
            self._stop = ui.button(t("complete.stop"), on_click=self._end).props("outline")
            self._rank_go = ui.button(t("complete.rank"), on_click=self._rank).props("outline")
        self._stop.set_visibility(False)
        self._result = ui.element("div").classes("results").props("aria-live=polite")
        self._items: list[tuple[Completion, str]] | None = None
        self._is_stopped = False
        self._changed(runs.value)

    def _changed(self, name: str) -> None:
        self._items = None
        with told_problems(self._result):
            self._own.set_visibility(self._studio.run(name).recipe().task.kind == "complete")

    async def _take(self) -> None:
        """Put an item of the run's own validation text into the fields."""
        name = self._runs.value
        with told_problems(self._taken):
            if self._items is None:
                with self._taken, busy():
                    worker = await self._studio.models.worker(name)
                    self._items = await in_thread(own_items, worker.loaded)
            number = int(self._number.value or 1)
            if not 1 <= number <= len(self._items):
                raise DataError(
                    f"There is no item {number:,}.", f"From 1 to {len(self._items):,}.", "Choose another number."
                )
            item, place = self._items[number - 1]
            self._source.value, self._reference.value = item.prompt, item.completion
            with self._taken:
                meaning("complete.taken", place=place, number=f"{number:,}", count=f"{len(self._items):,}")

    def _given(self) -> dict[str, Any]:
        """The settings that were filled in."""
        given = {name: field.value for name, field in self._settings.items() if field.value is not None}
        return {name: float(value) if name == "temperature" else int(value) for name, value in given.items()}

    async def _complete(self) -> None:
        name, source, reference = self._runs.value, self._source.value or "", self._reference.value or ""
        given, seed = self._given(), int(self._seed.value or 0)
        with told_problems(self._result):
            with self._result, busy():
                self._at_work(True)
                shown = ui.label().classes("written").props("dir=auto")
                try:
                    worker = await self._studio.models.worker(name)
                    request, cut = await worker.call(lambda loaded: _request(loaded, source, given, seed))
                    output, finish, tokens = await self._written(worker, request, shown)
                finally:
                    self._at_work(False)
                    shown.delete()
            with self._result:
                if cut is not None:
                    meaning("complete.cut", part=cut)
                key = {"stop": "ended", "length": "length"}.get(finish, "stopped")
                meaning(f"complete.{key}", tokens=tokens)
                show_completion(source, output, reference)
                ui.label(t("complete.command")).classes("name")
                ui.label(as_typed(self._command(name, source, given, seed))).classes("code")

    async def _written(self, worker: Worker, request: Request, shown: ui.label) -> tuple[str, str, int]:
        """The text, how it ended, and its tokens; it is shown as it grows."""
        text, finish, tokens = "", "stopped", 0
        self._is_stopped = False
        async with aclosing(worker.write([request])) as pieces:
            async for piece in pieces:
                text = (text + piece.text) if text else piece.text.lstrip()
                tokens += piece.token is not None
                finish = piece.finish or finish
                shown.set_text(text)
                if self._is_stopped or shown.is_deleted:
                    break
        return text.strip(), finish, tokens

    def _end(self) -> None:
        self._is_stopped = True

    async def _rank(self) -> None:
        name, source = self._runs.value, self._source.value or ""
        with told_problems(self._result):
            with self._result, busy():
                self._at_work(True)
                try:
                    worker = await self._studio.models.worker(name)
                    ranked = await worker.call(lambda loaded: completer(loaded).rank(source))
                finally:
                    self._at_work(False)
            with self._result:
                heading(t("complete.rank"))
                show_ranked(ranked)
                ui.label(t("complete.command")).classes("name")
                words = ["penna", "complete", str(self._studio.runs_dir / name), *_as_words(source), "--extract", "3"]
                ui.label(as_typed(words)).classes("code")

    def _at_work(self, is_so: bool) -> None:
        self._go.set_enabled(not is_so)
        self._rank_go.set_enabled(not is_so)
        self._stop.set_visibility(is_so)

    def _command(self, name: str, source: str, given: dict[str, Any], seed: int) -> list[str]:
        """The line of the terminal that does the same."""
        words = ["penna", "complete", str(self._studio.runs_dir / name), *_as_words(source)]
        for setting, value in given.items():
            words += [f"--{setting.replace('_', '-')}", str(value)]
        return [*words, "--seed", str(seed)] if seed else words


def _as_words(source: str) -> list[str]:
    """A source on the command line: as it stands, or where it is long by a file that a person would write."""
    return [source] if len(source) <= _TYPED else ["--file", "source.txt"]


def own_items(loaded: LoadedModel) -> list[tuple[Completion, str]]:
    """The pairs of a run's own validation part, each with its place. Raises what ``read_asked`` raises."""
    form = completer(loaded).form
    read = read_asked(asked_of(loaded, form.task, {}), form)
    return list(zip(read.items, read.places, strict=True))


def _request(loaded: LoadedModel, source: str, given: dict[str, Any], seed: int) -> tuple[Request, str | None]:
    """What the engine is asked, and which part of the source had to be left out."""
    at_hand = completer(loaded)
    requests, cut = at_hand.requests([source], laid_over(completion_settings(loaded), given), seed=seed)
    return requests[0], at_hand.form.task.cut if cut[0] else None
