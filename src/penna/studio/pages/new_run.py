"""The New run page: choose and inspect a text, choose a recipe, measure it, and start the training.

All choices become the arguments of one ``penna train``, which the page shows and runs as a process of its own.
"""

from __future__ import annotations

import re

from nicegui import app, ui

from penna.api.data import Preview, inspect_data, preview_data
from penna.api.dry_run import DryRun, dry_run
from penna.data.quality.result import DataReport
from penna.errors import DataError
from penna.runs.folder import check_name_is_free, free_name
from penna.studio.charts import show_metrics
from penna.studio.i18n import t
from penna.studio.layout import busy, errors_shown_in, heading, in_thread, note, page_layout, usable_runs
from penna.studio.pages.new_run_forms import STYLE, RecipeForm, TextForm
from penna.studio.pages.new_run_report import show_data_report, show_preview
from penna.studio.text_files import TextFile, Uploads, add_upload_route, list_texts
from penna.studio.train_command import OfferedRecipe, RunChoices, offered_recipes
from penna.studio.training_processes import shell_command
from penna.studio.workspace import Studio


def add(studio: Studio) -> None:
    """Register the page and the route of uploads."""
    ui.add_css(STYLE, shared=True)
    uploads = Uploads(studio.uploads)
    add_upload_route(app, uploads)

    @ui.page("/new", response_timeout=20)
    async def page() -> None:  # pyright: ignore[reportUnusedFunction]
        recipes = await in_thread(offered_recipes, studio.runs_dir)
        files = await in_thread(list_texts, studio.data_dir, uploads.folder)
        with page_layout(studio, "new"):
            _Page(studio, recipes, files)


class _Page:
    """One visit."""

    def __init__(self, studio: Studio, recipes: tuple[OfferedRecipe, ...], files: list[TextFile]) -> None:
        self._studio = studio
        self._is_complete = False
        self._texts = TextForm(studio, files, self._update_command)
        with ui.element("div").classes("line"):
            tokenizers = {"": t("new.no-tokenizer"), **{row.name: row.name for row in usable_runs(studio)}}
            self._tokenizer = ui.select(tokenizers, value="", label=t("new.splitter")).classes("run-select")
            self._tokenizer.props("outlined dense options-dense")
            self._inspect_button = ui.button(t("new.inspect"), on_click=self._inspect).props("outline")
        self._report = ui.element("div").classes("page").style("padding: 0; max-width: none")
        self._recipe = RecipeForm(studio, recipes, self._texts, self._update_command)
        heading(t("new.fit-step"))
        note("new.fit-note")
        with ui.element("div").classes("line"):
            self._measure_button = ui.button(t("new.measure"), on_click=self._measure).props("outline")
        self._measurement = ui.element("div").style("width: 100%")
        heading(t("new.start-step"))
        self._name = ui.input(t("new.name"), on_change=self._update_command)
        self._name.props("outlined dense stack-label debounce=400").classes("run-select")
        note("new.command-note")
        self._command = ui.label().classes("code")
        self._errors = ui.element("div").style("width: 100%")
        with ui.element("div").classes("line"):
            self._start_button = ui.button(t("new.start-now"), icon="play_arrow", on_click=self._start)
        self._is_complete = True
        self._update_command()

    def _update_command(self) -> None:
        """Show the command for the current choices, or the error in them."""
        if not self._is_complete:  # fields call this while the page is built
            return
        with errors_shown_in(self._errors):
            self._command.text = ""
            choices = self._recipe.choices()
            self._measurement.clear()  # it was made for other choices
            self._name.props["placeholder"] = self._default_name(choices)
            name = self._run_name(choices)
            check_name_is_free(self._studio.runs_dir, name, overwrite=False)
            self._command.text = shell_command(self._studio.trainings.train_command(name, choices.arguments))

    def _run_name(self, choices: RunChoices) -> str:
        return str(self._name.value or "").strip() or self._default_name(choices)

    def _default_name(self, choices: RunChoices) -> str:
        """A free name after the text or the recipe."""
        stem = choices.texts[0].name.partition(".")[0] if choices.texts else choices.recipe
        stem = re.sub(r"[^\w.-]+", "-", stem).strip("-_.") or "run"
        return free_name(self._studio.runs_dir, stem)

    async def _inspect(self) -> None:
        """Show the beginning of the chosen text, then a report on all of it."""
        self._inspect_button.disable()
        try:
            with errors_shown_in(self._report):
                paths = [str(path) for path in self._texts.paths]
                valid_paths = [str(path) for path in self._texts.valid_paths]
                fields = self._texts.fields
                if not paths:
                    raise DataError(
                        "No text is chosen.",
                        "Inspecting needs an uploaded file, or one of the list.",
                        "Choose or upload a text.",
                    )
                with self._report:
                    records = await in_thread(preview_data, paths, fields)
                    show_preview(records)
                    self._suggest_task(records)
                    with busy():
                        report = await self._studio.background.run(self._data_report, paths, valid_paths, fields)
                    show_data_report(report)
        finally:
            self._inspect_button.enable()

    def _data_report(self, paths: list[str], valid_paths: list[str], fields: dict[str, object]) -> DataReport:
        run = str(self._studio.runs_dir / self._tokenizer.value) if self._tokenizer.value else None
        return inspect_data(paths, fields, tokenizer=run, test=valid_paths, runs_dir=self._studio.runs_dir)

    def _suggest_task(self, records: list[Preview]) -> None:
        shapes = {record.shape for record in records if record.shape is not None}
        if len(shapes) == 1:
            self._recipe.suggest_task(shapes.pop())

    async def _measure(self) -> None:
        """Measure time and memory."""
        self._measure_button.disable()
        try:
            with errors_shown_in(self._measurement):
                choices = self._recipe.checked_choices()
                with self._measurement, busy(t("new.measuring")):
                    result = await self._studio.background.run(_dry_run, choices, self._studio)
                with self._measurement:
                    _show_dry_run(result)
        finally:
            self._measure_button.enable()

    async def _start(self) -> None:
        """Start the training and open its page."""
        self._start_button.disable()
        try:
            with errors_shown_in(self._errors):
                choices = self._recipe.checked_choices()
                name = self._run_name(choices)
                await in_thread(choices.resolved, self._studio.runs_dir)  # raises errors before a process starts
                self._studio.trainings.train(name, choices.arguments)
                ui.navigate.to(f"/run/{name}")
        finally:
            self._start_button.enable()


def _dry_run(choices: RunChoices, studio: Studio) -> DryRun:
    recipe, _ = choices.resolved(studio.runs_dir)
    return dry_run(recipe, runs_dir=studio.runs_dir)


def _show_dry_run(result: DryRun) -> None:
    ui.label(t("new.fits" if result.fits else "new.fits-not")).classes("badge" if result.fits else "badge bad")
    show_metrics(
        [
            (t("new.time"), _duration(result.seconds), ""),
            (t("new.steps"), f"{result.steps:,}", ""),
            (t("new.memory"), _gigabytes(result.memory, result.free_memory), ""),
            (t("new.disk"), _gigabytes(result.disk, result.free_disk), ""),
        ]
    )
    note("new.measured-note")


def _gigabytes(needed: int, free: int | None) -> str:
    return f"{needed / 1e9:,.2f} GB" if free is None else f"{needed / 1e9:,.2f} / {free / 1e9:,.1f} GB"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
