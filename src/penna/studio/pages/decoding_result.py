"""The result of a decoding comparison: the recommendation, a table, two charts, and texts side by side."""

from __future__ import annotations

import math
from typing import Any

from nicegui import ui

from penna.api.decoding import DecodingResult
from penna.api.generation_defaults import save_run_defaults
from penna.evaluate.decoding import DecodingMetrics
from penna.evaluate.texts.statistics import Continuation
from penna.formatting import one_line, truncate_end
from penna.report.decoding_tables import conditions, legend, table_rows, used_columns
from penna.studio.charts import COLORS, INK, show_chart
from penna.studio.i18n import t
from penna.studio.layout import errors_shown_in, heading, note
from penna.studio.tables import show_table
from penna.studio.training_processes import relative_path
from penna.studio.workspace import Studio
from penna.tokenizer.tokenizer import Tokenizer

_PREFIX_WIDTH = 60  # terminal cells of a prefix in a list
_LOG_RATIO = 20  # of the largest to the smallest perplexity, above which the axis is logarithmic
_BAR_HEIGHT = 26  # pixels


def show_decoding(result: DecodingResult, studio: Studio, run: str) -> None:
    """Show the whole result."""
    metrics = result.metrics
    ui.label(relative_path(conditions(metrics)))
    _show_recommendation(metrics, studio, run)
    heading(t("decoding.table"))
    _show_strategies(metrics)
    ui.label(legend(metrics)).classes("note")
    with ui.element("div").classes("cards"):
        plane = _plane_options(metrics)
        if plane is not None:
            with ui.element("section").classes("card"):
                heading(t("decoding.plane"), 3)
                show_chart(plane, t("decoding.plane"))
                note("decoding.plane-note")
        with ui.element("section").classes("card"):
            heading(t("decoding.distance"), 3)
            height = _BAR_HEIGHT * len(metrics.strategies) + 70
            show_chart(_distance_options(metrics), t("decoding.distance")).style(f"height: {height}px")
            note("decoding.distance-note")
    _show_samples(metrics)
    note("decoding.files", folder=relative_path(str(result.folder)))


def _show_recommendation(metrics: DecodingMetrics, studio: Studio, run: str) -> None:
    recommendation = metrics.recommendation
    with ui.element("section").classes("card"):
        heading(t("decoding.recommendation"))
        ui.label(recommendation.reason)
        for name, why in recommendation.excluded.items():
            ui.label(t("decoding.excluded", name=name, why=why)).classes("name")
        names = ", ".join(metrics.trusted) or t("decoding.nothing")
        ui.label(t("decoding.reliable", names=names)).classes("name")
        for sentence in (*(doubt.message for doubt in metrics.doubts), *metrics.notices):
            ui.label(sentence).classes("name")
        name = recommendation.name
        if name is None:
            return
        if "distance" not in metrics.trusted:
            note("decoding.not-saved")
            return

        def save() -> None:
            with errors_shown_in(status):
                folder = studio.run(run)
                save_run_defaults(folder.path, metrics.strategy(name).config, Tokenizer.load(folder.tokenizer))
                with status:
                    ui.label(t("decoding.saved", name=name))

        ui.button(t("decoding.save", name=name), on_click=save).props("outline")
        status = ui.element("div").props("role=status")


def _show_strategies(metrics: DecodingMetrics) -> None:
    """A row for human text and for each strategy; the recommended one is bold."""
    entries = table_rows(metrics)
    columns = used_columns(entries)
    names = [name for name, _ in entries]
    rows = [
        [t("decoding.human") if place == 0 else name, *(column.cell(values[column.name]) for column in columns)]
        for place, (name, values) in enumerate(entries)
    ]
    header = [t("decoding.strategy"), *(column.title for column in columns)]
    chosen = metrics.recommendation.name
    show_table(t("decoding.table"), header, rows, chosen=None if chosen is None else names.index(chosen, 1))


def _plane_options(metrics: DecodingMetrics) -> dict[str, Any] | None:
    """Self-BLEU over perplexity, a point for each strategy; None if human text lacks one of them."""
    human = _point(metrics.human.statistics.perplexity, metrics.human.statistics.self_bleu)
    if human is None:
        return None
    points = {own.name: _point(own.statistics.perplexity, own.statistics.self_bleu) for own in metrics.strategies}
    data = [{"name": name, "value": point} for name, point in points.items() if point is not None]
    named: dict[str, Any] = {"formatter": "{b}"}
    label: dict[str, Any] = {"show": True, "position": "top", "color": INK, "fontSize": 10, **named}
    perplexities = [point[0] for point in (human, *points.values()) if point is not None]
    kind = "log" if max(perplexities) > _LOG_RATIO * min(perplexities) else "value"
    axis: dict[str, Any] = {"type": kind, "scale": True, "name": t("decoding.perplexity")}
    return {
        "tooltip": named,
        "xAxis": {**axis, "nameLocation": "middle", "nameGap": 28},
        "yAxis": {"type": "value", "name": "self-BLEU-4", "scale": True},
        "series": [
            {
                "type": "scatter",
                "data": data,
                "symbolSize": 11,
                "label": label,
                "labelLayout": {"hideOverlap": True},
            },
            {
                "type": "scatter",
                "data": [{"name": t("decoding.human"), "value": human}],
                "symbol": "diamond",
                "symbolSize": 18,
                "label": {**label, "color": "inherit", "fontSize": 12},
            },
        ],
    }


def _distance_options(metrics: DecodingMetrics) -> dict[str, Any]:
    """A bar with an interval for each strategy, the closest to human text on top."""
    known = [own for own in metrics.strategies if math.isfinite(own.distance.mean)]
    known.sort(key=lambda own: -own.distance.mean)
    names = [own.name for own in known]
    intervals = [
        [{"coord": [own.distance.low, own.name]}, {"coord": [own.distance.high, own.name]}]
        for own in known
        if math.isfinite(own.distance.low) and math.isfinite(own.distance.high)
    ]
    return {
        "grid": {"left": 8, "right": 16, "top": 8, "bottom": 24, "containLabel": True},
        "tooltip": {"formatter": "{b}: {c}"},
        "xAxis": {"type": "value"},
        "yAxis": {"type": "category", "data": names},
        "series": [
            {
                "type": "bar",
                "data": [round(own.distance.mean, 3) for own in known],
                "barMaxWidth": 14,
                "markLine": {
                    "symbol": "none",
                    "silent": True,
                    "label": {"show": False},
                    "lineStyle": {"type": "solid", "width": 2, "color": COLORS[1]},
                    "data": intervals,
                },
            }
        ],
    }


def _show_samples(metrics: DecodingMetrics) -> None:
    heading(t("decoding.samples"))
    names = {
        number: f"{number + 1}: {truncate_end(one_line(text), _PREFIX_WIDTH)}"
        for number, text in enumerate(metrics.prefix_texts)
    }

    @ui.refreshable
    def continuations(number: int) -> None:
        ui.label(metrics.prefix_texts[number]).classes("generated").props("dir=auto")
        with ui.element("div").classes("cards"):
            _show_sample(t("decoding.human"), metrics.human.texts[number])
            for own in metrics.strategies:
                _show_sample(own.name, own.texts[number])

    select = ui.select(
        names, value=0, label=t("decoding.prefix"), on_change=lambda event: continuations.refresh(event.value)
    )
    select.props("outlined dense").classes("wide")
    continuations(0)


def _show_sample(name: str, text: Continuation) -> None:
    with ui.element("section").classes("card"):
        heading(name, 3)
        ui.label(text.text).classes("generated").props("dir=auto")


def _point(perplexity: float | None, self_bleu: float | None) -> list[float] | None:
    if perplexity is None or self_bleu is None or not math.isfinite(perplexity):
        return None
    return [round(perplexity, 3), round(self_bleu, 4)]
