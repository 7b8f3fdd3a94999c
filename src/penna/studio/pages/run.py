"""The page of one run: its progress, curves and samples, and buttons to stop and resume it.

Everything is read from the run's folder repeatedly, so a reloaded page and a second tab show the same. The training
itself is a process of its own.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from urllib.parse import quote

from nicegui import ui

from penna.config.recipe import recipe_toml
from penna.errors import PennaError, RunError
from penna.studio.i18n import t
from penna.studio.layout import errors_shown_in, in_thread, note, page_layout, show_error
from penna.studio.pages.run_panels import Curves, Samples, Status
from penna.studio.pages.runs import data_names
from penna.studio.training_processes import TrainingProcess, shell_command
from penna.studio.workspace import LogReader, RunRow, Studio

_REFRESH_SECONDS = 1.5
_PAGES_BY_TASK = {
    "pretrain": ("playground", "explain"),
    "chat": ("chat", "explain"),
    "classify": ("classify", "explain"),
    "complete": ("complete", "playground"),
}


def add(studio: Studio) -> None:
    """Register the page."""

    @ui.page("/run/{name:path}", response_timeout=20)
    async def run(name: str) -> None:
        with page_layout(studio, "run", title=name):
            try:
                row = await in_thread(studio.row, name)
            except PennaError as error:
                show_error(error)
                return
            await _Page(studio, name, row).refresh()


@dataclass(frozen=True)
class _Snapshot:
    """What one refresh read."""

    row: RunRow
    are_metrics_new: bool
    are_samples_new: bool
    process: TrainingProcess | None
    is_process_alive: bool
    memory: int | None
    log: str


class _Page:
    """One visit, refreshed by a timer."""

    def __init__(self, studio: Studio, name: str, row: RunRow) -> None:
        self._studio, self._name, self._is_stopping = studio, name, False
        self._refreshing = asyncio.Lock()  # the log readers are not thread-safe
        path = studio.runs_dir / name
        self._metrics, self._samples = LogReader(path / "metrics.jsonl"), LogReader(path / "samples.jsonl")
        self._status = Status()
        with ui.element("div").classes("line"):
            self._stop = ui.button(t("run.stop"), icon="stop", on_click=self._on_stop).props("outline")
            self._resume = ui.button(t("run.resume"), icon="play_arrow", on_click=self._on_resume)
            self._links = ui.element("div").classes("line")
            self._message = ui.label().classes("note").props("role=status")
        self._errors = ui.element("div")
        self._data = ui.element("div")
        self._curves, self._sample_panel = Curves(), Samples()
        self._failure_text = ""
        self._failure = ui.element("div")
        with ui.expansion(t("run.log"), icon="terminal").classes("card") as self._log:
            ui.label(t("run.command")).classes("name")
            self._command = ui.label().classes("code")
            self._log_text = ui.label().classes("code")
        self._recipe = ui.element("div")
        self._is_described, self._state = False, row.state
        self._describe(row)
        self._timer = ui.timer(_REFRESH_SECONDS, self.refresh, immediate=False)

    async def refresh(self) -> None:
        """Read the folder again and show what changed."""
        async with self._refreshing:
            try:
                snapshot = await in_thread(self._read)
            except (PennaError, OSError, ValueError) as error:
                self._timer.deactivate()
                self._stop.visible = self._resume.visible = False
                with errors_shown_in(self._errors):
                    raise _unreadable(self._name, error) from error
            else:
                if not self._errors.is_deleted:
                    self._show(snapshot)

    def _read(self) -> _Snapshot:
        process = self._studio.trainings.find(self._name)
        return _Snapshot(
            row=self._studio.row(self._name),
            are_metrics_new=self._metrics.refresh(),
            are_samples_new=self._samples.refresh(),
            process=process,
            is_process_alive=process is not None and process.is_alive,
            memory=None if process is None else process.memory,
            log="" if process is None else process.log,
        )

    def _describe(self, row: RunRow) -> None:
        """Show links, data and recipe, once the run has a recipe."""
        if self._is_described or row.task is None:
            return
        self._is_described = True
        with self._links:
            for page in _PAGES_BY_TASK.get(row.task, ()):
                ui.link(t(f"page.{page}"), f"/{page}?run={quote(self._name, safe='')}").classes("badge")
        with self._data:
            if row.data:
                note("run.data", data=data_names(row.data)).props["title"] = "\n".join(row.data)
        try:
            text = recipe_toml(self._studio.run(self._name).recipe())
        except PennaError:
            return
        with self._recipe, ui.expansion(t("run.recipe"), icon="description").classes("card"):
            ui.label(text).classes("code")

    def _show(self, snapshot: _Snapshot) -> None:
        row, process = snapshot.row, snapshot.process
        self._describe(row)
        if snapshot.are_metrics_new:
            self._curves.update(self._metrics.rows)
        if snapshot.are_samples_new:
            self._sample_panel.update(self._samples.rows)
        self._status.update(row, self._metrics.rows, snapshot.memory)
        self._is_stopping = self._is_stopping and row.is_alive
        if row.state != self._state:
            self._state = row.state
            self._errors.clear()
        self._stop.visible, self._stop.enabled = snapshot.is_process_alive, not self._is_stopping
        self._resume.visible = row.state in ("interrupted", "stopped", "failed") and row.task is not None
        self._message.text = self._current_message(snapshot)
        self._message.visible = bool(self._message.text)
        self._log.visible = process is not None
        self._log_text.text = snapshot.log
        if process is not None:
            self._command.text = shell_command(process.command)
        self._show_failure(row.problem if row.state in ("failed", "damaged") else None)

    def _current_message(self, snapshot: _Snapshot) -> str:
        if self._is_stopping:
            return t("run.stopping")
        if snapshot.is_process_alive and not self._metrics.rows:
            last_line = next((line for line in reversed(snapshot.log.splitlines()) if line.strip()), "")
            return t("run.starting", line=last_line)
        if snapshot.row.is_alive and not snapshot.is_process_alive:
            return t("run.elsewhere")
        return ""

    def _show_failure(self, error: PennaError | None) -> None:
        self._failure.visible = error is not None
        if error is not None and str(error) != self._failure_text:
            self._failure_text = str(error)
            self._failure.clear()
            with self._failure:
                show_error(error)

    async def _on_stop(self) -> None:
        with errors_shown_in(self._errors):
            self._studio.trainings.stop(self._name)
            self._is_stopping = True
        await self.refresh()

    async def _on_resume(self) -> None:
        with errors_shown_in(self._errors):
            self._studio.trainings.resume(self._name)
        await self.refresh()


def _unreadable(name: str, error: Exception) -> PennaError:
    if isinstance(error, PennaError):
        return error
    return RunError(
        f"The log of {name} cannot be read: {error}.",
        "It must be a log that Penna wrote.",
        "Restore the log, or delete it.",
    )
