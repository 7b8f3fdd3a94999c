"""The plot of a beam search: a tree with a column for each step, as SVG and PNG.

A line leads from each partial text to its continuations. Its width is the probability of the token, its opacity the
probability of the partial text relative to the best of its step. Color and marker show whether a partial text was kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any

from rich.cells import cell_len

from penna.formatting import format_probability, one_line, plural, truncate_end, truncate_start
from penna.generate.beam_tree import BeamNode, BeamTree
from penna.report.plot_files import Spell, keep_text, write_plot

_MAX_KEPT = 16  # drawn partial texts per step that were kept or finished
_MAX_TEXTS = 8  # complete texts below the tree
_LABEL_CELLS, _PROMPT_CELLS = 16, 22
_ROW, _GAP, _MARGIN, _LINE = 27.0, 42.0, 18.0, 13.0  # points
_CELL_WIDTH = 5.6  # points of a terminal cell in a label
_BLUE, _PALE, _ORANGE, _GRAY = "#14508c", "#7ba3d0", "#b3490a", "#808080"


def draw_beams(tree: BeamTree, file: Path, *, pruned: int = 3) -> list[Path]:
    """Write the plot of a search as SVG and PNG and return their paths.

    Of each step, the best 16 kept or finished partial texts and the best ``pruned`` pruned ones are drawn. Raises
    DataError for a suffix other than .svg and .png.
    """
    text = "".join([tree.prompt, *(node.label for node in tree.nodes), *(found.text for found in tree.texts)])
    return write_plot(lambda spell: beam_figure(tree, spell, pruned=pruned), file, text)


def visible_nodes(tree: BeamTree, *, kept: int, pruned: int) -> list[list[BeamNode]]:
    """The nodes to draw for each step, best first.

    These are the best ``kept`` nodes that were kept or finished and the best ``kept`` complete texts, with all their
    ancestors, and the best ``pruned`` pruned nodes whose parents are drawn.
    """
    chosen: set[int] = set()
    for step in tree.steps:
        survivors = sorted((node for node in step.nodes if node.fate != "pruned"), key=lambda node: -node.score)
        for node in survivors[:kept]:
            chosen.update(each.number for each in tree.path(node))
    for found in tree.texts[:kept]:
        chosen.update(each.number for each in tree.path(tree.nodes[found.node]))
    columns: list[list[BeamNode]] = []
    for step in tree.steps:
        candidates = [node for node in step.with_fate("pruned") if node.parent is None or node.parent in chosen]
        best = {node.number for node in sorted(candidates, key=lambda node: -node.score)[:pruned]}
        nodes = [node for node in step.nodes if node.number in best | chosen]
        columns.append(sorted(nodes, key=lambda node: -node.score))
    return columns


def node_heights(columns: Sequence[Sequence[BeamNode]]) -> dict[int, float]:
    """The vertical position of each node by its number, in rows from the top.

    In a column, the children of a node are next to each other and in the order of their parents, so that no lines
    cross, and as near to their parent's height as possible.
    """
    heights: dict[int, float] = {}
    for column in columns:
        ordered = sorted(column, key=lambda node: 0.0 if node.parent is None else heights[node.parent])
        targets: list[float] = []
        for parent, group in groupby(ordered, key=lambda node: node.parent):
            count = len(list(group))
            middle = 0.0 if parent is None else heights[parent]
            targets += [middle + place - (count - 1) / 2 for place in range(count)]
        heights.update(zip((node.number for node in ordered), separate_heights(targets), strict=True))
    top = min(heights.values(), default=0.0)
    return {number: height - top for number, height in heights.items()}


def separate_heights(targets: Sequence[float]) -> list[float]:
    """Heights in the same order and at least 1 apart, as near to the targets as possible (least squares).

    After subtracting i from the i-th height this is isotonic regression, solved by pooling adjacent violators (Ayer et
    al. 1955). Written out, because scikit-learn and scipy, which have it, are only used in tests.
    """
    pools: list[tuple[float, int]] = []  # mean, count
    for place, height in enumerate(targets):
        mean, count = height - place, 1
        while pools and pools[-1][0] > mean:
            other_mean, other_count = pools.pop()
            mean = (mean * count + other_mean * other_count) / (count + other_count)
            count += other_count
        pools.append((mean, count))
    means = [mean for mean, count in pools for _ in range(count)]
    return [mean + place for place, mean in enumerate(means)]


def beam_figure(tree: BeamTree, spell: Spell = keep_text, *, pruned: int = 3) -> Any:
    """A matplotlib figure of a search, with points as units."""
    from matplotlib.figure import Figure

    columns = visible_nodes(tree, kept=_MAX_KEPT, pruned=pruned)
    heights = node_heights(columns)
    ranks = {found.node: found.rank for found in reversed(tree.texts)}
    names = {node.number: _node_name(node, ranks, spell) for column in columns for node in column}
    prompt = spell(truncate_start(one_line(tree.prompt), _PROMPT_CELLS), "(prompt)") or "(start of a document)"
    widths = [
        _name_width(prompt),
        *(max((_name_width(names[node.number]) for node in column), default=0) for column in columns),
    ]
    lefts = [_MARGIN, *(_MARGIN + left for left in accumulate(width + _GAP for width in widths))]
    top = 2.2 * _MARGIN + 2 * _LINE
    bottom = top + (max(heights.values(), default=0.0) + 1) * _ROW
    texts = tree.texts[:_MAX_TEXTS]
    width, height = max(lefts[-1] - _GAP + _MARGIN, 560.0), bottom + (len(texts) + 1.5) * _LINE
    figure = Figure(figsize=(width / 72, height / 72))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    prompt_height = top + _ROW * (heights[columns[0][0].number] if columns and columns[0] else 0)
    line_starts: dict[int | None, tuple[float, float]] = {None: (_MARGIN + _name_width(prompt), prompt_height)}
    axes.text(_MARGIN, prompt_height, prompt, fontsize=9.5, color=_BLUE, va="center", parse_math=False)
    surviving = tree.surviving()
    for left, column in zip(lefts[1:], columns, strict=False):
        best = max((node.logprob for node in column), default=0.0)
        for node in reversed(column):  # the best on top
            position = (left, top + _ROW * heights[node.number])
            line_starts[node.number] = (left + _name_width(names[node.number]), position[1])
            survives = node.number in surviving
            opacity = 0.25 + 0.75 * math.exp((node.logprob - best) / 2)
            style = _NodeStyle(_node_color(node, survives), opacity, node.fate == "kept" and not survives)
            _draw_line(axes, node, style, line_starts[node.parent], position)
            _draw_label(axes, node, style, position, names[node.number])
    _draw_legend(axes, tree)
    for number, found in enumerate(texts):
        text = spell(one_line(tree.prompt + found.text), "(no installed font has these letters; the SVG has them)")
        line = f"#{found.rank}  {format_probability(found.logprob)}  {text}"
        line = truncate_end(line, int((width - 2 * _MARGIN) / _CELL_WIDTH))
        axes.text(_MARGIN, bottom + (number + 0.5) * _LINE, line, fontsize=8, va="center", parse_math=False)
    return figure


@dataclass(frozen=True)
class _NodeStyle:
    color: str
    opacity: float  # of its line
    is_hollow: bool  # kept at its step, but no complete text continues it


def _draw_line(
    axes: Any, node: BeamNode, style: _NodeStyle, start: tuple[float, float], end: tuple[float, float]
) -> None:
    """Draw the line from a node's parent to the node."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Outline

    (start_x, start_y), (x, y) = start, end
    begin, bend = max(start_x, x - 1.6 * _GAP), x - 0.5 * _GAP  # straight to where the curves of a column begin
    curve = Outline(
        [(start_x, start_y), (begin, start_y), (bend, start_y), (bend, y), (x, y)],
        [Outline.MOVETO, Outline.LINETO, Outline.CURVE4, Outline.CURVE4, Outline.CURVE4],
    )
    axes.add_patch(
        PathPatch(
            curve,
            facecolor="none",
            edgecolor=style.color,
            linewidth=0.6 + 4.4 * node.token_probability,
            alpha=style.opacity,
            linestyle="--" if node.fate == "pruned" else "-",
            gid=f"line-{node.number}",
        )
    )


def _draw_label(axes: Any, node: BeamNode, style: _NodeStyle, position: tuple[float, float], name: str) -> None:
    """Draw a node's marker, token and probabilities."""
    x, y = position
    marker = {"kept": "o", "finished": "s", "pruned": "x"}[node.fate]
    face = "white" if style.is_hollow else style.color
    axes.plot(x, y, marker, color=style.color, markersize=5, markerfacecolor=face, zorder=3)
    ink = "#444444" if style.is_hollow else style.color
    probabilities = f"{format_probability(node.token_logprob)} · {format_probability(node.logprob)}"
    axes.text(
        x + 6, y - 4.5, name, fontsize=8.5, color=ink, va="center", parse_math=False, zorder=4,
        gid=f"node-{node.number}",
    )  # fmt: skip
    axes.text(x + 6, y + 5.5, probabilities, fontsize=6.5, color=ink, va="center", zorder=4)


def _draw_legend(axes: Any, tree: BeamTree) -> None:
    """Draw the size of the search and the meaning of markers and lines."""
    from matplotlib.lines import Line2D

    markers = [
        ("kept, part of a text below", "o", _BLUE, _BLUE),
        ("kept, dropped later", "o", _PALE, "white"),
        ("finished", "s", _ORANGE, _ORANGE),
        ("pruned", "x", _GRAY, _GRAY),
    ]
    handles = [
        Line2D([], [], color=color, marker=marker, markersize=5, markerfacecolor=face, label=label,
               linestyle="--" if marker == "x" else "-")
        for label, marker, color, face in markers
    ]  # fmt: skip
    axes.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(_MARGIN, _MARGIN + 0.6 * _LINE), ncols=4, fontsize=8,
        bbox_transform=axes.transData, frameon=False, borderpad=0, borderaxespad=0, columnspacing=1.4,
    )  # fmt: skip
    size = f"{tree.config.num_beams:,} beams, {plural(len(tree.steps), 'step', 'steps')}"
    size += f" (the best {_MAX_KEPT} of each step)" if tree.config.num_beams > _MAX_KEPT else ""
    meaning = "Below a token: its probability · that of the text so far. Line width: probability of the token."
    axes.text(_MARGIN, _MARGIN, f"{size}. {meaning}", fontsize=8, va="center")


def _node_color(node: BeamNode, survives: bool) -> str:
    if node.fate == "kept":
        return _BLUE if survives else _PALE
    return _ORANGE if node.fate == "finished" else _GRAY


def _node_name(node: BeamNode, ranks: dict[int, int], spell: Spell) -> str:
    """A node's token, and the rank of the text that ends there."""
    label = truncate_end(one_line(node.label), _LABEL_CELLS)
    if not any(letter.isalnum() for letter in label):
        label = f"“{label}”"  # a lone period is hard to see
    name = spell(label, f"id {node.id}")
    return f"{name}  #{ranks[node.number]}" if node.number in ranks else name


def _name_width(name: str) -> float:
    return 12 + max(_CELL_WIDTH * cell_len(name), 58.0)
