"""ECharts that are readable on light and dark pages, each with a text for screen readers."""

from __future__ import annotations

from typing import Any

from nicegui import ui

INK = "#808792"  # contrast 3.6 : 1 on white and 4.6 : 1 on the dark page
COLORS = ("#3b7dd8", "#d9662b", "#2e9e6b", "#b04fb0", "#a8871b", "#d24b5f", "#3aa0b5", "#7a6fd0")
_AXIS: dict[str, Any] = {
    "axisLine": {"lineStyle": {"color": INK}},
    "axisLabel": {"color": INK},
    "nameTextStyle": {"color": INK},
    "splitLine": {"lineStyle": {"color": INK, "opacity": 0.25}},
}


def show_chart(options: dict[str, Any], description: str) -> ui.echart:
    """A chart; its options override the defaults, and ``description`` is for screen readers."""
    merged: dict[str, Any] = {
        "color": list(COLORS),
        "textStyle": {"color": INK},
        "animation": False,
        "grid": {"left": 12, "right": 18, "top": 44, "bottom": 34, "containLabel": True},
        **options,
    }
    if "legend" in merged:
        merged["legend"] = {"textStyle": {"color": INK}, "type": "scroll", **merged["legend"]}
    for name in ("xAxis", "yAxis"):
        if name in merged:
            axis = merged[name]
            merged[name] = [{**_AXIS, **one} for one in axis] if isinstance(axis, list) else {**_AXIS, **axis}
    quoted = description.replace('"', "'")
    return ui.echart(merged).classes("chart").props(f'role=img aria-label="{quoted}"')


def line_chart(series: dict[str, list[tuple[float, float]]], x: str, y: str) -> dict[str, Any]:
    """Chart options for named lines, each a list of (x, y)."""
    return {
        "legend": {"top": 0},
        "tooltip": {"trigger": "axis"},
        "xAxis": {"type": "value", "name": x, "nameLocation": "middle", "nameGap": 28},
        "yAxis": {"type": "value", "name": y, "scale": True},
        "series": [
            {"type": "line", "name": name, "data": [list(point) for point in points], "showSymbol": len(points) < 40}
            for name, points in series.items()
        ],
    }


def show_metrics(metrics: list[tuple[str, str, str]]) -> None:
    """Cards of metrics, each a name, a value and a note (may be empty)."""
    with ui.element("div").classes("metrics"):
        for name, value, text in metrics:
            with ui.element("div").classes("card"):
                ui.label(name).classes("name")
                ui.label(value).classes("value")
                if text:
                    ui.label(text).classes("name")
