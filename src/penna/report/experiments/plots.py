"""Figures of a comparison: arms in, SVG and PNG files out.

An arm has one colour, of eight that people with any colour vision tell apart (Okabe and Ito 2008), and a line style
where there are more arms. In curves every seed is a thin line; the strong one is the mean of the seeds between where
the last of them begins and the first of them ends, in a band from the lowest to the highest. In finals every seed is a
dot, at the same height in each arm, and the mean stands with its standard deviation. Nothing is smoothed. The height
of a panel goes by what comes after the first tenth, so that the fall at the start does not hide what is compared.
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

INK = "#1b1b1f"  # text and axes: the report draws it in the colour of its own text
AXES: dict[Axis, str] = {
    "step": "step",
    "tokens": "tokens learned from",
    "seconds": "seconds of training",
    "epoch": "epoch",
}

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8c6d46", "#7f7f7f")
_STYLES = ("-", "--", ":", "-.")
_MARKS = "osD^vP*X"
_BEGINNING = 0.1  # of a run, in which a loss falls so far that nothing else could be seen beside it
_PANELS = (  # split, field, what the axis says
    ("valid", "loss", "validation loss (nats)"),
    ("valid", "label_loss", "validation label loss (nats)"),
    ("valid", "bits_per_byte", "validation bits per byte"),
    ("valid", "accuracy", "validation accuracy (%)"),
    ("valid", "macro_f1", "validation macro F1"),
    ("train", "loss", "training loss (nats)"),
)
_FINALS = ("accuracy", "macro_f1", "loss", "label_loss", "bits_per_byte")
_PANEL = (5.2, 3.3)  # inches of a panel with its labels
_NAME_CELLS = 28  # of an arm's name, at most
_SHOWN_SEEDS = 20  # thin lines that say something
_PERCENT = ("accuracy", "lm_accuracy")

Line = tuple[NDArray[np.float64], NDArray[np.float64]]  # x, y


@dataclass(frozen=True)
class DrawnFigure:
    """A figure as SVG and PNG."""

    name: str
    title: str
    svg: str
    png: bytes

    def write(self, folder: Path) -> list[Path]:
        """NAME.svg and NAME.png in a folder that is there; the files."""
        files = [folder / f"{self.name}.svg", folder / f"{self.name}.png"]
        write_atomically(files[0], self.svg)
        write_atomically(files[1], self.png)
        return files


def draw_comparison(comparison: Comparison) -> list[DrawnFigure]:
    """Curves over steps, tokens, seconds and epochs, where there is anything to draw, and finals."""
    drawn: list[DrawnFigure] = []
    with _style():
        if _panels(comparison):
            for by, words in AXES.items():
                make = partial(curves_figure, comparison, by)
                drawn.append(_drawn(f"curves-by-{by}", f"Curves over {words}", make, comparison))
        if _final_columns(comparison):
            drawn.append(_drawn("finals", "Finals", partial(finals_figure, comparison), comparison))
    return drawn


@contextmanager
def _style() -> Generator[None]:
    import matplotlib as mpl

    settings: dict[Any, Any] = {
        **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
        "font.family": [*installed_fonts(), "sans-serif"],
        "svg.fonttype": "none",
        "svg.hashsalt": "penna",  # the same figure is the same file
    }
    with mpl.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # the SVG's viewer may have others
        yield


def _drawn(name: str, title: str, make: Callable[..., Any], comparison: Comparison) -> DrawnFigure:
    """A figure in both formats; in the PNG, an arm whose letters no installed font has is called by its number."""
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
    return DrawnFigure(name, title, svg.getvalue(), png.getvalue())


def curves_figure(comparison: Comparison, by: Axis, names: Sequence[str] | None = None) -> Any:
    """A matplotlib figure: a panel for each logged figure over ``by``; ``names`` in place of the arms' own."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import EngFormatter

    panels = _panels(comparison)
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    header = 0.15 + 0.24 * -(-len(comparison.arms) // 3)  # inches, of the legend
    figure = Figure(figsize=(columns * _PANEL[0], header + rows * _PANEL[1]))
    axes = figure.subplots(rows, columns, squeeze=False, gridspec_kw=_grid(figure, rows, columns, header)).flatten()
    for axis, (split, field, words) in zip(axes, panels, strict=False):
        drawn: list[Line] = []
        for number, arm in enumerate(comparison.arms):
            lines = [line for run in arm.runs if len((line := _line(run.rows, split, field, by))[0])]
            _draw_arm(axis, lines, look_of(number), marker=_MARKS[number % len(_MARKS)] if split == "valid" else "")
            drawn += lines
        axis.set_ylabel(words)
        axis.set_xlabel(AXES[by])
        if by in ("tokens", "seconds"):
            axis.xaxis.set_major_formatter(EngFormatter(sep=""))
        axis.grid(alpha=0.25)
        axis.margins(x=0.01)
        _leave_beginning_out(axis, drawn, falls=field in ("loss", "bits_per_byte"))
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    handles = [
        Line2D([], [], linewidth=2, marker=_MARKS[number % len(_MARKS)], label=str(number), **look_of(number))
        for number in range(len(comparison.arms))
    ]
    legend = figure.legend(handles=handles, loc="upper left", ncols=min(3, len(handles)), frameon=False)
    for text, own in zip(legend.get_texts(), names or [arm_label(arm) for arm in comparison.arms], strict=True):
        text.set_parse_math(False)  # a name is what it is, be there dollars in it
        text.set_text(own)
    return figure


def _grid(figure: Any, rows: int, columns: int, header: float) -> dict[str, float]:
    """Where panels stand, so that their labels have room; a layout that measures them would take twice as long."""
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
    """A matplotlib figure: a panel for each final figure, a row for each arm; ``names`` in place of the arms' own."""
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
        scale = 100 if column.field.percent else 1
        for number, arm in enumerate(arms):
            colour = look_of(number)["color"]
            for seed, value in arm.by_seed(column).items():
                aside = (seeds.index(seed) + 0.5) / len(seeds) - 0.5  # a seed is at one height in every arm
                axis.plot(scale * value, number + 0.5 * aside, "o", color=colour, alpha=0.55, markersize=4)
            spread = arm.spread(column)
            if spread is not None:
                reach = None if spread.sd is None else scale * spread.sd
                axis.errorbar(
                    scale * spread.mean, number, xerr=reach, fmt="|", color=colour, markersize=13,
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


def look_of(number: int) -> dict[str, Any]:
    """The colour and line style of an arm by its place."""
    style = _STYLES[number // len(_COLOURS) % len(_STYLES)]
    return {"color": _COLOURS[number % len(_COLOURS)], "linestyle": style}


def arm_label(arm: Arm) -> str:
    """An arm's name as figures show it."""
    return truncate_end(one_line(arm.name), _NAME_CELLS)


def _leave_beginning_out(axis: Any, lines: Sequence[Line], *, falls: bool) -> None:
    """Let the height of a panel go by what comes after the beginning, whose lines then leave it above or below."""
    end = max((x[-1] for x, _ in lines), default=0.0)
    later = [float(value) for x, y in lines for value in y[x >= _BEGINNING * end]]
    if len(later) < 2 or min(later) == max(later):
        return
    margin = 0.06 * (max(later) - min(later))
    if falls:
        axis.set_ylim(top=min(axis.get_ylim()[1], max(later) + margin))
    else:
        axis.set_ylim(bottom=max(axis.get_ylim()[0], min(later) - margin))


def _draw_arm(axis: Any, lines: Sequence[Line], look: dict[str, Any], *, marker: str) -> None:
    """The thin lines of an arm's seeds, and their mean in its band."""
    for x, y in lines[:_SHOWN_SEEDS] if len(lines) > 1 else []:
        axis.plot(x, y, linewidth=0.8, alpha=0.4, **look)
    if not lines:
        return
    x, mean, low, high = mean_line(lines)
    if len(lines) > 1:
        axis.fill_between(x, low, high, color=look["color"], alpha=0.13, linewidth=0)
    style = {"marker": marker, "markersize": 3.5} if len(x) <= 40 else {}
    axis.plot(x, mean, linewidth=1.8 if marker else 1.3, **style, **look)


def mean_line(lines: Sequence[Line]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Where all lines are: x, and their mean, lowest and highest y; straight lines join the points of each.

    x are the points of any line between where the last of them begins and the first of them ends. Lines that lie
    nowhere side by side have no mean.
    """
    begin, end = max(x[0] for x, _ in lines), min(x[-1] for x, _ in lines)
    every = np.unique(np.concatenate([x for x, _ in lines]))
    x = every[(every >= begin) & (every <= end)]
    if not len(x):
        return x, x, x, x
    values = np.stack([np.interp(x, *line) for line in lines])
    return x, values.mean(axis=0), values.min(axis=0), values.max(axis=0)


def _line(rows: Sequence[dict[str, Any]], split: str, field: str, by: Axis) -> Line:
    """A figure of a log over ``by``."""
    scale = 100 if field in _PERCENT else 1
    points = [(row[by], scale * row[field]) for row in rows if row["split"] == split and field in row]
    return np.array([x for x, _ in points], dtype=np.float64), np.array([y for _, y in points], dtype=np.float64)


def _panels(comparison: Comparison) -> list[tuple[str, str, str]]:
    """The panels for which any run logged two points."""
    rows = [run.rows for arm in comparison.arms for run in arm.runs]
    return [
        panel for panel in _PANELS if any(len(_line(own, panel[0], panel[1], "step")[0]) > 1 for own in rows)
    ]  # fmt: skip


def _final_columns(comparison: Comparison) -> list[Column]:
    """The main figure wherever it was measured, then the others of the last validation."""
    main = list(comparison.main)
    others = [
        column
        for column in comparison.columns
        if column.name in _FINALS and column not in main and column.group not in (BEST, TRAINING)
    ]
    others.sort(key=lambda column: column.group != LAST)
    return (main + others)[:9]
