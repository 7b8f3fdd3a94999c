"""Figures of a classifier: its result in, a confusion matrix and a reliability diagram out, each as SVG and PNG.

A row of the matrix is a true class, and its colours are shares of that row, so a rare class is as visible as a common
one. The diagram holds the accuracy in each bin of confidence against the diagonal, where a believable classifier would
lie, and says below how many predictions the bins have.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from penna.evaluate.classification import BINS, ClassificationMetrics
from penna.report.plot_files import drawable_characters, installed_fonts
from penna.storage import friendly_disk_errors, write_atomically

_WRITTEN = 20  # classes up to which counts stand in the cells
_CELL = 0.55  # inches
_LONGEST = 40  # characters of a label


def draw_classification(figures: ClassificationMetrics, folder: Path) -> list[Path]:
    """Draw both figures; the files written: confusion.svg, confusion.png, reliability.svg, reliability.png."""
    import matplotlib as mpl

    files: list[Path] = []
    with mpl.rc_context({"font.family": installed_fonts(), "svg.hashsalt": "penna"}):
        for name, figure in (("confusion", confusion_matrix(figures)), ("reliability", reliability(figures))):
            for ending in ("svg", "png"):
                file, content = folder / f"{name}.{ending}", io.BytesIO()
                # No date, so that the same figures give the same file.
                figure.savefig(content, format=ending, dpi=160, metadata={"Date": None} if ending == "svg" else None)
                with friendly_disk_errors(file):
                    folder.mkdir(parents=True, exist_ok=True)
                write_atomically(file, content.getvalue())
                files.append(file)
    return files


def confusion_matrix(figures: ClassificationMetrics) -> Any:
    """A matplotlib figure of counts, true classes downwards and predicted ones across."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    labels = _drawable([each.name for each in figures.classes])
    classes, longest = len(labels), max(len(label) for label in labels)
    side = max(3.0, min(_CELL * classes, 12.0))
    figure = Figure(figsize=(side + 1.8 + 0.07 * longest, side + 0.9), layout="constrained")
    panel = figure.subplots()
    shares = [[count / max(sum(row), 1) for count in row] for row in figures.confusion]
    image = panel.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    if classes <= _WRITTEN:
        for down, row in enumerate(figures.confusion):
            for across, count in enumerate(row):
                color = "white" if shares[down][across] > 0.55 else "black"
                size = 9 if classes <= 8 else 7
                panel.text(across, down, f"{count:,}", ha="center", va="center", color=color, fontsize=size)
    tilted = longest * classes > 24
    panel.set_xticks(range(classes), labels, rotation=45 if tilted else 0, ha="right" if tilted else "center")
    panel.set_yticks(range(classes), labels)
    panel.tick_params(length=0, labelsize=9 if classes <= _WRITTEN else 6)
    panel.set_xlabel("predicted")
    panel.set_ylabel("true")
    panel.set_title(
        f"{figures.count:,} texts, accuracy {figures.accuracy:.1%}, macro F1 {figures.macro_f1:.3f}", fontsize=10
    )
    panel.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=panel, shrink=0.8, aspect=30, format=PercentFormatter(1))
    bar.set_label("share of the true class")
    bar.outline.set_visible(False)
    return figure


def reliability(figures: ClassificationMetrics) -> Any:
    """A matplotlib figure of accuracy by confidence, and of how many predictions were how sure."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    figure = Figure(figsize=(5.0, 5.6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    width = 1 / BINS
    for each in figures.reliability:
        if each.accuracy is None or each.confidence is None:
            continue
        above.bar(each.low, each.accuracy, width, align="edge", color="C0", edgecolor="white", linewidth=0.5)
        low, high = sorted((each.accuracy, each.confidence))
        above.bar(
            each.low,
            high - low,
            width,
            bottom=low,
            align="edge",
            color="none",
            edgecolor="C3",
            hatch="////",
            linewidth=0,
        )
        below.bar(
            each.low, each.count / figures.count, width, align="edge", color="0.6", edgecolor="white", linewidth=0.5
        )
    above.plot((0, 1), (0, 1), color="black", linewidth=0.8, linestyle="--")
    above.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
    above.set_title(
        f"expected calibration error {figures.calibration_error:.1%}\n"
        "bars: accuracy; hatched: distance to the mean confidence",
        fontsize=10,
    )
    below.axvline(figures.accuracy, color="C0", linewidth=1.2, label=f"accuracy {figures.accuracy:.1%}")
    sure = sum(each.confidence * each.count for each in figures.reliability if each.confidence is not None)
    below.axvline(
        sure / figures.count,
        color="C3",
        linewidth=1.2,
        linestyle="--",
        label=f"mean confidence {sure / figures.count:.1%}",
    )
    below.legend(fontsize=8, frameon=False, loc="upper left")
    below.set(xlabel="confidence (probability of the predicted class)", ylabel=f"share of {figures.count:,}")
    for panel in (above, below):
        panel.yaxis.set_major_formatter(PercentFormatter(1))
        panel.grid(alpha=0.25, axis="y")
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
    below.xaxis.set_major_formatter(PercentFormatter(1))
    figure.align_ylabels((above, below))
    return figure


def _drawable(labels: Sequence[str]) -> list[str]:
    """The labels, long ones shortened; "class 1", the first being 0, where no installed font has the letters of one."""
    known = drawable_characters("".join(labels))
    drawn: list[str] = []
    for number, label in enumerate(labels):
        shown = label if len(label) <= _LONGEST else label[: _LONGEST - 1] + "…"
        # A dollar sign would begin a formula.
        drawn.append(shown.replace("$", r"\$") if label and known.issuperset(label) else f"class {number}")
    return drawn
