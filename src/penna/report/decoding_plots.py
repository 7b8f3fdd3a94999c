"""Plots of a comparison of decoding strategies, as SVG and PNG.

One plot has a panel for each statistic of Holtzman et al. 2020, table 1, and Penna's distance, with a dot for each
strategy and a line for human text. The other shows perplexity and self-BLEU, like the paper's plots of likelihood and
diversity.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from penna.evaluate.decoding import DecodingMetrics, StrategyMetrics
from penna.report.plot_files import write_plot

_HUMAN, _CHOSEN, _OTHER = "C3", "C2", "C0"
_LABEL_OFFSETS = sorted(  # label offsets in points and the side next to the point, nearest first
    (
        (sign * dx, 11 * line, side)
        for dx in (7, 35, 70, 105)
        for line in range(-20, 21)
        for sign, side in ((1, "left"), (-1, "right"))
    ),
    key=lambda offset: (math.hypot(offset[0], offset[1]), -offset[0], -offset[1]),
)

_Statistic = Callable[[StrategyMetrics], float | None]


def draw_decoding(metrics: DecodingMetrics, folder: Path) -> list[Path]:
    """Write strategies.svg and .png and, given perplexity and self-BLEU, plane.svg and .png; return their paths."""
    files = write_plot(lambda _: strategies_figure(metrics), folder / "strategies.svg", "")
    if metrics.human.statistics.perplexity is not None and metrics.human.statistics.self_bleu is not None:
        files += write_plot(lambda _: plane_figure(metrics), folder / "plane.svg", "")
    return files


def strategies_figure(metrics: DecodingMetrics) -> Any:
    """A matplotlib figure: a panel per statistic, a row per strategy, a line for human text."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    human = metrics.human.statistics
    panels: list[tuple[str, _Statistic, float | None]] = [
        ("perplexity", lambda own: own.statistics.perplexity, human.perplexity),
        ("self-BLEU-4", lambda own: own.statistics.self_bleu, human.self_bleu),
        ("Zipf coefficient", lambda own: own.statistics.zipf, human.zipf),
        ("repetition", lambda own: own.statistics.repetition, human.repetition),
        ("distinct-2", lambda own: own.statistics.distinct_2, human.distinct_2),
        ("distance to human", lambda own: own.distance.mean, None),
    ]
    count = len(metrics.strategies)
    figure = Figure(figsize=(13.0, 1.6 + 0.27 * count), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True)
    colors = [_CHOSEN if own.name == metrics.recommendation.name else _OTHER for own in metrics.strategies]
    for axis, (title, statistic, line) in zip(axes, panels, strict=True):
        values = [statistic(own) for own in metrics.strategies]
        for row, (value, color) in enumerate(zip(values, colors, strict=True)):
            if value is not None and math.isfinite(value):
                axis.plot(value, row, "o", color=color, markersize=5)
        if line is not None and math.isfinite(line):
            axis.axvline(line, color=_HUMAN, linewidth=1.2)
        if title == "perplexity":
            _log_scale(axis)
        if title == "repetition":
            axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
            axis.set_xlim(-0.03, max(0.1, *(value or 0 for value in values)) * 1.1)
        axis.set_title(title, fontsize=10)
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    _draw_distances(axes[-1], metrics, colors)
    axes[0].set_yticks(range(count), [own.name for own in metrics.strategies], parse_math=False)
    axes[0].set_ylim(count - 0.5, -0.5)
    figure.suptitle(_title(metrics), fontsize=10, parse_math=False)
    return figure


def _log_scale(axis: Any) -> None:
    """Show the x axis on a logarithmic scale with plain numbers that do not overlap."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(10, subs=(1.0, 3.0), numticks=8))
    axis.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())


def _draw_distances(axis: Any, metrics: DecodingMetrics, colors: Sequence[str]) -> None:
    """Draw intervals around the dots, and the band of the distance between halves of the human text."""
    for row, (own, color) in enumerate(zip(metrics.strategies, colors, strict=True)):
        if math.isfinite(own.distance.low):
            axis.plot([own.distance.low, own.distance.high], [row, row], "-", color=color, linewidth=1.5, alpha=0.6)
    if metrics.floor is not None:
        axis.axvspan(0, metrics.floor.high, color=_HUMAN, alpha=0.12)
    axis.set_xlim(left=0)


def plane_figure(metrics: DecodingMetrics) -> Any:
    """A matplotlib figure: perplexity on the x axis, self-BLEU on the y axis, a label for each strategy."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 5.5), layout="constrained")
    FigureCanvasAgg(figure)  # needed to measure label widths
    axis = figure.subplots()
    points = [
        (own.name, own.statistics.perplexity, own.statistics.self_bleu)
        for own in metrics.strategies
        if own.statistics.perplexity is not None and own.statistics.self_bleu is not None
    ]
    points = [point for point in points if math.isfinite(point[1])]
    assert metrics.human.statistics.perplexity is not None and metrics.human.statistics.self_bleu is not None
    _log_scale(axis)
    for name, perplexity, bleu in points:
        chosen = name == metrics.recommendation.name
        axis.plot(perplexity, bleu, "o", color=_CHOSEN if chosen else _OTHER, markersize=5)
    axis.plot(metrics.human.statistics.perplexity, metrics.human.statistics.self_bleu, "*", color=_HUMAN, markersize=14)
    axis.set_xlabel("perplexity under the model")
    axis.set_ylabel("self-BLEU-4 (higher: less diverse)")
    axis.grid(alpha=0.25)
    axis.margins(0.2)
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_title(_title(metrics), fontsize=10, parse_math=False)
    figure.draw_without_rendering()  # computes the layout, so that labels can be kept apart
    _add_labels(axis, [("human", metrics.human.statistics.perplexity, metrics.human.statistics.self_bleu), *points])
    return figure


def _add_labels(axis: Any, points: Sequence[tuple[str, float, float]]) -> None:
    """Label each point at the nearest position that overlaps no other label and no point, else right next to it."""
    from matplotlib.transforms import Bbox

    renderer = axis.figure.canvas.get_renderer()
    dots = axis.transData.transform([(x, y) for _, x, y in points])
    area = Bbox.from_extents(axis.bbox.x0, axis.bbox.y0, axis.figure.bbox.x1, axis.bbox.y1)
    placed: list[Any] = []
    for name, x, y in sorted(points, key=lambda point: -point[1]):  # from the right, where there is most space
        label = axis.annotate(
            name, (x, y), _LABEL_OFFSETS[0][:2], textcoords="offset points", va="center", fontsize=8, parse_math=False
        )
        for dx, dy, side in _LABEL_OFFSETS:
            label.set_position((dx, dy))
            label.set_horizontalalignment(side)
            box = label.get_window_extent(renderer)
            is_inside = all(map(area.contains, box.intervalx, box.intervaly))
            if is_inside and not (
                any(box.overlaps(other) for other in placed) or any(box.padded(6).contains(*dot) for dot in dots)
            ):
                break
        else:
            label.set_position(_LABEL_OFFSETS[0][:2])
            label.set_horizontalalignment(_LABEL_OFFSETS[0][2])
        placed.append(label.get_window_extent(renderer))
        dx, dy = label.get_position()
        if math.hypot(dx, dy) > 14:
            line = {"arrowstyle": "-", "linewidth": 0.4, "alpha": 0.6, "shrinkB": 3, "relpos": (dx < 0, 0.5)}
            axis.annotate("", (x, y), (dx, dy), textcoords="offset points", arrowprops=line)


def _title(metrics: DecodingMetrics) -> str:
    chosen = metrics.recommendation.name
    return "red: human text" + (f"; green: recommended ({chosen})" if chosen else "")
