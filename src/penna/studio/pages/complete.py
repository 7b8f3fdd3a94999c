"""The page of completions: a run and a source in; what it writes behind it, and what of that is copied, out."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from nicegui import ui

from penna.api.complete import RankedSentence, completer, completion_settings
from penna.api.evaluation_data import evaluation_data, read_evaluation_data
from penna.api.generation_defaults import override_settings
from penna.data.sources.fields import Completion
from penna.errors import DataError
from penna.evaluate.sentences import sentences
from penna.generate.request import Request
from penna.generate.text_stream import TextDelta
from penna.loading import LoadedModel
from penna.serve.limits import check_generation
from penna.serve.settings import ServeSettings
from penna.studio.frame import busy, frame, heading, meaning, run_select, told_problems
from penna.studio.jobs import as_typed, from_here
from penna.studio.pages.complete_labels import WORDS as WORDS
from penna.studio.pages.complete_result import show_completion, show_ranked
from penna.studio.pages.flow import Flow
from penna.studio.pages.shading import add_shading
from penna.studio.state import Studio
from penna.studio.words import add as add_words
from penna.studio.words import t

_FIELD = "outlined dense"
_MOST_SENTENCES = 200  # of a source that are ranked
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
            go = ui.button(t("complete.go"), on_click=self._complete).props("unelevated")
            stop = ui.button(t("complete.stop"), icon="stop").props("outline")
            rank = ui.button(t("complete.rank"), on_click=self._rank).props("outline")
        self._flow = Flow((go, rank), stop)
        self._result = ui.element("div").classes("results").props("aria-live=polite")
        self._items: list[tuple[Completion, str]] | None = None
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
                    self._items = await self._studio.long.done(own_items, worker.loaded)
            number = int(self._number.value or 1)
            if not 1 <= number <= len(self._items):
                raise DataError(
                    f"There is no item {number:,}.", f"From 1 to {len(self._items):,}.", "Choose another number."
                )
            item, place = self._items[number - 1]
            self._source.value, self._reference.value = item.prompt, item.completion
            with self._taken:
                meaning("complete.taken", place=from_here(place), number=f"{number:,}", count=f"{len(self._items):,}")

    def _given(self) -> dict[str, Any]:
        """The settings that were filled in."""
        given = {name: field.value for name, field in self._settings.items() if field.value is not None}
        return {name: float(value) if name == "temperature" else int(value) for name, value in given.items()}

    async def _complete(self) -> None:
        if self._flow.is_running:
            return
        name, source, reference = self._runs.value, self._source.value or "", self._reference.value or ""
        with self._result, told_problems(self._result):
            given, seed, output = self._given(), int(self._seed.value or 0), _Output()
            with self._flow.running(), busy():
                shown = ui.label().classes("written").props("dir=auto")
                worker = await self._studio.models.worker(name)
                request, output.cut = await worker.call(
                    lambda loaded: _request(loaded, source, given, seed, self._studio.settings)
                )
                async with aclosing(worker.generate([request])) as pieces:
                    async for piece in pieces:
                        output.take(piece)
                        shown.set_text(output.text)
            if self._result.is_deleted:
                return
            shown.delete()
            if output.cut is not None:
                meaning("complete.cut", part=output.cut)
            key = {"stop": "ended", "length": "length"}.get(output.finish, "stopped")
            meaning(f"complete.{key}", tokens=output.tokens)
            show_completion(source, output.text.strip(), reference)
            ui.label(t("complete.command")).classes("name")
            ui.label(as_typed(self._command(name, source, given, seed))).classes("code")

    async def _rank(self) -> None:
        if self._flow.is_running:
            return
        name, source = self._runs.value, self._source.value or ""
        with self._result, told_problems(self._result), self._flow.running():
            with busy():
                worker = await self._studio.models.worker(name)
                ranked = await worker.call(lambda loaded: _ranked(loaded, source))
            heading(t("complete.rank"))
            show_ranked(ranked)
            ui.label(t("complete.command")).classes("name")
            words = ["penna", "complete", str(self._studio.runs_dir / name), *_as_words(source), "--extract", "3"]
            ui.label(as_typed(words)).classes("code")

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
    form = completer(loaded).format
    read = read_evaluation_data(evaluation_data(loaded, form.task, {}), form)
    return list(zip(read.items, read.locations, strict=True))


def _request(
    loaded: LoadedModel, source: str, given: dict[str, Any], seed: int, limits: ServeSettings
) -> tuple[Request, str | None]:
    """What the engine is asked, and what was cut. Raises RequestRejected beyond a limit."""
    at_hand, config = completer(loaded), override_settings(completion_settings(loaded), given)
    check_generation(config, limits)
    requests, cut = at_hand.requests([source], config, seed=seed)
    return requests[0], at_hand.format.task.cut if cut[0] else None


def _ranked(loaded: LoadedModel, source: str) -> list[RankedSentence]:
    """What `Completer.rank` says. Raises DataError for more sentences than a page ranks."""
    count = len(sentences(source))
    if count > _MOST_SENTENCES:
        raise DataError(
            f"The source has {count:,} sentences.",
            f"At most {_MOST_SENTENCES} are ranked on a page.",
            "Take a part of it; the terminal has no such limit (`penna complete RUN --file FILE --extract 3`).",
        )
    return completer(loaded).rank(source)


@dataclass
class _Output:
    """What is written, as far as it is."""

    text: str = ""
    finish: str = "stopped"
    tokens: int = 0
    cut: str | None = None  # the part of the source that was left out

    def take(self, piece: TextDelta) -> None:
        """Go on with a piece."""
        self.text = (self.text + piece.text) if self.text else piece.text.lstrip()
        self.tokens += piece.token is not None
        self.finish = piece.finish or self.finish
