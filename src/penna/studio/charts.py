"""Charts: ECharts that read on light and dark paper, with a sentence for those who cannot see them."""

from __future__ import annotations

from typing import Any

from nicegui import ui

INK = "#808792"  # 3.6 : 1 on white and 4.6 : 1 on the dark page
COLOURS = ("#3b7dd8", "#d9662b", "#2e9e6b", "#b04fb0", "#a8871b", "#d24b5f", "#3aa0b5", "#7a6fd0")  # told apart on both
_AXIS: dict[str, Any] = {
    "axisLine": {"lineStyle": {"color": INK}},
    "axisLabel": {"color": INK},
    "nameTextStyle": {"color": INK},
    "splitLine": {"lineStyle": {"color": INK, "opacity": 0.25}},
}


def chart(options: dict[str, Any], described: str) -> ui.echart:
    """A chart; ``described`` says what it shows to those who cannot see it. Its options go before what is set here."""
    drawn: dict[str, Any] = {
        "color": list(COLOURS),
        "textStyle": {"color": INK},
        "animation": False,
        "grid": {"left": 12, "right": 18, "top": 44, "bottom": 34, "containLabel": True},
        **options,
    }
    if "legend" in drawn:
        drawn["legend"] = {"textStyle": {"color": INK}, "type": "scroll", **drawn["legend"]}
    for axis in ("xAxis", "yAxis"):
        if axis in drawn:
            given = drawn[axis]
            drawn[axis] = [{**_AXIS, **one} for one in given] if isinstance(given, list) else {**_AXIS, **given}
    quoted = described.replace('"', "'")
    return ui.echart(drawn).classes("figure").props(f'role=img aria-label="{quoted}"')


def lines(series: dict[str, list[tuple[float, float]]], x: str, y: str) -> dict[str, Any]:
    """Options of named lines over numbers: each a list of (x, y)."""
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
