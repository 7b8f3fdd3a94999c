"""Curves of a comparison as charts: arms and their logs in, options of one chart out.

Every run is a thin line; the strong one of an arm with several seeds is their mean, as in the figures of
``penna compare``. The height goes by what comes after the first tenth, so that the fall at the start does not hide what
is compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from penna.report.experiments.comparison import Comparison
from penna.report.experiments.plots import AXES, Line, arm_label, mean_line
from penna.report.experiments.results import LAST, Column, ComparedRun
from penna.report.training_plots import Axis
from penna.studio.charts import COLOURS, INK

_BEGINNING = 0.1  # of a run
_FIGURES = ("loss", "label_loss", "lm_loss", "bits_per_byte", "accuracy", "macro_f1", "lm_accuracy")
_FALLING = ("loss", "label_loss", "lm_loss", "bits_per_byte")
_SYMBOLS = ("circle", "rect", "triangle", "diamond", "roundRect", "pin", "arrow", "emptyCircle")
_DASHES = ("solid", "dashed", "dotted")


def logged(comparison: Comparison) -> list[tuple[str, str]]:
    """The (split, figure) pairs of which a run logged two points or more, the main one first."""
    runs = [run for arm in comparison.arms for run in arm.runs]
    found = [
        (split, name)
        for split in ("valid", "train")
        for name in _FIGURES
        if any(len(_line(run, split, name, "step")[0]) > 1 for run in runs)
    ]
    main = comparison.main[0].name if comparison.main else "loss"
    return sorted(found, key=lambda pair: pair != ("valid", main))


def figure_title(comparison: Comparison, name: str) -> str:
    """A figure's name with its unit, as tables have it."""
    return _column(comparison, name).title


def curves(comparison: Comparison, split: str, name: str, by: Axis) -> dict[str, Any]:
    """Options of a chart of one figure over steps, tokens, seconds or epochs, all arms in it."""
    scale = 100 if _column(comparison, name).field.percent else 1
    series: list[dict[str, Any]] = []
    drawn: list[Line] = []
    for number, arm in enumerate(comparison.arms):
        found = [_line(run, split, name, by) for run in arm.runs]
        lines = [(x, scale * y) for x, y in found if len(x)]
        series += _of_arm(arm_label(arm), lines, number)
        drawn += lines
    height = _height(drawn, name)
    axis: dict[str, Any] = {"type": "value", "name": figure_title(comparison, name), "scale": True, **height}
    if height:  # where an axis is cut off is no round number
        axis["axisLabel"] = {"color": INK, "showMaxLabel": False, "showMinLabel": False}
    return {
        "legend": {"top": 0, "data": [arm_label(arm) for arm in comparison.arms]},
        "tooltip": {"trigger": "axis", "order": "valueDesc", "confine": True},
        "xAxis": {"type": "value", "name": AXES[by], "nameLocation": "middle", "nameGap": 28},
        "yAxis": axis,
        "series": series,
    }


def _of_arm(label: str, lines: list[Line], number: int) -> Iterator[dict[str, Any]]:
    look: dict[str, Any] = {
        "type": "line",
        "name": label,
        "color": COLOURS[number % len(COLOURS)],
        "symbol": _SYMBOLS[number % len(_SYMBOLS)],
    }
    dash = _DASHES[number // len(COLOURS) % len(_DASHES)]
    if len(lines) > 1:
        thin = {"width": 1, "opacity": 0.4, "type": dash}
        for line in lines:
            yield {**look, "data": _points(line), "showSymbol": False, "lineStyle": thin, "silent": True}
    if lines:
        x, mean, _, _ = mean_line(lines)
        strong = {"width": 2.2, "type": dash}
        yield {**look, "data": _points((x, mean)), "showSymbol": len(x) < 40, "symbolSize": 6, "lineStyle": strong}


def _points(line: Line) -> list[list[float]]:
    return [[float(x), float(f"{y:.6g}")] for x, y in zip(*line, strict=True)]


def _height(lines: list[Line], name: str) -> dict[str, float]:
    """Where an axis ends, so that the beginning, which leaves it, does not press the rest together."""
    end = max((x[-1] for x, _ in lines), default=0.0)
    later = [float(value) for x, y in lines for value in y[x >= _BEGINNING * end]]
    if len(later) < 2 or min(later) == max(later):
        return {}
    margin = 0.06 * (max(later) - min(later))
    if name in _FALLING:
        return {"max": float(f"{max(later) + margin:.4g}")}
    return {"min": float(f"{min(later) - margin:.4g}")}


def _line(run: ComparedRun, split: str, name: str, by: Axis) -> Line:
    rows = [row for row in run.rows if row["split"] == split and isinstance(row.get(name), int | float)]
    x, y = [row[by] for row in rows], [row[name] for row in rows]
    return np.array(x, dtype=np.float64), np.array(y, dtype=np.float64)


def _column(comparison: Comparison, name: str) -> Column:
    return Column(LAST, name, comparison.kind == "classify")
