"""What a comparison of decoding strategies found: the recommendation, a table, two charts, and texts side by side."""

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
from penna.studio.charts import COLOURS, INK, chart
from penna.studio.frame import heading, meaning, told_problems
from penna.studio.jobs import from_here
from penna.studio.pages.shading import cell, shaded, table
from penna.studio.state import Studio
from penna.studio.words import t
from penna.tokenizer.tokenizer import Tokenizer

_PREFIX = 60  # cells of a prefix in a list
_WIDE = 20  # times the least perplexity, from which a logarithm shows more
_BAR = 26  # pixels of a strategy in the chart of distances


def show_decoding(result: DecodingResult, studio: Studio, run: str) -> None:
    """The whole of it."""
    figures = result.metrics
    ui.label(from_here(conditions(figures)))
    _show_recommendation(figures, studio, run)
    heading(t("decoding.table"))
    rows = table_rows(figures)
    columns = used_columns(rows)
    names = [name for name, _ in rows]
    chosen = figures.recommendation.name
    lines = [
        [t("decoding.human") if place == 0 else name, *(cell(column.cell(values[column.name])) for column in columns)]
        for place, (name, values) in enumerate(rows)
    ]
    head = [t("decoding.strategy"), *(column.title for column in columns)]
    shaded(table(head, lines, chosen=None if chosen is None else names.index(chosen, 1)))
    ui.label(legend(figures)).classes("meaning")
    with ui.element("div").classes("cards"):
        if (plane := plane_options(figures)) is not None:
            with ui.element("section").classes("card"):
                heading(t("decoding.plane"), 3)
                chart(plane, t("decoding.plane"))
                meaning("decoding.plane-meaning")
        with ui.element("section").classes("card"):
            heading(t("decoding.distance"), 3)
            height = _BAR * len(figures.strategies) + 70
            chart(distance_options(figures), t("decoding.distance")).style(f"height: {height}px")
            meaning("decoding.distance-meaning")
    _show_samples(figures)
    meaning("decoding.files", folder=from_here(str(result.folder)))


def _show_recommendation(figures: DecodingMetrics, studio: Studio, run: str) -> None:
    found = figures.recommendation
    with ui.element("section").classes("card"):
        heading(t("decoding.recommendation"))
        ui.label(found.reason)
        for name, why in found.excluded.items():
            ui.label(t("decoding.left-out", name=name, why=why)).classes("name")
        ui.label(t("decoding.trusted", names=", ".join(figures.trusted) or t("decoding.nothing"))).classes("name")
        for sentence in (*(doubt.message for doubt in figures.doubts), *figures.notices):
            ui.label(sentence).classes("name")
        name = found.name
        if name is None:
            return
        if "distance" not in figures.trusted:
            meaning("decoding.not-saved")
            return

        def save() -> None:
            with told_problems(said):
                folder = studio.run(run)
                save_run_defaults(folder.path, figures.strategy(name).config, Tokenizer.load(folder.tokenizer))
                with said:
                    ui.label(t("decoding.saved", name=name))

        ui.button(t("decoding.save", name=name), on_click=save).props("outline")
        said = ui.element("div").props("role=status")


def plane_options(figures: DecodingMetrics) -> dict[str, Any] | None:
    """Perplexity against self-BLEU, a point for each strategy; None where human text has none of the two."""
    human = _point(figures.human.statistics.perplexity, figures.human.statistics.self_bleu)
    if human is None:
        return None
    points = {own.name: _point(own.statistics.perplexity, own.statistics.self_bleu) for own in figures.strategies}
    data = [{"name": name, "value": point} for name, point in points.items() if point is not None]
    named: dict[str, Any] = {"formatter": "{b}"}
    label: dict[str, Any] = {"show": True, "position": "top", "color": INK, "fontSize": 10, **named}
    perplexities = [point[0] for point in (human, *points.values()) if point is not None]
    kind = "log" if max(perplexities) > _WIDE * min(perplexities) else "value"
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


def distance_options(figures: DecodingMetrics) -> dict[str, Any]:
    """A bar for each strategy, the nearest to human text on top, with its interval."""
    known = [own for own in figures.strategies if math.isfinite(own.distance.mean)]
    known.sort(key=lambda own: -own.distance.mean)
    names = [own.name for own in known]
    spans = [
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
                    "lineStyle": {"type": "solid", "width": 2, "color": COLOURS[1]},
                    "data": spans,
                },
            }
        ],
    }


def _show_samples(figures: DecodingMetrics) -> None:
    heading(t("decoding.samples"))
    names = {
        number: f"{number + 1}: {truncate_end(one_line(text), _PREFIX)}"
        for number, text in enumerate(figures.prefix_texts)
    }

    @ui.refreshable
    def beside(number: int) -> None:
        ui.label(figures.prefix_texts[number]).classes("written").props("dir=auto")
        with ui.element("div").classes("cards"):
            _sample(t("decoding.human"), figures.human.texts[number])
            for own in figures.strategies:
                _sample(own.name, own.texts[number])

    chosen = ui.select(names, value=0, label=t("decoding.prefix"), on_change=lambda event: beside.refresh(event.value))
    chosen.props("outlined dense").classes("wide")
    beside(0)


def _sample(name: str, text: Continuation) -> None:
    with ui.element("section").classes("card"):
        heading(name, 3)
        ui.label(text.text).classes("written").props("dir=auto")


def _point(perplexity: float | None, self_bleu: float | None) -> list[float] | None:
    if perplexity is None or self_bleu is None or not math.isfinite(perplexity):
        return None
    return [round(perplexity, 3), round(self_bleu, 4)]
