"""The page of one run: how far it is, its curves, what it writes; to stop it, and to go on with it.

All of it is read from the run's folder, again and again, so that a page that was reloaded, or a second one beside it,
shows the same; the training itself is a process of its own.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from urllib.parse import quote

from nicegui import ui

from penna.config.recipe import recipe_toml
from penna.errors import PennaError, RunError
from penna.studio.frame import frame, in_thread, meaning, problem, told_problems
from penna.studio.jobs import TrainingProcess, as_typed
from penna.studio.pages import run_curves, run_samples, run_status
from penna.studio.pages.run_curves import Curves
from penna.studio.pages.run_samples import Samples
from penna.studio.pages.run_status import Status
from penna.studio.pages.runs import data_words
from penna.studio.rows import GrowingRows
from penna.studio.state import RunRow, Studio
from penna.studio.words import add as add_words
from penna.studio.words import t

WORDS = {
    "run.learns": ("It learns from {data}.", "학습 데이터: {data}", "训练数据：{data}"),
    "run.stop": ("Stop and save", "멈추고 저장", "停止并保存"),
    "run.resume": ("Go on", "이어서 학습", "继续训练"),
    "run.stopping": (
        "It finishes its step, saves and stops.",
        "지금 단계를 마치고 저장한 뒤 멈춥니다.",
        "完成当前一步、保存后停止。",
    ),
    "run.elsewhere": (
        "It was begun in a terminal; Ctrl-C there stops it and saves.",
        "터미널에서 시작한 학습입니다. 그 터미널에서 Ctrl-C를 누르면 저장하고 멈춥니다.",
        "它是在终端中启动的；在那里按 Ctrl-C 可停止并保存。",
    ),
    "run.begins": ("It begins: {words}", "시작하는 중입니다: {words}", "正在开始：{words}"),
    "run.use": ("Use it", "사용하기", "使用"),
    "run.recipe": ("Recipe", "레시피", "配方"),
    "run.log": ("What the training said", "학습 출력", "训练输出"),
    "run.command": ("Command", "명령", "命令"),
}
_REFRESH = 1.5  # seconds
_USES = {
    "pretrain": ("playground", "explain"),
    "chat": ("chat", "explain"),
    "classify": ("classify", "explain"),
    "complete": ("complete", "playground"),
}


def add(studio: Studio) -> None:
    """Put the page in place."""
    for table in (WORDS, run_curves.WORDS, run_samples.WORDS, run_status.WORDS):
        add_words(table)

    @ui.page("/run/{name:path}", response_timeout=20)
    async def run(name: str) -> None:
        with frame(studio, "run", title=name):
            try:
                row = await in_thread(studio.row, name)
            except PennaError as error:
                problem(error)
                return
            await _Live(studio, name, row).look()


@dataclass(frozen=True)
class _Seen:
    """What one look found."""

    row: RunRow
    are_metrics_new: bool
    are_samples_new: bool
    job: TrainingProcess | None
    is_ours: bool  # the job is at work
    memory: int | None
    log: str


class _Live:
    """The page as it is kept up to date."""

    def __init__(self, studio: Studio, name: str, row: RunRow) -> None:
        self._studio, self._name, self._is_stopping = studio, name, False
        self._looking = asyncio.Lock()  # one look at a time reads the logs
        path = studio.runs_dir / name
        self._metrics, self._samples = GrowingRows(path / "metrics.jsonl"), GrowingRows(path / "samples.jsonl")
        self._status = Status()
        with ui.element("div").classes("line"):
            self._stop = ui.button(t("run.stop"), icon="stop", on_click=self._on_stop).props("outline")
            self._resume = ui.button(t("run.resume"), icon="play_arrow", on_click=self._on_resume)
            self._uses = ui.element("div").classes("line")
            self._said = ui.label().classes("meaning").props("role=status")
        self._told = ui.element("div")
        self._learns = ui.element("div")
        self._curves, self._written = Curves(), Samples()
        self._details()
        self._is_described, self._state = False, row.state
        self._describe(row)
        self._timer = ui.timer(_REFRESH, self.look, immediate=False)

    async def look(self) -> None:
        """Read the folder again and show what is new."""
        async with self._looking:
            try:
                seen = await in_thread(self._seen)
            except (PennaError, OSError, ValueError) as error:
                self._timer.deactivate()
                self._stop.visible = self._resume.visible = False
                with told_problems(self._told):
                    raise _unreadable(self._name, error) from error
            else:
                if not self._told.is_deleted:
                    self._show(seen)

    def _seen(self) -> _Seen:
        job = self._studio.jobs.find(self._name)
        is_ours = job is not None and job.is_alive
        return _Seen(
            self._studio.row(self._name),
            self._metrics.refresh(),
            self._samples.refresh(),
            job,
            is_ours,
            job.memory if job is not None else None,
            job.log if job is not None else "",
        )

    def _describe(self, row: RunRow) -> None:
        """Say what the run is, once it has a recipe."""
        if self._is_described or row.task is None:
            return
        self._is_described = True
        with self._uses:
            for page in _USES.get(row.task, ()):
                ui.link(t(f"page.{page}"), f"/{page}?run={quote(self._name, safe='')}").classes("badge")
        with self._learns:
            if row.data:
                meaning("run.learns", data=data_words(row.data)).props["title"] = "\n".join(row.data)
        try:
            text = recipe_toml(self._studio.run(self._name).recipe())
        except PennaError:
            return
        with self._recipe, ui.expansion(t("run.recipe"), icon="description").classes("card"):
            ui.label(text).classes("code")

    def _show(self, seen: _Seen) -> None:
        row, job, is_ours, log = seen.row, seen.job, seen.is_ours, seen.log
        self._describe(row)
        if seen.are_metrics_new:
            self._curves.update(self._metrics.rows)
        if seen.are_samples_new:
            self._written.update(self._samples.rows)
        self._status.update(row, self._metrics.rows, seen.memory)
        self._is_stopping = self._is_stopping and row.is_alive
        if row.state != self._state:
            self._state = row.state
            self._told.clear()
        self._stop.visible, self._stop.enabled = is_ours, not self._is_stopping
        self._resume.visible = row.state in ("interrupted", "stopped", "failed") and row.task is not None
        last = next((line for line in reversed(log.splitlines()) if line.strip()), "")
        self._said.text = (
            t("run.stopping")
            if self._is_stopping
            else t("run.begins", words=last)
            if is_ours and not self._metrics.rows
            else t("run.elsewhere")
            if row.is_alive and not is_ours
            else ""
        )
        self._said.visible = bool(self._said.text)
        self._log.visible = job is not None
        self._log_text.text = log
        if job is not None:
            self._command.text = as_typed(job.command)
        shown = row.problem if row.state in ("failed", "damaged") else None
        self._failure.visible = shown is not None
        if shown is not None and str(shown) != self._failed_with:
            self._failed_with = str(shown)
            self._failure.clear()
            with self._failure:
                problem(shown)

    def _details(self) -> None:
        self._failed_with = ""
        self._failure = ui.element("div")
        with ui.expansion(t("run.log"), icon="terminal").classes("card") as self._log:
            ui.label(t("run.command")).classes("name")
            self._command = ui.label().classes("code")
            self._log_text = ui.label().classes("code")
        self._recipe = ui.element("div")

    async def _on_stop(self) -> None:
        with told_problems(self._told):
            self._studio.jobs.stop(self._name)
            self._is_stopping = True
        await self.look()

    async def _on_resume(self) -> None:
        with told_problems(self._told):
            self._studio.jobs.resume(self._name)
        await self.look()


def _unreadable(name: str, error: Exception) -> PennaError:
    if isinstance(error, PennaError):
        return error
    return RunError(f"The log of {name} cannot be read: {error}.", "A log as Penna writes it.", "Restore or remove it.")
