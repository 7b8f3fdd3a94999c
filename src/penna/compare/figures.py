"""Figures of runs: metrics logs in, SVG and PNG files out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from penna.errors import RunError
from penna.runs.folder import RunFolder
from penna.storage import explained_disk_errors

_PANELS = (("loss", "loss (nats per token)"), ("accuracy", "token accuracy"), ("learning_rate", "learning rate"))


def draw_curves(runs: Sequence[RunFolder], output: Path) -> list[Path]:
    """Loss, accuracy and learning rate of runs over steps in one figure; the files written, SVG and PNG.

    Training is a thin line, validation a marked one of the same colour.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(len(_PANELS), 1, figsize=(7.5, 8.5), sharex=True, layout="constrained")
    for number, run in enumerate(runs):
        rows = run.metrics()
        if not rows:
            raise RunError(f"The run {run.path} has no metrics yet.", "At least one logged row.", "Train it first.")
        for panel, (field, label) in zip(panels, _PANELS, strict=True):
            _draw(panel, rows, field, f"C{number}", run.name, loud=field == "loss")
            panel.set_ylabel(label)
            panel.grid(alpha=0.25)
    panels[0].legend(fontsize=8)
    panels[-1].set_xlabel("step")
    output.mkdir(parents=True, exist_ok=True)
    files = [output / f"curves.{ending}" for ending in ("svg", "png")]
    for file in files:
        with explained_disk_errors(file):
            figure.savefig(file, dpi=140)
    plt.close(figure)
    return files


def _draw(panel: Any, rows: Sequence[dict[str, Any]], field: str, color: str, name: str, *, loud: bool) -> None:
    for split, style in (("train", {"linewidth": 0.8, "alpha": 0.6}), ("valid", {"marker": "o", "markersize": 3})):
        if field == "learning_rate" and split == "valid":
            continue
        points = [(row["step"], row[field]) for row in rows if row["split"] == split and field in row]
        if points:
            label = f"{name}: {'training' if split == 'train' else 'validation'}" if loud else None
            panel.plot(*zip(*points, strict=True), color=color, label=label, **style)
