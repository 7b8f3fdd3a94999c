"""The page that holds runs against each other: curves in one chart, results, recipes, warnings, files to keep."""

from __future__ import annotations

import shlex
import tempfile
import threading
from functools import partial
from pathlib import Path
from typing import get_args
from urllib.parse import urlencode

from nicegui import app, ui

from penna.api.compare import compare, write_comparison
from penna.errors import RunError
from penna.report.experiments.comparison import Comparison
from penna.report.experiments.tables import (
    ComparisonTable,
    difference_tables,
    group_tables,
    legend,
    main_tables,
    recipe_table,
)
from penna.report.training_plots import Axis
from penna.runs.experiment import find_experiment
from penna.studio.charts import chart
from penna.studio.frame import busy, frame, heading, meaning, told_problems
from penna.studio.long_work import LongWork
from penna.studio.pages.compare_curves import curves, figure_title, logged
from penna.studio.pages.compare_words import WORDS
from penna.studio.plain_table import plain_table
from penna.studio.state import RunRow, Studio
from penna.studio.words import add as add_words
from penna.studio.words import t

_KEPT = "chosen.compare"
_DRAWING = threading.Lock()  # matplotlib's settings are the process's own


def add(studio: Studio) -> None:
    """Put the page in place."""
    add_words(WORDS)

    @ui.page("/compare")
    def page(runs: str = "", baseline: str = "") -> None:  # pyright: ignore[reportUnusedFunction]
        with frame(studio, "compare"):
            _Page(studio, [name for name in runs.split(",") if name], baseline)


class _Page:
    """What one browser sees of it."""

    def __init__(self, studio: Studio, named: list[str], baseline: str) -> None:
        self._studio, self._baseline = studio, baseline
        self._by: Axis = "step"
        options = _options(studio)
        kept = named or app.storage.user.get(_KEPT, [])
        meaning("compare.lead")
        with ui.element("div").classes("line"):
            chosen = [name for name in kept if name in options]
            self._runs = ui.select(options, value=chosen, multiple=True, label=t("compare.runs")).classes("grow")
            self._runs.props("outlined dense use-chips options-dense")
            self._button = ui.button(t("compare.go"), on_click=self.compare)
        self._texts = ui.switch(t("compare.texts"))
        self._result = ui.element("div").classes("page").style("padding: 0; max-width: none")
        unknown = [name for name in named if name not in options]
        with told_problems(self._result):
            if unknown:
                raise RunError(
                    f"There is no run or experiment {unknown[0]!r} here.",
                    "One of the list above; it may have been removed or renamed.",
                    "Choose from the list.",
                )
            if named:
                ui.timer(0.05, self.compare, once=True)

    async def compare(self) -> None:
        """Compare what is chosen, and show it; a chosen baseline is kept where it is one of the arms."""
        names = list(self._runs.value)
        app.storage.user[_KEPT] = names
        self._button.disable()
        try:
            with told_problems(self._result):
                with self._result, busy():
                    comparison = await self._studio.long.done(self._compared, names, bool(self._texts.value))
                asked = {"runs": ",".join(names), **({"baseline": self._baseline} if self._baseline else {})}
                ui.navigate.history.replace(f"/compare?{urlencode(asked)}")
                if not self._result.is_deleted:
                    with self._result:
                        self._show(comparison, names)
        finally:
            self._button.enable()

    def _compared(self, names: list[str], with_texts: bool) -> Comparison:
        return compare(
            [str(self._studio.runs_dir / name) for name in names],  # a run of this name elsewhere is not meant
            runs_dir=self._studio.runs_dir,
            baseline=self._baseline or None,
            prompts=None if with_texts else [],
            device=self._studio.device,
            command=self._command(names, with_texts),
        )

    def _command(self, names: list[str], with_texts: bool) -> str:
        held = ["--baseline", self._baseline] if self._baseline else []
        quiet = [] if with_texts else ["--no-texts"]
        return shlex.join(["penna", "compare", *names, *held, *quiet, "--runs-dir", str(self._studio.runs_dir)])

    def _show(self, comparison: Comparison, names: list[str]) -> None:
        if comparison.warnings:
            with ui.element("section").classes("card") as card:
                card.props["aria-label"] = t("compare.warnings")
                heading(t("compare.warnings"))
                for warning in comparison.warnings:
                    ui.label(f"• {warning.text}")
        self._choose_baseline(comparison)
        heading(t("compare.results"))
        for table in main_tables(comparison):
            _titled_table(table)
        ui.label(legend(comparison)).classes("meaning")
        _Curves(comparison)
        heading(t("compare.recipes"))
        recipe = recipe_table(comparison)
        if recipe is None:
            ui.label(t("compare.recipes-same"))
        else:
            plain_table(t("compare.recipes"), recipe.header, recipe.rows, of_figures=False)
            meaning("compare.recipes-mean")
        heading(t("compare.all"))
        for table in (*group_tables(comparison), *difference_tables(comparison)):
            _titled_table(table)
        _show_identical(comparison)
        _show_texts(comparison)
        _Files(comparison, self._studio.long)

    def _choose_baseline(self, comparison: Comparison) -> None:
        arms = [arm.name for arm in comparison.arms]
        if len(arms) < 2:
            return

        async def changed(name: str) -> None:
            self._baseline = name
            await self.compare()

        ui.select(
            arms, value=comparison.baseline.name, label=t("compare.baseline"),
            on_change=lambda event: changed(event.value),
        ).props("outlined dense options-dense").classes("run-select")  # fmt: skip


class _Curves:
    """A chart of one figure at a time."""

    def __init__(self, comparison: Comparison) -> None:
        self._comparison = comparison
        pairs = logged(comparison)
        if not pairs:
            return
        heading(t("compare.curves"))
        self._pairs = {f"{split}:{name}": (split, name) for split, name in pairs}
        titles = {key: f"{split}: {figure_title(comparison, name)}" for key, (split, name) in self._pairs.items()}
        over = {axis: t(f"compare.{axis}") for axis in get_args(Axis)}
        with ui.element("div").classes("line"):
            self._figure = ui.select(titles, value=next(iter(titles)), label=t("compare.figure"), on_change=self._draw)
            self._over = ui.select(over, value="step", label=t("compare.over"), on_change=self._draw)
            for select in (self._figure, self._over):
                select.props("outlined dense options-dense").classes("run-select")
        self._place = ui.element("div").style("width: 100%")
        meaning("compare.curves-mean")
        self._draw()

    def _draw(self) -> None:
        split, name = self._pairs[self._figure.value]
        arms = ", ".join(arm.name for arm in self._comparison.arms)
        self._place.clear()
        with self._place:
            described = f"{split} {figure_title(self._comparison, name)}, {self._over.value}: {arms}"
            chart(curves(self._comparison, split, name, self._over.value), described)


class _Files:
    """Buttons that hand out the files of a comparison, drawn when the first of them is asked for."""

    def __init__(self, comparison: Comparison, long: LongWork) -> None:
        self._comparison, self._long = comparison, long
        self._files: dict[str, bytes] = {}
        heading(t("compare.keep"))
        with ui.element("div").classes("line"):
            for key, name in (
                ("report", "report.html"), ("csv", "comparison.csv"), ("svg", "curves-by-step.svg"),
                ("finals", "finals.svg"),
            ):  # fmt: skip
                click = partial(self._hand_out, name)
                ui.button(t(f"compare.{key}"), icon="download", on_click=click).props("outline")
        self._place = ui.element("div")
        meaning("compare.keep-mean")
        ui.label(comparison.made.command).classes("code")

    async def _hand_out(self, name: str) -> None:
        with told_problems(self._place):
            if not self._files:
                with self._place, busy():
                    self._files = await self._long.done(_written, self._comparison)
            if name not in self._files:
                raise RunError(
                    f"There is no {name} of this comparison: its runs logged too little to draw.",
                    "Runs with two evaluations or more.",
                    "Let them train on; the tables stand without it.",
                )
            ui.download.content(self._files[name], name)


def _written(comparison: Comparison) -> dict[str, bytes]:
    """The files that ``penna compare`` writes, by their names."""
    with _DRAWING, tempfile.TemporaryDirectory() as place:
        return {file.name: file.read_bytes() for file in write_comparison(comparison, Path(place))}


def _options(studio: Studio) -> dict[str, str]:
    """Experiments and runs that have a recipe, as they can be chosen."""
    rows = [row for row in studio.runs() if row.task is not None]
    folders = dict.fromkeys(row.name.rpartition("/")[0] for row in rows if "/" in row.name)
    experiments = [name for name in folders if find_experiment(name, studio.runs_dir) is not None]
    return {
        **{row.name: _line(row) for row in rows},
        **{name: f"{name} · {t('compare.experiment')}" for name in experiments},
    }


def _line(row: RunRow) -> str:
    best = "" if row.best is None else f" · {row.best.figure.replace('_', ' ')} {row.best.value:.4g}"
    return f"{row.name} · {row.task}{best}"


def _titled_table(table: ComparisonTable) -> None:
    heading(table.title, 3)
    plain_table(table.title, table.header, table.rows, of_figures=table.is_of_figures)


def _show_identical(comparison: Comparison) -> None:
    if comparison.identical:
        heading(t("compare.same"))
        for line in comparison.identical:
            ui.label(f"• {line}")


def _show_texts(comparison: Comparison) -> None:
    if comparison.texts:
        heading(t("compare.written"))
    for texts in comparison.texts:
        heading(texts.prompt or t("compare.start"), 3)
        with ui.element("div").classes("cards"):
            for text in texts.texts:
                with ui.element("article").classes("card"):
                    ui.label(text.arm + (f", {text.note}" if text.note else "")).classes("name")
                    if text.text is not None:
                        ui.label(text.text).classes("written")
