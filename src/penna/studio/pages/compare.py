"""The Compare page: curves of several runs in one chart, results, recipe differences, warnings and downloads."""

from __future__ import annotations

import shlex
import tempfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlencode

import numpy as np
from nicegui import app, ui

from penna.api.compare import compare, write_comparison
from penna.errors import RunError
from penna.report.experiments.comparison import Comparison
from penna.report.experiments.plots import AXES, Line, arm_label, mean_line
from penna.report.experiments.results import LAST, Column, ComparedRun
from penna.report.experiments.tables import (
    difference_tables,
    group_tables,
    legend,
    main_tables,
    recipe_table,
)
from penna.report.tables import TextTable
from penna.report.training_plots import Axis
from penna.runs.experiment import find_experiment
from penna.studio.background import BackgroundThreads
from penna.studio.charts import COLORS, INK, show_chart
from penna.studio.i18n import t
from penna.studio.layout import busy, errors_shown_in, heading, note, page_layout
from penna.studio.tables import show_table
from penna.studio.workspace import RunRow, Studio

_STORAGE = "chosen.compare"
_PLOT_LOCK = threading.Lock()  # matplotlib's settings are global
_BEGINNING = 0.1  # of a run; the vertical axis ignores it
_METRICS = ("loss", "label_loss", "lm_loss", "bits_per_byte", "accuracy", "macro_f1", "lm_accuracy")
_LOWER_IS_BETTER = ("loss", "label_loss", "lm_loss", "bits_per_byte")
_SYMBOLS = ("circle", "rect", "triangle", "diamond", "roundRect", "pin", "arrow", "emptyCircle")
_DASHES = ("solid", "dashed", "dotted")
_FILES = (
    ("report", "report.html"),
    ("csv", "comparison.csv"),
    ("svg", "curves-by-step.svg"),
    ("finals", "finals.svg"),
)


def add(studio: Studio) -> None:
    """Register the page."""

    @ui.page("/compare")
    def page(runs: str = "", baseline: str = "") -> None:  # pyright: ignore[reportUnusedFunction]
        with page_layout(studio, "compare"):
            _Page(studio, [name for name in runs.split(",") if name], baseline)


class _Page:
    """One visit."""

    def __init__(self, studio: Studio, requested: list[str], baseline: str) -> None:
        """``requested`` are the runs in the address."""
        self._studio, self._baseline = studio, baseline
        options = _options(studio)
        names = requested or app.storage.user.get(_STORAGE, [])
        note("compare.lead")
        with ui.element("div").classes("line"):
            chosen = [name for name in names if name in options]
            self._runs = ui.select(options, value=chosen, multiple=True, label=t("compare.runs")).classes("grow")
            self._runs.props("outlined dense use-chips options-dense")
            self._button = ui.button(t("compare.go"), on_click=self.compare)
        self._with_texts = ui.switch(t("compare.texts"))
        self._result = ui.element("div").classes("page").style("padding: 0; max-width: none")
        unknown = [name for name in requested if name not in options]
        with errors_shown_in(self._result):
            if unknown:
                raise RunError(
                    f"There is no run or experiment {unknown[0]!r} here.",
                    "It must be in the list above; it may have been deleted or renamed.",
                    "Choose from the list.",
                )
            if requested:
                ui.timer(0.05, self.compare, once=True)

    async def compare(self) -> None:
        """Compare the chosen runs and show the result. The baseline is kept if it is one of the arms."""
        names = list(self._runs.value)
        app.storage.user[_STORAGE] = names
        self._button.disable()
        try:
            with errors_shown_in(self._result):
                with self._result, busy():
                    with_texts = bool(self._with_texts.value)
                    comparison = await self._studio.background.run(self._compare, names, with_texts)
                query = {"runs": ",".join(names), **({"baseline": self._baseline} if self._baseline else {})}
                ui.navigate.history.replace(f"/compare?{urlencode(query)}")
                if not self._result.is_deleted:
                    with self._result:
                        self._show(comparison)
        finally:
            self._button.enable()

    def _compare(self, names: list[str], with_texts: bool) -> Comparison:
        return compare(
            [str(self._studio.runs_dir / name) for name in names],  # never a run of the same name elsewhere
            runs_dir=self._studio.runs_dir,
            baseline=self._baseline or None,
            prompts=None if with_texts else [],
            device=self._studio.device,
            command=self._command(names, with_texts),
        )

    def _command(self, names: list[str], with_texts: bool) -> str:
        baseline = ["--baseline", self._baseline] if self._baseline else []
        no_texts = [] if with_texts else ["--no-texts"]
        return shlex.join(["penna", "compare", *names, *baseline, *no_texts, "--runs-dir", str(self._studio.runs_dir)])

    def _show(self, comparison: Comparison) -> None:
        if comparison.warnings:
            with ui.element("section").classes("card") as card:
                card.props["aria-label"] = t("compare.warnings")
                heading(t("compare.warnings"))
                for warning in comparison.warnings:
                    ui.label(f"• {warning.text}")
        self._baseline_select(comparison)
        heading(t("compare.results"))
        for table in main_tables(comparison):
            _titled_table(table)
        ui.label(legend(comparison)).classes("note")
        _Curves(comparison)
        heading(t("compare.recipes"))
        recipe = recipe_table(comparison)
        if recipe is None:
            ui.label(t("compare.recipes-same"))
        else:
            show_table(t("compare.recipes"), recipe.header, recipe.rows, is_numeric=False)
            note("compare.recipes-note")
        heading(t("compare.all"))
        for table in (*group_tables(comparison), *difference_tables(comparison)):
            _titled_table(table)
        _show_identical(comparison)
        _show_texts(comparison)
        _Downloads(comparison, self._studio.background)

    def _baseline_select(self, comparison: Comparison) -> None:
        arms = [arm.name for arm in comparison.arms]
        if len(arms) < 2:
            return

        async def change(name: str) -> None:
            self._baseline = name
            await self.compare()

        select = ui.select(
            arms,
            value=comparison.baseline.name,
            label=t("compare.baseline"),
            on_change=lambda event: change(event.value),
        )
        select.props("outlined dense options-dense").classes("run-select")


class _Curves:
    """A chart of one metric at a time."""

    def __init__(self, comparison: Comparison) -> None:
        self._comparison = comparison
        pairs = logged_metrics(comparison)
        if not pairs:
            return
        heading(t("compare.curves"))
        self._pairs = {f"{split}:{name}": (split, name) for split, name in pairs}
        titles = {key: f"{split}: {_metric_title(comparison, name)}" for key, (split, name) in self._pairs.items()}
        axes = {axis: t(f"compare.{axis}") for axis in get_args(Axis)}
        with ui.element("div").classes("line"):
            self._metric = ui.select(titles, value=next(iter(titles)), label=t("compare.metric"), on_change=self._draw)
            self._axis = ui.select(axes, value="step", label=t("compare.axis"), on_change=self._draw)
            for select in (self._metric, self._axis):
                select.props("outlined dense options-dense").classes("run-select")
        self._place = ui.element("div").style("width: 100%")
        note("compare.curves-note")
        self._draw()

    def _draw(self) -> None:
        split, name = self._pairs[self._metric.value]
        arms = ", ".join(arm.name for arm in self._comparison.arms)
        self._place.clear()
        with self._place:
            description = f"{split} {_metric_title(self._comparison, name)}, {self._axis.value}: {arms}"
            show_chart(curve_options(self._comparison, split, name, self._axis.value), description)


class _Downloads:
    """Buttons that download the files of a comparison. The files are written when the first one is clicked."""

    def __init__(self, comparison: Comparison, background: BackgroundThreads) -> None:
        self._comparison, self._background = comparison, background
        self._files: dict[str, bytes] = {}
        heading(t("compare.keep"))
        with ui.element("div").classes("line"):
            for key, name in _FILES:
                click = partial(self._download, name)
                ui.button(t(f"compare.{key}"), icon="download", on_click=click).props("outline")
        self._errors = ui.element("div")
        note("compare.keep-note")
        ui.label(comparison.provenance.command).classes("code")

    async def _download(self, name: str) -> None:
        with errors_shown_in(self._errors):
            if not self._files:
                with self._errors, busy():
                    self._files = await self._background.run(_comparison_files, self._comparison)
            if name not in self._files:
                raise RunError(
                    f"This comparison has no {name}: its runs logged too little to plot.",
                    "A plot needs runs with at least two evaluations.",
                    "Train them longer, or use the tables.",
                )
            ui.download.content(self._files[name], name)


def _comparison_files(comparison: Comparison) -> dict[str, bytes]:
    """The files that ``penna compare`` writes, by name."""
    with _PLOT_LOCK, tempfile.TemporaryDirectory() as folder:
        return {file.name: file.read_bytes() for file in write_comparison(comparison, Path(folder))}


def _options(studio: Studio) -> dict[str, str]:
    """Runs with a recipe, and experiments, with their labels."""
    rows = [row for row in studio.runs() if row.task is not None]
    folders = dict.fromkeys(row.name.rpartition("/")[0] for row in rows if "/" in row.name)
    experiments = [name for name in folders if find_experiment(name, studio.runs_dir) is not None]
    return {
        **{row.name: _run_label(row) for row in rows},
        **{name: f"{name} · {t('compare.experiment')}" for name in experiments},
    }


def _run_label(row: RunRow) -> str:
    best = "" if row.best is None else f" · {row.best.metric.replace('_', ' ')} {row.best.value:.4g}"
    return f"{row.name} · {row.task}{best}"


def _titled_table(table: TextTable) -> None:
    heading(table.title, 3)
    show_table(table.title, table.header, table.rows, is_numeric=table.is_numeric)


def _show_identical(comparison: Comparison) -> None:
    if comparison.identical:
        heading(t("compare.same"))
        for line in comparison.identical:
            ui.label(f"• {line}")


def _show_texts(comparison: Comparison) -> None:
    if comparison.texts:
        heading(t("compare.generated"))
    for texts in comparison.texts:
        heading(texts.prompt or t("compare.start"), 3)
        with ui.element("div").classes("cards"):
            for text in texts.texts:
                with ui.element("article").classes("card"):
                    ui.label(text.arm + (f", {text.note}" if text.note else "")).classes("name")
                    if text.text is not None:
                        ui.label(text.text).classes("generated")


def logged_metrics(comparison: Comparison) -> list[tuple[str, str]]:
    """The (split, metric) pairs that some run logged at least twice, the main metric first."""
    runs = [run for arm in comparison.arms for run in arm.runs]
    pairs = [
        (split, name)
        for split in ("valid", "train")
        for name in _METRICS
        if any(len(_line(run, split, name, "step")[0]) > 1 for run in runs)
    ]
    main = comparison.main_columns[0].name if comparison.main_columns else "loss"
    return sorted(pairs, key=lambda pair: pair != ("valid", main))


def curve_options(comparison: Comparison, split: str, name: str, by: Axis) -> dict[str, Any]:
    """Chart options of one metric over steps, tokens, seconds or epochs, for all arms.

    Every run is a thin line; the thick line of an arm with several seeds is their mean, as in the plots of ``penna
    compare``. The vertical axis fits the values after the first tenth, so that the drop at the start hides nothing.
    """
    scale = 100 if _column(comparison, name).format.percent else 1
    series: list[dict[str, Any]] = []
    all_lines: list[Line] = []
    for number, arm in enumerate(comparison.arms):
        lines = [(x, scale * y) for x, y in (_line(run, split, name, by) for run in arm.runs) if len(x)]
        series += _arm_series(arm_label(arm), lines, number)
        all_lines += lines
    limits = _axis_limits(all_lines, name)
    axis: dict[str, Any] = {"type": "value", "name": _metric_title(comparison, name), "scale": True, **limits}
    if limits:  # the limit itself is not a round number
        axis["axisLabel"] = {"color": INK, "showMaxLabel": False, "showMinLabel": False}
    return {
        "legend": {"top": 0, "data": [arm_label(arm) for arm in comparison.arms]},
        "tooltip": {"trigger": "axis", "order": "valueDesc", "confine": True},
        "xAxis": {"type": "value", "name": AXES[by], "nameLocation": "middle", "nameGap": 28},
        "yAxis": axis,
        "series": series,
    }


def _arm_series(label: str, lines: list[Line], number: int) -> Iterator[dict[str, Any]]:
    style: dict[str, Any] = {
        "type": "line",
        "name": label,
        "color": COLORS[number % len(COLORS)],
        "symbol": _SYMBOLS[number % len(_SYMBOLS)],
    }
    dash = _DASHES[number // len(COLORS) % len(_DASHES)]
    if len(lines) > 1:
        thin = {"width": 1, "opacity": 0.4, "type": dash}
        for line in lines:
            yield {**style, "data": _points(line), "showSymbol": False, "lineStyle": thin, "silent": True}
    if lines:
        x, mean, _, _ = mean_line(lines)
        thick = {"width": 2.2, "type": dash}
        yield {**style, "data": _points((x, mean)), "showSymbol": len(x) < 40, "symbolSize": 6, "lineStyle": thick}


def _points(line: Line) -> list[list[float]]:
    return [[float(x), float(f"{y:.6g}")] for x, y in zip(*line, strict=True)]


def _axis_limits(lines: list[Line], name: str) -> dict[str, float]:
    """The limit that the values of the first tenth may exceed."""
    end = max((x[-1] for x, _ in lines), default=0.0)
    later = [float(value) for x, y in lines for value in y[x >= _BEGINNING * end]]
    if len(later) < 2 or min(later) == max(later):
        return {}
    margin = 0.06 * (max(later) - min(later))
    if name in _LOWER_IS_BETTER:
        return {"max": float(f"{max(later) + margin:.4g}")}
    return {"min": float(f"{min(later) - margin:.4g}")}


def _line(run: ComparedRun, split: str, name: str, by: Axis) -> Line:
    rows = [row for row in run.rows if row["split"] == split and isinstance(row.get(name), int | float)]
    x, y = [row[by] for row in rows], [row[name] for row in rows]
    return np.array(x, dtype=np.float64), np.array(y, dtype=np.float64)


def _metric_title(comparison: Comparison, name: str) -> str:
    """A metric's name with its unit, as in the tables."""
    return _column(comparison, name).title


def _column(comparison: Comparison, name: str) -> Column:
    return Column(LAST, name, comparison.kind == "classify")
