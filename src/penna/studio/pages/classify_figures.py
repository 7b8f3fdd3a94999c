"""How well a classifier does, as its evaluations tell: figures, confusion matrix, reliability and the worst errors.

An evaluation comes in as `ClassificationFigures.as_json` gives it, just measured or read from the run's folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from nicegui import ui

from penna.formatting import truncate_end
from penna.interop.hf_files import read_json_object
from penna.runs.folder import RunFolder
from penna.studio.charts import INK, chart
from penna.studio.frame import heading, meaning
from penna.studio.pages.shading import cell, shaded, table
from penna.studio.words import t

Found = Mapping[str, Any]

_FIGURES = ("accuracy", "majority", "macro_f1", "log_loss", "calibration_error")
_WRITTEN = 20  # classes up to which counts stand in the cells
_MISTAKES = 10
_NAME = 16  # cells of a class's name in a figure
_LONGEST = 400  # cells of a text


def evaluations_of(run: RunFolder) -> dict[str, Found]:
    """The classifications that were measured on a run, by name, the newest first."""
    files = sorted((run.path / "evaluations").glob("*.json"), key=lambda file: -file.stat().st_mtime)
    read = {file.stem: read_json_object(file) for file in files}
    return {name: found for name, found in read.items() if "confusion" in found}


def show_figures(found: Found, look: Callable[[str], Any]) -> None:
    """An evaluation; ``look`` is called with the text of a mistake that is to be tried."""
    with ui.element("div").classes("figures"):
        _figure(t("classify.texts"), f"{found['count']:,}", "")
        for name in _FIGURES:
            _figure(t(f"classify.{name}"), f"{found[name]:.4f}", t(f"classify.{name}-meaning"))
        for part in found["parts"]:
            if part["accuracy"] is not None:
                _figure(part["name"], f"{part['accuracy']:.4f}", f"{part['count']:,} {t('classify.texts')}")
    with ui.element("div").classes("cards"):
        with ui.element("section").classes("card"):
            heading(t("classify.confusion"), 3)
            chart(confusion_options(found), t("classify.confusion")).classes("map")
            meaning("classify.confusion-meaning")
        with ui.element("section").classes("card"):
            heading(t("classify.reliability"), 3)
            chart(reliability_options(found), t("classify.reliability"))
            meaning("classify.reliability-meaning")
    shaded(_classes(found["classes"]))
    _show_worst(found["worst"][:_MISTAKES], look)


def _figure(name: str, value: str, says: str) -> None:
    with ui.element("div").classes("card"):
        ui.label(name).classes("name")
        ui.label(value).classes("value")
        if says:
            ui.label(says).classes("name")


def confusion_options(found: Found) -> dict[str, Any]:
    """Counts by true and predicted class, coloured by shares of the true class."""
    names = [truncate_end(each["name"], _NAME) for each in found["classes"]]
    data: list[dict[str, Any]] = []
    for down, row in enumerate(found["confusion"]):
        for across, count in enumerate(row):
            share = count / max(sum(row), 1)
            place: dict[str, Any] = {"value": [across, down, round(share, 4)], "name": f"{count:,}"}
            place["label"] = {"color": "#ffffff" if share > 0.5 else INK}
            data.append(place)
    axis: dict[str, Any] = {"type": "category", "data": names, "splitLine": {"show": False}}
    return {
        "grid": {"left": 8, "right": 12, "top": 30, "bottom": 70, "containLabel": True},
        "tooltip": {"formatter": "{b}"},
        "xAxis": {**axis, "name": t("classify.predicted"), "nameLocation": "middle", "nameGap": 26},
        "yAxis": {**axis, "name": t("classify.true"), "nameLocation": "start", "inverse": True},
        "visualMap": {
            "min": 0,
            "max": 1,
            "orient": "horizontal",
            "left": "center",
            "bottom": 0,
            "text": ["100 %", "0 %"],
            "itemHeight": 120,
            "textStyle": {"color": INK},
            "inRange": {"color": ["rgba(29,91,184,0.03)", "rgba(29,91,184,1)"]},
        },
        "series": [
            {
                "type": "heatmap",
                "data": data,
                "label": {"show": len(names) <= _WRITTEN, "formatter": "{b}", "fontSize": 14, "fontWeight": "bold"},
            }
        ],
    }


def reliability_options(found: Found) -> dict[str, Any]:
    """Accuracy by confidence, beside the line on which both are the same."""
    bins = found["reliability"]
    middles = [round((each["low"] + each["high"]) / 2, 2) for each in bins]
    axis: dict[str, Any] = {"type": "category", "data": middles, "name": t("classify.confidence")}
    return {
        "tooltip": {"formatter": "{b}: {c}"},
        "xAxis": {**axis, "nameLocation": "middle", "nameGap": 26},
        "yAxis": {"type": "value", "min": 0, "max": 1, "name": t("classify.accuracy")},
        "series": [
            {
                "type": "bar",
                "data": [None if each["accuracy"] is None else round(each["accuracy"], 4) for each in bins],
                "barWidth": "90%",
            },
            {
                "type": "line",
                "data": middles,
                "symbol": "none",
                "silent": True,
                "lineStyle": {"type": "dashed", "color": INK},
            },
        ],
    }


def _classes(classes: Sequence[Found]) -> str:
    names = ("precision", "recall", "F1")
    head = [t("classify.class"), t("classify.precision"), t("classify.recall"), "F1"]
    head += [t("classify.texts"), t("classify.predicted")]
    rows = [
        [
            each["name"],
            *(cell("–" if each[name.lower()] is None else f"{each[name.lower()]:.4f}") for name in names),
            cell(f"{each['support']:,}"),
            cell(f"{each['predicted']:,}"),
        ]
        for each in classes
    ]
    return table(head, rows)


def _show_worst(worst: Sequence[Found], look: Callable[[str], Any]) -> None:
    if not worst:
        return
    heading(t("classify.worst"))
    meaning("classify.worst-meaning")
    with ui.element("div").classes("cards"):
        for mistake in worst:
            with ui.element("section").classes("card"):
                told = {name: mistake[name] for name in ("predicted", "true")}
                ui.label(t("classify.mistake", **told, confidence=f"{mistake['confidence']:.3f}")).classes("name")
                text = mistake["text"] or ""
                ui.label(truncate_end(text, _LONGEST) or t("classify.empty")).classes("written").props("dir=auto")
                ui.label(mistake["place"] or "").classes("name")
                if text.strip():
                    button = ui.button(t("classify.look"), on_click=partial(look, text))
                    button.props("flat dense")
