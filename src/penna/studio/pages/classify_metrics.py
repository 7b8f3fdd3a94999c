"""The evaluation of a classifier: metrics, confusion matrix, reliability diagram and the most confident errors.

An evaluation is the JSON of ``ClassificationMetrics``, read from the run's folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from nicegui import ui

from penna.formatting import truncate_end
from penna.interop.hf_files import read_json_object
from penna.runs.folder import RunFolder
from penna.studio.charts import INK, show_chart, show_metrics
from penna.studio.i18n import t
from penna.studio.layout import heading, note
from penna.studio.tables import show_table

Evaluation = Mapping[str, Any]

_METRICS = ("accuracy", "majority", "macro_f1", "log_loss", "calibration_error")
_MAX_COUNTS = 20  # classes up to which the cells of the confusion matrix show counts
_MAX_ERRORS = 10
_NAME_WIDTH = 16  # terminal cells of a class name in a chart
_TEXT_WIDTH = 400


def classification_evaluations(run: RunFolder) -> dict[str, Evaluation]:
    """The evaluations of a classifier by name, the newest first."""
    files = sorted((run.path / "evaluations").glob("*.json"), key=lambda file: -file.stat().st_mtime)
    evaluations = {file.stem: read_json_object(file) for file in files}
    return {name: evaluation for name, evaluation in evaluations.items() if "confusion" in evaluation}


def show_evaluation(evaluation: Evaluation, on_try: Callable[[str], Any]) -> None:
    """Show an evaluation; ``on_try`` receives the text of an error that a person wants to classify again."""
    metrics = [(t("classify.texts"), f"{evaluation['count']:,}", "")]
    metrics += [(t(f"classify.{name}"), f"{evaluation[name]:.4f}", t(f"classify.{name}-note")) for name in _METRICS]
    metrics += [
        (part["name"], f"{part['accuracy']:.4f}", f"{part['count']:,} {t('classify.texts')}")
        for part in evaluation["parts"]
        if part["accuracy"] is not None
    ]
    show_metrics(metrics)
    with ui.element("div").classes("cards"):
        with ui.element("section").classes("card"):
            heading(t("classify.confusion"), 3)
            show_chart(_confusion_options(evaluation), t("classify.confusion")).classes("square")
            note("classify.confusion-note")
        with ui.element("section").classes("card"):
            heading(t("classify.reliability"), 3)
            show_chart(_reliability_options(evaluation), t("classify.reliability"))
            note("classify.reliability-note")
    _show_classes(evaluation["classes"])
    _show_errors(evaluation["worst"][:_MAX_ERRORS], on_try)


def _confusion_options(evaluation: Evaluation) -> dict[str, Any]:
    """Counts by true and predicted class, colored by the share of the true class."""
    names = [truncate_end(each["name"], _NAME_WIDTH) for each in evaluation["classes"]]
    data: list[dict[str, Any]] = []
    for true, row in enumerate(evaluation["confusion"]):
        for predicted, count in enumerate(row):
            share = count / max(sum(row), 1)
            point: dict[str, Any] = {"value": [predicted, true, round(share, 4)], "name": f"{count:,}"}
            point["label"] = {"color": "#ffffff" if share > 0.5 else INK}
            data.append(point)
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
                "label": {"show": len(names) <= _MAX_COUNTS, "formatter": "{b}", "fontSize": 14, "fontWeight": "bold"},
            }
        ],
    }


def _reliability_options(evaluation: Evaluation) -> dict[str, Any]:
    """Accuracy by confidence, and the diagonal of perfect calibration."""
    bins = evaluation["reliability"]
    centers = [round((each["low"] + each["high"]) / 2, 2) for each in bins]
    axis: dict[str, Any] = {"type": "category", "data": centers, "name": t("classify.confidence")}
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
                "data": centers,
                "symbol": "none",
                "silent": True,
                "lineStyle": {"type": "dashed", "color": INK},
            },
        ],
    }


def _show_classes(classes: Sequence[Evaluation]) -> None:
    header = [t(f"classify.{name}") for name in ("class", "precision", "recall")]
    header += ["F1", t("classify.texts"), t("classify.predicted")]
    rows = [
        [
            each["name"],
            *("–" if each[name] is None else f"{each[name]:.4f}" for name in ("precision", "recall", "f1")),
            f"{each['support']:,}",
            f"{each['predicted']:,}",
        ]
        for each in classes
    ]
    show_table(t("classify.class"), header, rows)


def _show_errors(errors: Sequence[Evaluation], on_try: Callable[[str], Any]) -> None:
    if not errors:
        return
    heading(t("classify.worst"))
    note("classify.worst-note")
    with ui.element("div").classes("cards"):
        for error in errors:
            with ui.element("section").classes("card"):
                confidence = f"{error['confidence']:.3f}"
                summary = t("classify.mistake", predicted=error["predicted"], true=error["true"], confidence=confidence)
                ui.label(summary).classes("name")
                text = error["text"] or ""
                content = truncate_end(text, _TEXT_WIDTH) or t("classify.empty")
                ui.label(content).classes("generated").props("dir=auto")
                ui.label(error["place"] or "").classes("name")
                if text.strip():
                    ui.button(t("classify.try"), on_click=partial(on_try, text)).props("flat dense")
