"""Figures of a comparison of decoding strategies: its figures in, SVG and PNG files out.

One figure has a panel for each statistic of Holtzman et al. 2020, table 1, and Penna's distance: a dot for each
strategy, and human text as a line that runs through all of them, so that one sees on which side of it a strategy
stands. The other lays perplexity against self-BLEU, as the paper's figures lay likelihood against diversity.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from penna.evaluate.decoding import DecodingMetrics, StrategyMetrics
from penna.report.plot_files import installed_fonts
from penna.storage import friendly_disk_errors

_HUMAN, _CHOSEN, _OTHER = "C3", "C2", "C0"
_PLACES = (
    sorted(  # of a name around its point: right and up in points, and the side that is at the point; nearest first
        (
            (sign * dx, 11 * line, side)
            for dx in (7, 35, 70, 105)
            for line in range(-20, 21)
            for sign, side in ((1, "left"), (-1, "right"))
        ),
        key=lambda place: (math.hypot(place[0], place[1]), -place[0], -place[1]),
    )
)

_Reading = Callable[[StrategyMetrics], float | None]


def draw_decoding(figures: DecodingMetrics, folder: Path) -> list[Path]:
    """strategies.svg and .png, and where there is perplexity and self-BLEU, plane.svg and .png; the files."""
    import matplotlib as mpl

    files: list[Path] = []
    with (
        mpl.rc_context({"font.family": [*installed_fonts(), "sans-serif"], "svg.fonttype": "none"}),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # the SVG's viewer may have others
        drawn = {"strategies": strategies_figure(figures)}
        if figures.human.statistics.perplexity is not None and figures.human.statistics.self_bleu is not None:
            drawn["plane"] = plane_figure(figures)
        for name, figure in drawn.items():
            for ending in ("svg", "png"):
                file = folder / f"{name}.{ending}"
                with friendly_disk_errors(file):
                    figure.savefig(file, dpi=140)
                files.append(file)
    return files


def strategies_figure(figures: DecodingMetrics) -> Any:
    """A matplotlib figure: a panel per statistic, a row per strategy, human text as a line."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    human = figures.human.statistics
    panels: list[tuple[str, _Reading, float | None]] = [
        ("perplexity", lambda own: own.statistics.perplexity, human.perplexity),
        ("self-BLEU-4", lambda own: own.statistics.self_bleu, human.self_bleu),
        ("Zipf coefficient", lambda own: own.statistics.zipf, human.zipf),
        ("repetition", lambda own: own.statistics.repetition, human.repetition),
        ("distinct-2", lambda own: own.statistics.distinct_2, human.distinct_2),
        ("distance to human", lambda own: own.distance.mean, None),
    ]
    count = len(figures.strategies)
    figure = Figure(figsize=(13.0, 1.6 + 0.27 * count), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True)
    colors = [_CHOSEN if own.name == figures.recommendation.name else _OTHER for own in figures.strategies]
    for axis, (title, reading, line) in zip(axes, panels, strict=True):
        values = [reading(own) for own in figures.strategies]
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
    _draw_distances(axes[-1], figures, colors)
    axes[0].set_yticks(range(count), [own.name for own in figures.strategies], parse_math=False)
    axes[0].set_ylim(count - 0.5, -0.5)
    figure.suptitle(_title(figures), fontsize=10, parse_math=False)
    return figure


def _log_scale(axis: Any) -> None:
    """Perplexities across on a logarithmic scale, in plain numbers that do not touch."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(10, subs=(1.0, 3.0), numticks=8))
    axis.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())


def _draw_distances(axis: Any, figures: DecodingMetrics, colors: Sequence[str]) -> None:
    """Intervals around the dots, and the band between halves of the human text."""
    for row, (own, color) in enumerate(zip(figures.strategies, colors, strict=True)):
        if math.isfinite(own.distance.low):
            axis.plot([own.distance.low, own.distance.high], [row, row], "-", color=color, linewidth=1.5, alpha=0.6)
    if figures.floor is not None:
        axis.axvspan(0, figures.floor.high, color=_HUMAN, alpha=0.12)
    axis.set_xlim(left=0)


def plane_figure(figures: DecodingMetrics) -> Any:
    """A matplotlib figure: perplexity across, self-BLEU upwards, each strategy by its name."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 5.5), layout="constrained")
    FigureCanvasAgg(figure)  # which can tell how wide a name is
    axis = figure.subplots()
    points = [
        (own.name, own.statistics.perplexity, own.statistics.self_bleu)
        for own in figures.strategies
        if own.statistics.perplexity is not None and own.statistics.self_bleu is not None
    ]
    points = [point for point in points if math.isfinite(point[1])]
    assert figures.human.statistics.perplexity is not None and figures.human.statistics.self_bleu is not None
    _log_scale(axis)
    for name, perplexity, bleu in points:
        chosen = name == figures.recommendation.name
        axis.plot(perplexity, bleu, "o", color=_CHOSEN if chosen else _OTHER, markersize=5)
    axis.plot(figures.human.statistics.perplexity, figures.human.statistics.self_bleu, "*", color=_HUMAN, markersize=14)
    axis.set_xlabel("perplexity of the text to the model")
    axis.set_ylabel("self-BLEU-4 (higher: texts are more alike)")
    axis.grid(alpha=0.25)
    axis.margins(0.2)
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_title(_title(figures), fontsize=10, parse_math=False)
    figure.draw_without_rendering()  # lays the axes out, so that names can be kept apart
    _write_names(axis, [("human", figures.human.statistics.perplexity, figures.human.statistics.self_bleu), *points])
    return figure


def _write_names(axis: Any, points: Sequence[tuple[str, float, float]]) -> None:
    """A name beside each point, in the nearest place around it where it touches no other name and no point; where
    there is none, right beside it."""
    from matplotlib.transforms import Bbox

    renderer = axis.figure.canvas.get_renderer()
    dots = axis.transData.transform([(x, y) for _, x, y in points])
    room = Bbox.from_extents(axis.bbox.x0, axis.bbox.y0, axis.figure.bbox.x1, axis.bbox.y1)
    taken: list[Any] = []
    for name, x, y in sorted(points, key=lambda point: -point[1]):  # from the right, where a name has the most room
        label = axis.annotate(
            name, (x, y), _PLACES[0][:2], textcoords="offset points", va="center", fontsize=8, parse_math=False
        )
        for dx, dy, side in _PLACES:
            label.set_position((dx, dy))
            label.set_horizontalalignment(side)
            box = label.get_window_extent(renderer)
            is_inside = all(map(room.contains, box.intervalx, box.intervaly))
            if is_inside and not (
                any(box.overlaps(other) for other in taken) or any(box.padded(6).contains(*dot) for dot in dots)
            ):
                break
        else:
            label.set_position(_PLACES[0][:2])
            label.set_horizontalalignment(_PLACES[0][2])
        taken.append(label.get_window_extent(renderer))
        dx, dy = label.get_position()
        if math.hypot(dx, dy) > 14:
            line = {"arrowstyle": "-", "linewidth": 0.4, "alpha": 0.6, "shrinkB": 3, "relpos": (dx < 0, 0.5)}
            axis.annotate("", (x, y), (dx, dy), textcoords="offset points", arrowprops=line)


def _title(figures: DecodingMetrics) -> str:
    chosen = figures.recommendation.name
    return "red: human text" + (f"; green: recommended ({chosen})" if chosen else "")
