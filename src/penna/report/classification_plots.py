"""Plots of a classifier: the confusion matrix and the reliability diagram, as SVG and PNG.

A row of the matrix is a true class, colored by shares of that row, so that rare classes are as visible as common ones.
The diagram compares the accuracy in each bin of confidence with the diagonal of a perfectly calibrated classifier.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from penna.evaluate.classification import BINS, ClassificationMetrics
from penna.report.plot_files import Spell, keep_text, write_plot

_MAX_NUMBERED = 20  # classes of a matrix with counts in its cells
_CELL = 0.55  # inches
_LABEL_CHARACTERS = 40


def draw_classification(metrics: ClassificationMetrics, folder: Path) -> list[Path]:
    """Write confusion.svg, confusion.png, reliability.svg and reliability.png, and return their paths."""
    labels = "".join(each.name for each in metrics.classes)
    return [
        *write_plot(lambda spell: confusion_figure(metrics, spell), folder / "confusion.svg", labels),
        *write_plot(lambda _: reliability_figure(metrics), folder / "reliability.svg", ""),
    ]


def confusion_figure(metrics: ClassificationMetrics, spell: Spell = keep_text) -> Any:
    """A matplotlib figure of counts: a row for each true class, a column for each predicted one."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    labels = _labels([each.name for each in metrics.classes], spell)
    classes, longest = len(labels), max(len(label) for label in labels)
    side = max(3.0, min(_CELL * classes, 12.0))
    figure = Figure(figsize=(side + 1.8 + 0.07 * longest, side + 0.9), layout="constrained")
    axes = figure.subplots()
    shares = [[count / max(sum(row), 1) for count in row] for row in metrics.confusion]
    image = axes.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    if classes <= _MAX_NUMBERED:
        for row, counts in enumerate(metrics.confusion):
            for column, count in enumerate(counts):
                color = "white" if shares[row][column] > 0.55 else "black"
                size = 9 if classes <= 8 else 7
                axes.text(column, row, f"{count:,}", ha="center", va="center", color=color, fontsize=size)
    is_tilted = longest * classes > 24
    axes.set_xticks(
        range(classes),
        labels,
        rotation=45 if is_tilted else 0,
        ha="right" if is_tilted else "center",
        parse_math=False,
    )
    axes.set_yticks(range(classes), labels, parse_math=False)
    axes.tick_params(length=0, labelsize=9 if classes <= _MAX_NUMBERED else 6)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(
        f"{metrics.count:,} texts, accuracy {metrics.accuracy:.1%}, macro F1 {metrics.macro_f1:.3f}", fontsize=10
    )
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, aspect=30, format=PercentFormatter(1))
    bar.set_label("share of the true class")
    bar.outline.set_visible(False)
    return figure


def reliability_figure(metrics: ClassificationMetrics) -> Any:
    """A matplotlib figure of accuracy by confidence, and of the share of predictions in each bin."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    figure = Figure(figsize=(5.0, 5.6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    width = 1 / BINS
    white_edge: dict[str, Any] = {"align": "edge", "edgecolor": "white", "linewidth": 0.5}
    for each in metrics.reliability:
        if each.accuracy is None or each.confidence is None:
            continue
        upper.bar(each.low, each.accuracy, width, color="C0", **white_edge)
        low, high = sorted((each.accuracy, each.confidence))
        gap: dict[str, Any] = {"color": "none", "edgecolor": "C3", "hatch": "////", "linewidth": 0}
        upper.bar(each.low, high - low, width, bottom=low, align="edge", **gap)
        lower.bar(each.low, each.count / metrics.count, width, color="0.6", **white_edge)
    upper.plot((0, 1), (0, 1), color="black", linewidth=0.8, linestyle="--")
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
    upper.set_title(
        f"expected calibration error {metrics.calibration_error:.1%}\n"
        "bars: accuracy; hatched: distance to the mean confidence",
        fontsize=10,
    )
    total = sum(each.confidence * each.count for each in metrics.reliability if each.confidence is not None)
    confidence = total / metrics.count
    lower.axvline(metrics.accuracy, color="C0", linewidth=1.2, label=f"accuracy {metrics.accuracy:.1%}")
    lower.axvline(confidence, color="C3", linewidth=1.2, linestyle="--", label=f"mean confidence {confidence:.1%}")
    lower.legend(fontsize=8, frameon=False, loc="upper left")
    lower.set(xlabel="confidence (probability of the predicted class)", ylabel=f"share of {metrics.count:,}")
    for axes in (upper, lower):
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.grid(alpha=0.25, axis="y")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    lower.xaxis.set_major_formatter(PercentFormatter(1))
    figure.align_ylabels((upper, lower))
    return figure


def _labels(names: Sequence[str], spell: Spell) -> list[str]:
    """The class names, truncated; "class 0" and so on for empty names and names that cannot be drawn."""
    return [
        spell(name if len(name) <= _LABEL_CHARACTERS else name[: _LABEL_CHARACTERS - 1] + "…", f"class {number}")
        or f"class {number}"
        for number, name in enumerate(names)
    ]
