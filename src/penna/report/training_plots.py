"""Training curves of runs, as SVG and PNG files.

Each run has one color. Training is a thin pale line, validation a strong line with a mark at every evaluation, and the
last value is written at the end of each line. Every logged row is drawn; nothing is smoothed or averaged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from penna.errors import RunError
from penna.report.plot_files import write_plot
from penna.runs.folder import RunFolder

Axis = Literal["step", "epoch", "tokens", "seconds"]
Rows = Sequence[dict[str, Any]]  # of a run's metrics.jsonl

_PANELS = (("loss", "loss (nats)"), ("accuracy", "accuracy"), ("learning_rate", "learning rate"))
_AXES: dict[Axis, str] = {"step": "step", "epoch": "epoch", "tokens": "training tokens", "seconds": "seconds"}
_SPLITS = {
    "train": ("training", {"linewidth": 1.0, "alpha": 0.45}),
    "valid": ("validation", {"linewidth": 1.8, "marker": "o", "markersize": 4}),
}
_RATE_STYLE = {"linewidth": 1.8}
_LABEL_HEIGHT = 10.0  # points between two values at the right edge


def write_training_curves(runs: Sequence[RunFolder], output: Path, *, by: Axis = "step") -> list[Path]:
    """Plot loss, accuracy and learning rate of runs over ``by``; returns the files written (SVG and PNG).

    Raises RunError if a run has no metrics.
    """
    logs: dict[str, Rows] = {}
    for run in runs:
        rows = run.metrics()
        if not rows:
            raise RunError(
                f"The run {run.path} has no metrics yet.", "At least one logged row is needed.", "Train it first."
            )
        logs[run.name if run.name not in logs else str(run.path)] = rows
    name = "curves" if by == "step" else f"curves-by-{by}"
    return write_plot(lambda _: plot_training_curves(logs, by), output / f"{name}.svg", "")


def plot_training_curves(logs: Mapping[str, Rows], by: Axis = "step") -> Any:
    """A matplotlib figure of named metrics logs, with a panel each for loss, accuracy and learning rate."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.ticker import EngFormatter

    assert by in get_args(Axis)
    figure = Figure(figsize=(8.0, 9.0), layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1))
    panels = figure.subplots(len(_PANELS), 1, sharex=True, height_ratios=(3, 2, 1.4))
    for panel, (field, label) in zip(panels, _PANELS, strict=True):
        ends: list[tuple[float, str, str]] = []  # last value, its label, color
        for number, (name, rows) in enumerate(logs.items()):
            for split, (split_name, style) in _SPLITS.items():
                points = [(row[by], row[field]) for row in rows if row["split"] == split and field in row]
                if not points or (field == "learning_rate" and split == "valid"):
                    continue
                color = f"C{number}"
                line_style = _RATE_STYLE if field == "learning_rate" else style
                panel.plot(*zip(*points, strict=True), color=color, label=f"{name}: {split_name}", **line_style)
                ends.append((points[-1][1], _value_label(field, points[-1][1], split_name), color))
        panel.set_ylabel(label)
        panel.grid(alpha=0.25)
        panel.margins(x=0.01)
        panel.spines[["top", "right"]].set_visible(False)
        if field == "accuracy":  # no margin beyond 0 and 1
            low, high = panel.get_ylim()
            panel.set_ylim(max(low, 0.0), min(high, 1.0))
        _label_ends(panel, ends)
    panels[-1].set_xlabel(_AXES[by])
    if by == "tokens":
        panels[-1].xaxis.set_major_formatter(EngFormatter(sep=""))
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=min(2, len(labels)), frameon=False)
    figure.align_ylabels(panels)
    return figure


def _value_label(field: str, value: float, split_name: str) -> str:
    """The label of the last value of a line."""
    if field == "learning_rate":
        return f"{value:.2g}"
    return f"{value:.1%} {split_name}" if field == "accuracy" else f"{value:.3f} {split_name}"


def _label_ends(panel: Any, ends: Sequence[tuple[float, str, str]]) -> None:
    """Write last values at the right edge, moved apart if they would overlap."""
    low, high = panel.get_ylim()
    height = panel.figure.get_size_inches()[1] * 72 * panel.get_position().height
    step = _LABEL_HEIGHT / height
    ordered = sorted(ends)
    heights: list[float] = []
    for value, _, _ in ordered:  # upwards from the lowest
        position = (value - low) / (high - low)
        heights.append(max(position, heights[-1] + step) if heights else position)
    ceiling = 1.0
    for number in reversed(range(len(heights))):  # and down again from the top
        heights[number] = min(heights[number], ceiling)
        ceiling = heights[number] - step
    for (_, text, color), position in zip(ordered, heights, strict=True):
        panel.annotate(text, (1.01, position), xycoords="axes fraction", color=color, fontsize=8, va="center")
