"""The figure of a beam search: its tree in, SVG and PNG out.

A step is a column, and a line leads from each partial text to what it was tried with. A line is as wide as its token is
likely, and as strong as its partial text is among those of its step; colour and form say what became of it. In the SVG
text stays text, so that any viewer's fonts can show it; in the PNG a token that no installed font can write is shown by
its id.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any

from rich.cells import cell_len

from penna.formatting import format_probability, one_line, plural, truncate_end, truncate_start
from penna.generate.beam_tree import BeamNode, BeamTree
from penna.report.plot_files import check_plot_path, drawable_characters, installed_fonts
from penna.storage import friendly_disk_errors, write_atomically

# MERGED report.beam_layout: Where the nodes of a beam tree stand in its figure: a tree in, the nodes to be drawn
# and their heights out.
#
# A step is a column. In it the children of one node stand together, in the order of their parents, so that no two
# lines
# cross; each is as near to its parent's height as the others leave room. Of a wide search only the best of each
# step are
# drawn, with all that lead to them.


def drawn_nodes(tree: BeamTree, *, kept: int, pruned: int) -> list[list[BeamNode]]:
    """Of each step the nodes to be drawn, the best first: the ``kept`` best that were kept or are finished, so many of
    those ``pruned`` behind drawn nodes, and whatever leads to one of them."""
    chosen: set[int] = set()
    for step in tree.steps:
        going_on = sorted((node for node in step.nodes if node.fate != "pruned"), key=lambda node: -node.score)
        for node in going_on[:kept]:
            chosen.update(each.number for each in tree.path(node))
    for found in tree.texts[:kept]:
        chosen.update(each.number for each in tree.path(tree.nodes[found.node]))
    columns: list[list[BeamNode]] = []
    for step in tree.steps:
        given_up = [node for node in step.with_fate("pruned") if node.parent is None or node.parent in chosen]
        shown = {node.number for node in sorted(given_up, key=lambda node: -node.score)[:pruned]} | chosen
        columns.append(sorted((node for node in step.nodes if node.number in shown), key=lambda node: -node.score))
    return columns


def heights(columns: Sequence[Sequence[BeamNode]]) -> dict[int, float]:
    """The height of each node by its number, in rows; 0 is the topmost one. The prompt stands where its best child
    does."""
    found: dict[int, float] = {}
    for column in columns:
        ordered = sorted(column, key=lambda node: 0.0 if node.parent is None else found[node.parent])
        wanted: list[float] = []
        for parent, group in groupby(ordered, key=lambda node: node.parent):
            count = len(list(group))
            middle = 0.0 if parent is None else found[parent]
            wanted += [middle + place - (count - 1) / 2 for place in range(count)]
        found.update(zip((node.number for node in ordered), apart(wanted), strict=True))
    top = min(found.values(), default=0.0)
    return {number: height - top for number, height in found.items()}


def apart(wanted: Sequence[float]) -> list[float]:
    """Heights in the same order, at least 1 apart, as near to those wanted as can be (least squares).

    With i taken off the i-th height this is isotonic regression, solved by pooling neighbours that are in each other's
    way (Ayer et al. 1955).
    """
    pools: list[tuple[float, int]] = []  # mean, count
    for place, height in enumerate(wanted):
        mean, count = height - place, 1
        while pools and pools[-1][0] > mean:
            other, others = pools.pop()
            mean, count = (mean * count + other * others) / (count + others), count + others
        pools.append((mean, count))
    means = [mean for mean, count in pools for _ in range(count)]
    return [mean + place for place, mean in enumerate(means)]


_KEPT = 16  # partial texts of a step that are drawn, at most
_TEXTS = 8  # whole texts written below the tree, at most
_LABEL, _PROMPT = 16, 22  # cells
_ROW, _GAP, _MARGIN, _LINE = 27.0, 42.0, 18.0, 13.0  # points
_LETTER = 5.6  # points of a cell of a label
_BLUE, _PALE, _ORANGE, _GREY = "#14508c", "#7ba3d0", "#b3490a", "#808080"

Spell = Callable[[str, str], str]  # (a text, what stands for it where it cannot be drawn) -> what is drawn


def draw_beams(tree: BeamTree, file: Path, *, pruned: int = 3) -> list[Path]:
    """Draw a search as SVG and PNG, the one ``file`` names and the other beside it; the files.

    Of each step the 16 best and ``pruned`` of those given up are drawn. Raises DataError where the name is no kind of
    figure's.
    """
    check_plot_path(file)
    import matplotlib as mpl

    written = "".join([tree.prompt, *(node.label for node in tree.nodes), *(found.text for found in tree.texts)])
    known = drawable_characters(one_line(written) + "…“”")
    spellings: dict[str, Spell] = {
        "svg": keep_text,
        "png": lambda text, otherwise: text if known.issuperset(text) else otherwise,
    }
    files: list[Path] = []
    fonts = [*installed_fonts(), "sans-serif"]
    with (
        mpl.rc_context({"font.family": fonts, "svg.hashsalt": "penna", "svg.fonttype": "none"}),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # the SVG's viewer may have others
        for ending, spell in spellings.items():
            figure, content = beam_figure(tree, spell, pruned=pruned), io.BytesIO()
            # No date, so that the same tree gives the same file.
            figure.savefig(content, format=ending, dpi=150, metadata={"Date": None} if ending == "svg" else None)
            files.append(file.with_suffix(f".{ending}"))
            with friendly_disk_errors(file):
                file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(files[-1], content.getvalue())
    return files


def keep_text(text: str, otherwise: str) -> str:
    """The spelling of a text whose letters need no font here."""
    return text


def beam_figure(tree: BeamTree, spell: Spell = keep_text, *, pruned: int = 3) -> Any:
    """A matplotlib figure of a search; lengths in it are points."""
    from matplotlib.figure import Figure

    columns = drawn_nodes(tree, kept=_KEPT, pruned=pruned)
    rows = heights(columns)
    ranks = {found.node: found.rank for found in reversed(tree.texts)}
    names = {node.number: _name(node, ranks, spell) for column in columns for node in column}
    prompt = spell(truncate_start(one_line(tree.prompt), _PROMPT), "(prompt)") or "(start of a document)"
    widths = [_width(prompt), *(max((_width(names[node.number]) for node in column), default=0) for column in columns)]
    lefts = [_MARGIN, *(_MARGIN + left for left in accumulate(width + _GAP for width in widths))]
    top = 2.2 * _MARGIN + 2 * _LINE
    bottom = top + (max(rows.values(), default=0.0) + 1) * _ROW
    texts = tree.texts[:_TEXTS]
    width, height = max(lefts[-1] - _GAP + _MARGIN, 560.0), bottom + (len(texts) + 1.5) * _LINE
    figure = Figure(figsize=(width / 72, height / 72))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    ends: dict[int | None, tuple[float, float]] = {}  # where the lines to a node's children begin
    ends[None] = (_MARGIN + _width(prompt), top + _ROW * (rows[columns[0][0].number] if columns and columns[0] else 0))
    axes.text(_MARGIN, ends[None][1], prompt, fontsize=9.5, color=_BLUE, va="center", parse_math=False)
    surviving = tree.surviving()
    for left, column in zip(lefts[1:], columns, strict=False):
        best = max((node.logprob for node in column), default=0.0)
        for node in reversed(column):  # the best on top
            place = (left, top + _ROW * rows[node.number])
            ends[node.number] = (left + _width(names[node.number]), place[1])
            strength = 0.25 + 0.75 * math.exp((node.logprob - best) / 2)
            survives = node.number in surviving
            look = _Look(_color(node, survives), strength, node.fate == "kept" and not survives)
            _draw_line(axes, node, look, ends[node.parent], place)
            _draw_labels(axes, node, look, place, names[node.number])
    _draw_words(axes, tree)
    for line, found in enumerate(texts):
        words = spell(one_line(tree.prompt + found.text), "(no installed font has its letters; the SVG holds them)")
        reading = f"#{found.rank}  {format_probability(found.logprob)}  {words}"
        cells = int((width - 2 * _MARGIN) / _LETTER)
        axes.text(
            _MARGIN,
            bottom + (line + 0.5) * _LINE,
            truncate_end(reading, cells),
            fontsize=8,
            va="center",
            parse_math=False,
        )
    return figure


@dataclass(frozen=True)
class _Look:
    """How a node is drawn."""

    color: str
    strength: float  # of its line, from 0 to 1
    hollow: bool  # whether it was kept and given up later


def _draw_line(axes: Any, node: BeamNode, look: _Look, start: tuple[float, float], end: tuple[float, float]) -> None:
    """The line that leads to a node."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Outline

    (from_x, from_y), (x, y) = start, end
    begin, bend = max(from_x, x - 1.6 * _GAP), x - 0.5 * _GAP  # level up to where all curves of a column begin
    curve = Outline(
        [(from_x, from_y), (begin, from_y), (bend, from_y), (bend, y), (x, y)],
        [Outline.MOVETO, Outline.LINETO, Outline.CURVE4, Outline.CURVE4, Outline.CURVE4],
    )
    axes.add_patch(
        PathPatch(
            curve,
            facecolor="none",
            edgecolor=look.color,
            linewidth=0.6 + 4.4 * node.token_probability,
            alpha=look.strength,
            linestyle="--" if node.fate == "pruned" else "-",
            gid=f"line-{node.number}",
        )
    )


def _draw_labels(axes: Any, node: BeamNode, look: _Look, place: tuple[float, float], name: str) -> None:
    """A node's mark, token and probabilities."""
    x, y = place
    mark = {"kept": "o", "finished": "s", "pruned": "x"}[node.fate]
    axes.plot(
        x, y, mark, color=look.color, markersize=5, markerfacecolor="white" if look.hollow else look.color, zorder=3
    )
    ink = "#444444" if look.hollow else look.color
    figures = f"{format_probability(node.token_logprob)} · {format_probability(node.logprob)}"
    axes.text(
        x + 6, y - 4.5, name, fontsize=8.5, color=ink, va="center", parse_math=False, zorder=4,
        gid=f"node-{node.number}",
    )  # fmt: skip
    axes.text(x + 6, y + 5.5, figures, fontsize=6.5, color=ink, va="center", zorder=4)


def _draw_words(axes: Any, tree: BeamTree) -> None:
    """What the search was, and what its marks mean."""
    from matplotlib.lines import Line2D

    marks = [
        ("kept, on the way to a text below", "o", _BLUE, _BLUE),
        ("kept, given up later", "o", _PALE, "white"),
        ("finished", "s", _ORANGE, _ORANGE),
        ("pruned at once", "x", _GREY, _GREY),
    ]
    handles = [
        Line2D([], [], color=color, marker=mark, markersize=5, markerfacecolor=face, label=label,
               linestyle="--" if mark == "x" else "-")
        for label, mark, color, face in marks
    ]  # fmt: skip
    axes.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(_MARGIN, _MARGIN + 0.6 * _LINE), ncols=4, fontsize=8,
        bbox_transform=axes.transData, frameon=False, borderpad=0, borderaxespad=0, columnspacing=1.4,
    )  # fmt: skip
    size = f"{tree.config.num_beams:,} beams, {plural(len(tree.steps), 'step', 'steps')}"
    size += f" (of each step the {_KEPT} best)" if tree.config.num_beams > _KEPT else ""
    title = (
        f"{size}. Below a token: its probability · that of the text up to it. A line is as wide as its token is likely."
    )
    axes.text(_MARGIN, _MARGIN, title, fontsize=8, va="center")


def _color(node: BeamNode, survives: bool) -> str:
    if node.fate == "kept":
        return _BLUE if survives else _PALE
    return _ORANGE if node.fate == "finished" else _GREY


def _name(node: BeamNode, ranks: dict[int, int], spell: Spell) -> str:
    """A node's token as it is drawn, with the rank of the text that ends there."""
    label = truncate_end(one_line(node.label), _LABEL)
    if not any(letter.isalnum() for letter in label):
        label = f"“{label}”"  # a full stop alone would hardly be seen
    name = spell(label, f"id {node.id}")
    return f"{name}  #{ranks[node.number]}" if node.number in ranks else name


def _width(name: str) -> float:
    return 12 + max(_LETTER * cell_len(name), 58.0)
