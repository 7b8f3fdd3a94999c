"""Plots of a comparison, as SVG and PNG.

An arm has one of eight colors that are distinct for any color vision (Okabe and Ito 2008), and a line style if there
are more arms. In curves, every seed is a thin line; the thick line is the mean of the seeds over the range that all of
them cover, in a band from minimum to maximum. In final metrics, every seed is a dot at the same height in each arm,
next to the mean with its standard deviation. Nothing is smoothed. The vertical range of a panel ignores the first
tenth, where a falling loss would hide the differences.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penna.formatting import one_line, truncate_end
from penna.report.experiments.arms import Arm
from penna.report.experiments.comparison import Comparison
from penna.report.experiments.results import BEST, LAST, TRAINING, Column
from penna.report.plot_files import drawable_characters, installed_fonts
from penna.report.training_plots import Axis
from penna.storage import write_atomically

INK = "#1b1b1f"  # text and axes; the HTML report replaces it by its own text color
AXES: dict[Axis, str] = {
    "step": "step",
    "tokens": "training tokens",
    "seconds": "seconds of training",
    "epoch": "epoch",
}

_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8c6d46", "#7f7f7f")
_STYLES = ("-", "--", ":", "-.")
_MARKS = "osD^vP*X"
_START_SHARE = 0.1  # share of a run that does not determine the vertical range
_PANELS = (  # split, field, axis label
    ("valid", "loss", "validation loss (nats)"),
    ("valid", "label_loss", "validation label loss (nats)"),
    ("valid", "bits_per_byte", "validation bits per byte"),
    ("valid", "accuracy", "validation accuracy (%)"),
    ("valid", "macro_f1", "validation macro F1"),
    ("train", "loss", "training loss (nats)"),
)
_FINALS = ("accuracy", "macro_f1", "loss", "label_loss", "bits_per_byte")
_PANEL = (5.2, 3.3)  # inches of a panel with its labels
_LABEL_CELLS = 28  # longest arm label
_MAX_SEED_LINES = 20  # thin lines per arm
_PERCENT = ("accuracy", "lm_accuracy")

Line = tuple[NDArray[np.float64], NDArray[np.float64]]  # x, y


@dataclass(frozen=True)
class RenderedPlot:
    """A plot as SVG and PNG."""

    name: str
    title: str
    svg: str
    png: bytes

    def write(self, folder: Path) -> list[Path]:
        """Write NAME.svg and NAME.png into an existing folder; return their paths."""
        files = [folder / f"{self.name}.svg", folder / f"{self.name}.png"]
        write_atomically(files[0], self.svg)
        write_atomically(files[1], self.png)
        return files


def draw_comparison(comparison: Comparison) -> list[RenderedPlot]:
    """Curves over steps, tokens, seconds and epochs, and the final metrics, as far as there are data."""
    drawn: list[RenderedPlot] = []
    with _style():
        if _panels(comparison):
            for by, label in AXES.items():
                make = partial(curves_figure, comparison, by)
                drawn.append(_render(f"curves-by-{by}", f"Curves over {label}", make, comparison))
        if _final_columns(comparison):
            drawn.append(_render("finals", "Final metrics", partial(finals_figure, comparison), comparison))
    return drawn


@contextmanager
def _style() -> Generator[None]:
    import matplotlib as mpl

    settings: dict[Any, Any] = {
        **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
        "font.family": [*installed_fonts(), "sans-serif"],
        "svg.fonttype": "none",
        "svg.hashsalt": "penna",  # equal plots give equal files
    }
    with mpl.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # the SVG viewer may have other fonts
        yield


def _render(name: str, title: str, make: Callable[..., Any], comparison: Comparison) -> RenderedPlot:
    """Render a plot in both formats; in the PNG, an arm whose characters no installed font has is shown as a number."""
    svg, png = io.StringIO(), io.BytesIO()
    names = [arm_label(arm) for arm in comparison.arms]
    figure = make()
    figure.savefig(svg, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    known = drawable_characters("".join(names))
    readable = [own if known.issuperset(own) else f"arm {number}" for number, own in enumerate(names, start=1)]
    if readable == names:
        figure.set_layout_engine("none")  # it was laid out once
    else:
        figure = make(readable)
    figure.savefig(png, format="png", dpi=150)
    return RenderedPlot(name, title, svg.getvalue(), png.getvalue())


def curves_figure(comparison: Comparison, by: Axis, names: Sequence[str] | None = None) -> Any:
    """A matplotlib figure with a panel for each logged metric over ``by``; ``names`` replaces the arm labels."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import EngFormatter

    panels = _panels(comparison)
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    header = 0.15 + 0.24 * -(-len(comparison.arms) // 3)  # inches, of the legend
    figure = Figure(figsize=(columns * _PANEL[0], header + rows * _PANEL[1]))
    axes = figure.subplots(rows, columns, squeeze=False, gridspec_kw=_grid(figure, rows, columns, header)).flatten()
    for axis, (split, field, label) in zip(axes, panels, strict=False):
        drawn: list[Line] = []
        for number, arm in enumerate(comparison.arms):
            lines = [line for run in arm.runs if len((line := _line(run.rows, split, field, by))[0])]
            _draw_arm(axis, lines, arm_style(number), marker=_MARKS[number % len(_MARKS)] if split == "valid" else "")
            drawn += lines
        axis.set_ylabel(label)
        axis.set_xlabel(AXES[by])
        if by in ("tokens", "seconds"):
            axis.xaxis.set_major_formatter(EngFormatter(sep=""))
        axis.grid(alpha=0.25)
        axis.margins(x=0.01)
        _fit_to_later_values(axis, drawn, falls=field in ("loss", "bits_per_byte"))
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    handles = [
        Line2D([], [], linewidth=2, marker=_MARKS[number % len(_MARKS)], label=str(number), **arm_style(number))
        for number in range(len(comparison.arms))
    ]
    legend = figure.legend(handles=handles, loc="upper left", ncols=min(3, len(handles)), frameon=False)
    for text, own in zip(legend.get_texts(), names or [arm_label(arm) for arm in comparison.arms], strict=True):
        text.set_parse_math(False)  # a name may contain dollar signs
        text.set_text(own)
    return figure


def _grid(figure: Any, rows: int, columns: int, header: float) -> dict[str, float]:
    """Positions of the panels with space for labels; an automatic layout would take twice as long."""
    width, height = figure.get_size_inches()
    left, right, above, below = 0.8, 0.2, 0.12, 0.58  # inches around a panel
    inner, outer = _PANEL[0] - left - right, _PANEL[1] - above - below
    return {
        "left": left / width,
        "right": 1 - right / width,
        "top": 1 - (header + above) / height,
        "bottom": below / height,
        "wspace": (left + right) / inner,
        "hspace": (above + below) / outer,
    }


def finals_figure(comparison: Comparison, names: Sequence[str] | None = None) -> Any:
    """A matplotlib figure: a panel for each final metric, a row for each arm; ``names`` replaces the arm labels."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    shown, arms = _final_columns(comparison), comparison.arms
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    panel = 0.9 + 0.36 * len(arms)
    figure = Figure(figsize=(1.6 + 3.2 * columns, panel * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True).flatten()
    seeds = sorted({seed for arm in arms for seed in arm.seeds})
    for axis, column in zip(axes, shown, strict=False):
        scale = 100 if column.format.percent else 1
        for number, arm in enumerate(arms):
            color = arm_style(number)["color"]
            for seed, value in arm.by_seed(column).items():
                offset = (seeds.index(seed) + 0.5) / len(seeds) - 0.5  # a seed has the same height in every arm
                axis.plot(scale * value, number + 0.5 * offset, "o", color=color, alpha=0.55, markersize=4)
            spread = arm.spread(column)
            if spread is not None:
                margin = None if spread.sd is None else scale * spread.sd
                axis.errorbar(
                    scale * spread.mean, number, xerr=margin, fmt="|", color=color, markersize=13,
                    markeredgewidth=2.2, elinewidth=1.6, capsize=3,
                )  # fmt: skip
        axis.set_title(column.full_title, fontsize=10, parse_math=False)
        axis.xaxis.set_major_locator(MaxNLocator(5))
        axis.grid(alpha=0.25)
        axis.margins(x=0.08)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[len(shown) :]:
        axis.set_visible(False)
    for axis in axes[::columns]:
        axis.set_yticks(range(len(arms)), names or [arm_label(arm) for arm in arms], parse_math=False)
        axis.set_ylim(len(arms) - 0.5, -0.5)
    return figure


def arm_style(number: int) -> dict[str, Any]:
    """The color and line style of an arm by its index."""
    style = _STYLES[number // len(_COLORS) % len(_STYLES)]
    return {"color": _COLORS[number % len(_COLORS)], "linestyle": style}


def arm_label(arm: Arm) -> str:
    """An arm's name as plots show it."""
    return truncate_end(one_line(arm.name), _LABEL_CELLS)


def _fit_to_later_values(axis: Any, lines: Sequence[Line], *, falls: bool) -> None:
    """Set the vertical range from the values after the start; earlier values may lie outside it."""
    end = max((x[-1] for x, _ in lines), default=0.0)
    later = [float(value) for x, y in lines for value in y[x >= _START_SHARE * end]]
    if len(later) < 2 or min(later) == max(later):
        return
    margin = 0.06 * (max(later) - min(later))
    if falls:
        axis.set_ylim(top=min(axis.get_ylim()[1], max(later) + margin))
    else:
        axis.set_ylim(bottom=max(axis.get_ylim()[0], min(later) - margin))


def _draw_arm(axis: Any, lines: Sequence[Line], style: dict[str, Any], *, marker: str) -> None:
    """Draw the lines of an arm's seeds, and their mean in its band."""
    for x, y in lines[:_MAX_SEED_LINES] if len(lines) > 1 else []:
        axis.plot(x, y, linewidth=0.8, alpha=0.4, **style)
    if not lines:
        return
    x, mean, low, high = mean_line(lines)
    if len(lines) > 1:
        axis.fill_between(x, low, high, color=style["color"], alpha=0.13, linewidth=0)
    markers = {"marker": marker, "markersize": 3.5} if len(x) <= 40 else {}
    axis.plot(x, mean, linewidth=1.8 if marker else 1.3, **markers, **style)


def mean_line(lines: Sequence[Line]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """x, mean, minimum and maximum of linearly interpolated lines, over the range that all of them cover.

    x are the points of any line in that range; it may be empty.
    """
    begin, end = max(x[0] for x, _ in lines), min(x[-1] for x, _ in lines)
    points = np.unique(np.concatenate([x for x, _ in lines]))
    x = points[(points >= begin) & (points <= end)]
    if not len(x):
        return x, x, x, x
    values = np.stack([np.interp(x, *line) for line in lines])
    return x, values.mean(axis=0), values.min(axis=0), values.max(axis=0)


def _line(rows: Sequence[dict[str, Any]], split: str, field: str, by: Axis) -> Line:
    """A metric of a log over ``by``."""
    scale = 100 if field in _PERCENT else 1
    points = [(row[by], scale * row[field]) for row in rows if row["split"] == split and field in row]
    return np.array([x for x, _ in points], dtype=np.float64), np.array([y for _, y in points], dtype=np.float64)


def _panels(comparison: Comparison) -> list[tuple[str, str, str]]:
    """The panels for which any run has two points or more."""
    rows = [run.rows for arm in comparison.arms for run in arm.runs]
    return [
        panel for panel in _PANELS if any(len(_line(own, panel[0], panel[1], "step")[0]) > 1 for own in rows)
    ]  # fmt: skip


def _final_columns(comparison: Comparison) -> list[Column]:
    """The columns of the main metric, then other metrics of the last validation and of evaluations."""
    main = list(comparison.main_columns)
    others = [
        column
        for column in comparison.columns
        if column.name in _FINALS and column not in main and column.group not in (BEST, TRAINING)
    ]
    others.sort(key=lambda column: column.group != LAST)
    return (main + others)[:9]
