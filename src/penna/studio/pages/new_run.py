"""The page that begins a run: a text is chosen and looked at, a recipe chosen and measured, and the training started.

Everything is put into the words of one ``penna train``, which the page shows and then runs as a process of its own.
"""

from __future__ import annotations

import re

from nicegui import app, ui

from penna.api.data import Preview, inspect_data, preview_data
from penna.api.dry_run import DryRun, dry_run
from penna.data.quality.result import DataReport
from penna.errors import DataError
from penna.runs.folder import check_name_is_free, free_name
from penna.studio.frame import busy, frame, heading, in_thread, meaning, told_problems, usable
from penna.studio.jobs import as_typed
from penna.studio.pages.new_run_recipe import RecipeChoice
from penna.studio.pages.new_run_seen import show_inspection, show_preview
from penna.studio.pages.new_run_texts import TextChoice
from penna.studio.pages.new_run_words import WORDS
from penna.studio.plans import Choices, OfferedRecipe, offered_recipes
from penna.studio.state import Studio
from penna.studio.texts import ListedText, listed_texts
from penna.studio.uploads import Uploads, add_route
from penna.studio.words import add as add_words
from penna.studio.words import t

_STYLE = """
.upload { display: flex; flex-direction: column; gap: 4px; border: 1px dashed var(--line); border-radius: 8px; }
.upload { padding: 10px 12px; }
.upload input { max-width: 100%; color: var(--ink); font: inherit; }
.token { display: inline; border: 1px solid var(--line); border-radius: 4px; padding: 0 2px; margin: 1px; }
.token { background: var(--sheet); white-space: pre-wrap; }
"""


def add(studio: Studio) -> None:
    """Put the page, its style and the way of uploads in place."""
    add_words(WORDS)
    ui.add_css(_STYLE, shared=True)
    uploads = Uploads(studio.uploads)
    add_route(app, uploads)

    @ui.page("/new", response_timeout=20)
    async def page() -> None:  # pyright: ignore[reportUnusedFunction]
        offered = await in_thread(offered_recipes, studio.runs_dir)
        listed = await in_thread(listed_texts, studio.data_dir, uploads.folder)
        with frame(studio, "new"):
            _Page(studio, offered, listed)


class _Page:
    """What one browser sees of it."""

    def __init__(self, studio: Studio, offered: tuple[OfferedRecipe, ...], listed: list[ListedText]) -> None:
        self._studio = studio
        self._is_drawn = False
        self._texts = TextChoice(studio, listed, self._changed)
        with ui.element("div").classes("line"):
            cutters = {"": t("new.no-tokenizer"), **{row.name: row.name for row in usable(studio)}}
            self._cutter = ui.select(cutters, value="", label=t("new.cutter")).classes("run-select")
            self._cutter.props("outlined dense options-dense")
            self._look_button = ui.button(t("new.look"), on_click=self._look).props("outline")
        self._seen = ui.element("div").classes("page").style("padding: 0; max-width: none")
        self._recipe = RecipeChoice(studio, offered, self._texts, self._changed)
        heading(t("new.fit-step"))
        meaning("new.fit-mean")
        with ui.element("div").classes("line"):
            self._fit_button = ui.button(t("new.measure"), on_click=self._measure).props("outline")
        self._fit = ui.element("div").style("width: 100%")
        heading(t("new.start-step"))
        self._name = ui.input(t("new.name"), on_change=self._changed)
        self._name.props("outlined dense stack-label debounce=400").classes("run-select")
        meaning("new.command-mean")
        self._command = ui.label().classes("code")
        self._told = ui.element("div").style("width: 100%")
        with ui.element("div").classes("line"):
            self._start_button = ui.button(t("new.start-now"), icon="play_arrow", on_click=self._start)
        self._is_drawn = True
        self._changed()

    def _changed(self) -> None:
        """Say the command anew; a choice that cannot be is told in its place."""
        if not self._is_drawn:  # fields tell of themselves before the page is whole
            return
        with told_problems(self._told):
            self._command.text = ""
            choices = self._recipe.choices()
            self._fit.clear()  # it was measured for other choices
            self._name.props["placeholder"] = self._proposed(choices)
            name = self._run_name(choices)
            check_name_is_free(self._studio.runs_dir, name, overwrite=False)
            self._command.text = as_typed(self._studio.jobs.train_words(name, choices.words))

    def _run_name(self, choices: Choices) -> str:
        """The name that was written, else one that is free."""
        return str(self._name.value or "").strip() or self._proposed(choices)

    def _proposed(self, choices: Choices) -> str:
        return free_name(self._studio.runs_dir, _stem(choices))

    async def _look(self) -> None:
        """Look at the chosen text: first its beginning, then all of it."""
        self._look_button.disable()
        try:
            with told_problems(self._seen):
                paths, tests, fields = self._texts.paths, self._texts.tests, self._texts.fields
                if not paths:
                    raise DataError(
                        "No text is chosen to be looked at.",
                        "A file that was uploaded, or one of the list.",
                        "Choose or upload one; a recipe's own text needs no look.",
                    )
                given = [str(path) for path in paths]
                with self._seen:
                    records = await in_thread(preview_data, given, fields)
                    show_preview(records)
                    self._propose(records)
                    with busy():
                        seen = await self._studio.long.done(
                            self._inspected, given, [str(path) for path in tests], fields
                        )
                    show_inspection(seen)
        finally:
            self._look_button.enable()

    def _inspected(self, paths: list[str], tests: list[str], fields: dict[str, object]) -> DataReport:
        cutter = str(self._studio.runs_dir / self._cutter.value) if self._cutter.value else None
        return inspect_data(paths, fields, tokenizer=cutter, test=tests, runs_dir=self._studio.runs_dir)

    def _propose(self, records: list[Preview]) -> None:
        shapes = [record.shape for record in records if record.shape is not None]
        if shapes and len(set(shapes)) == 1:
            self._recipe.propose_task(shapes[0])

    async def _measure(self) -> None:
        """Measure how long it takes and whether it fits."""
        self._fit_button.disable()
        try:
            with told_problems(self._fit):
                choices = self._recipe.checked_choices()
                with self._fit, busy(t("new.measuring")):
                    found = await self._studio.long.done(_fitted, choices, self._studio)
                with self._fit:
                    _show_fit(found)
        finally:
            self._fit_button.enable()

    async def _start(self) -> None:
        """Begin the training, and go to its page."""
        self._start_button.disable()
        try:
            with told_problems(self._told):
                choices = self._recipe.checked_choices()
                name = self._run_name(choices)
                await in_thread(choices.resolved, self._studio.runs_dir)  # what cannot be followed is told here
                self._studio.jobs.train(name, choices.words)
                ui.navigate.to(f"/run/{name}")
        finally:
            self._start_button.enable()


def _fitted(choices: Choices, studio: Studio) -> DryRun:
    recipe, _ = choices.resolved(studio.runs_dir)
    return dry_run(recipe, runs_dir=studio.runs_dir)


def _show_fit(found: DryRun) -> None:
    ui.label(t("new.fits" if found.fits else "new.fits-not")).classes("badge" if found.fits else "badge bad")
    figures = [
        ("new.time", _duration(found.seconds)),
        ("new.steps", f"{found.steps:,}"),
        ("new.memory", _of(found.memory, found.free_memory)),
        ("new.disk", _of(found.disk, found.free_disk)),
    ]
    with ui.element("div").classes("figures"):
        for key, value in figures:
            with ui.element("div").classes("card"):
                ui.label(value).classes("value")
                ui.label(t(key)).classes("name")
    meaning("new.measured-mean")


def _of(taken: int, free: int | None) -> str:
    return f"{taken / 1e9:,.2f} GB" if free is None else f"{taken / 1e9:,.2f} / {free / 1e9:,.1f} GB"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _stem(choices: Choices) -> str:
    """What a run is called unless said otherwise: after its text, or its recipe."""
    stem = choices.texts[0].name.partition(".")[0] if choices.texts else choices.recipe
    return re.sub(r"[^\w.-]+", "-", stem).strip("-_.") or "run"
