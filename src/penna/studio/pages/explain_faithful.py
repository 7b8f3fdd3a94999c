"""Whether the words that methods name matter: texts in, both measures of every method as curves and tables out."""

from __future__ import annotations

from typing import Any

from nicegui import ui

from penna.explain.explanation import Method
from penna.explain.faithfulness import SHARES, FaithfulnessMetrics, Measure
from penna.studio.charts import chart
from penna.studio.frame import heading, meaning
from penna.studio.pages.shading import cell, shaded, table
from penna.studio.words import t


def show_faithfulness(found: FaithfulnessMetrics) -> None:
    """Both measures: a curve for each method over the share of words, and a table with intervals."""
    summary = t(
        "explain.faithful-found",
        texts=f"{found.texts:,}",
        words=f"{found.words:.1f}",
        probability=f"{found.probability:.4f}",
    )
    ui.label(summary)
    with ui.element("div").classes("cards"):
        for name in ("comprehensiveness", "sufficiency"):
            measures: dict[Method, Measure] = {
                method: getattr(figures, name) for method, figures in found.methods.items()
            }
            with ui.element("section").classes("card"):
                heading(t(f"explain.{name}"), 3)
                chart(curve_options(measures), t(f"explain.{name}"))
                meaning(f"explain.{name}-meaning")
                shaded(_table(measures))


def curve_options(measures: dict[Method, Measure]) -> dict[str, Any]:
    """A line for each method over the shares of words; the floor is dashed."""
    return {
        "grid": {"left": 8, "right": 16, "top": 12, "bottom": 64, "containLabel": True},
        "legend": {"bottom": 0},
        "tooltip": {"trigger": "axis"},
        "xAxis": {
            "type": "category",
            "data": [f"{share} %" for share in SHARES],
            "name": t("explain.share-of-words"),
            "nameLocation": "middle",
            "nameGap": 24,
        },
        "yAxis": {"type": "value"},
        "series": [
            {
                "type": "line",
                "name": t(f"method.{method}"),
                "data": [round(value, 4) for value in measure.shares],
                "lineStyle": {"type": "dashed" if method == "random" else "solid"},
            }
            for method, measure in measures.items()
        ],
    }


def _table(measures: dict[Method, Measure]) -> str:
    head = [t("explain.method"), "AOPC", t("explain.interval"), t("explain.lead"), t("explain.interval")]
    rows: list[list[str]] = []
    for method, measure in measures.items():
        aopc, lead = measure.aopc, measure.lead
        row = [t(f"method.{method}"), cell(f"{aopc.mean:.3f}"), cell(f"{aopc.low:.3f} – {aopc.high:.3f}")]
        if method != "random":
            row += [cell(f"{lead.mean:+.3f}"), cell(f"{lead.low:+.3f} – {lead.high:+.3f}")]
        else:
            row += [cell(""), cell("")]
        rows.append(row)
    return table(head, rows)
