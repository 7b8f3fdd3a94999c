"""Where the nodes of a beam tree stand in its figure: a tree in, the nodes to be drawn and their heights out.

A step is a column. In it the children of one node stand together, in the order of their parents, so that no two lines
cross; each is as near to its parent's height as the others leave room. Of a wide search only the best of each step are
drawn, with all that lead to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from penna.generate.beam_tree import BeamNode, BeamTree


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
        given_up = [node for node in step.of("pruned") if node.parent is None or node.parent in chosen]
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
