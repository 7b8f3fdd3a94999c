"""The Runs page: the list of runs with their state, progress and best metric."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from urllib.parse import quote

from nicegui import ui

from penna.studio.i18n import t
from penna.studio.layout import in_thread, note, page_layout, show_error
from penna.studio.training_processes import relative_path
from penna.studio.workspace import BestMetric, RunRow, Studio

_REFRESH_SECONDS = 3.0
_MAX_ROWS = 200  # the filter finds the others
_COLUMNS = ("name", "state", "task", "data", "progress", "best", "modified")


def add(studio: Studio) -> None:
    """Register the page."""

    @ui.page("/", response_timeout=20)
    async def runs() -> None:
        rows = await in_thread(studio.runs)
        with page_layout(studio, "runs"):
            if not rows:
                note("runs.none", folder=relative_path(str(studio.runs_dir)))
                return
            name_filter = ui.input(label=t("runs.filter")).props("outlined dense clearable").classes("run-select")

            @ui.refreshable
            def table(rows: Sequence[RunRow], part: str) -> None:
                matches = [row for row in rows if part in row.name.lower()]
                _table(matches[:_MAX_ROWS])
                if part or len(matches) > _MAX_ROWS:
                    note("runs.shown", n=min(len(matches), _MAX_ROWS), all=len(rows))

            shown = (rows, "")

            async def refresh() -> None:
                nonlocal shown
                now = (await in_thread(studio.runs), (name_filter.value or "").lower())
                if now != shown and not name_filter.is_deleted:
                    shown = now
                    table.refresh(*now)

            table(*shown)
            note("runs.note", folder=relative_path(str(studio.runs_dir)))
            name_filter.on_value_change(refresh)
            ui.timer(_REFRESH_SECONDS, refresh)


def best_text(best: BestMetric) -> str:
    """A best metric as a text."""
    return t(f"metric.{best.metric}", value=best.value)


def data_names(data: Sequence[str]) -> str:
    """The names of a run's text files, the first two in full."""
    names = [path.rstrip("/").rsplit("/", 1)[-1] for path in data]
    return ", ".join(names[:2]) + (f" + {len(names) - 2}" if len(names) > 2 else "")


def state_class(row: RunRow) -> str:
    """The CSS class of a run's state."""
    return "alive" if row.is_alive else "bad" if row.state in ("failed", "damaged") else ""


def _table(rows: Sequence[RunRow]) -> None:
    region = ui.element("div").classes("scrolls").props("tabindex=0 role=region")
    region.props["aria-label"] = t("runs.table")
    with region, ui.element("table").classes("plain stacks"):
        with ui.element("thead"), ui.element("tr"):
            for column in _COLUMNS:
                with ui.element("th").props("scope=col"):
                    ui.label(t(f"runs.{column}"))
        with ui.element("tbody"):
            for row in rows:
                with ui.element("tr"):
                    _cells(row)
    for row in rows:
        if row.state == "damaged" and row.problem is not None:
            show_error(row.problem)


def _cells(row: RunRow) -> None:
    with _cell("name"):
        ui.link(row.name, f"/run/{quote(row.name)}")
    with _cell("state"):
        ui.label(t(f"state.{row.state}")).classes(f"badge {state_class(row)}")
    with _cell("task"):
        ui.label("" if row.task is None else t(f"task.{row.task}"))
    with _cell("data"):
        ui.label(data_names(row.data))
    with _cell("progress"):
        ui.label(f"{row.share:.0%}" if row.step else "")
    with _cell("best"):
        if row.best is not None:
            ui.label(best_text(row.best))
            ui.label(t("runs.at-step", step=row.best.step)).classes("name")
    with _cell("modified"):
        if row.modified:
            ui.label(f"{datetime.fromtimestamp(row.modified):%Y-%m-%d %H:%M}")


def _cell(column: str) -> ui.element:
    cell = ui.element("td")
    cell.props["data-label"] = t(f"runs.{column}")
    return cell
