"""A beam tree as lines of text: everything that was kept, each behind the branches that lead to it.

What never branches is one line: tokens that stand alone below their parent are written behind it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from penna.generate.beam_tree import BeamNode, BeamTree, added_text


@dataclass(frozen=True)
class TreeLine:
    """A line of the drawing."""

    branch: str  # the lines that lead here
    mark: str
    text: str  # what its tokens add to the text
    logprob: float  # of the partial text up to here
    survives: bool  # whether a text that was found goes through it, or ends with it


def tree_lines(tree: BeamTree, *, shown: int) -> list[TreeLine]:
    """The lines of a tree below its prompt; of each step the ``shown`` best, and all that lead to the texts ranked as
    high."""
    chosen: set[int] = set()
    for step in tree.steps:
        for node in [node for node in step.nodes if node.fate != "pruned"][:shown]:
            chosen.update(each.number for each in tree.path(node))
    for found in tree.texts[:shown]:
        chosen.update(each.number for each in tree.path(tree.nodes[found.node]))
    return list(_Drawing(tree, chosen).below(None, ""))


class _Drawing:
    """What is known of a tree while its lines are made."""

    def __init__(self, tree: BeamTree, chosen: set[int]) -> None:
        self._surviving = tree.surviving()
        self._ranks = {found.node: found.rank for found in tree.texts}
        self._children: dict[int | None, list[BeamNode]] = {}
        for node in tree.nodes:
            if node.number in chosen:
                self._children.setdefault(node.parent, []).append(node)

    def below(self, parent: BeamNode | None, branch: str) -> Iterator[TreeLine]:
        """The lines below a node, or below the prompt; the best child comes first."""
        children = self._children.get(None if parent is None else parent.number, [])
        for place, node in enumerate(sorted(children, key=lambda node: -node.score), start=1):
            end = self._unbranched(node)
            added = added_text("" if parent is None else parent.text, end.text)
            is_last = place == len(children)
            yield TreeLine(
                branch=branch + ("└─" if is_last else "├─"),
                mark=self._mark(end),
                text=f"␣{added[1:]}" if added[:1] == " " else added or end.token,
                logprob=end.logprob,
                survives=end.number in self._surviving,
            )
            yield from self.below(end, branch + ("  " if is_last else "│ "))

    def _unbranched(self, node: BeamNode) -> BeamNode:
        """The last node of a chain of only children; what survives and what does not are no chain."""
        only = self._children.get(node.number, [])
        while len(only) == 1 and (only[0].number in self._surviving) == (node.number in self._surviving):
            node = only[0]
            only = self._children.get(node.number, [])
        return node

    def _mark(self, node: BeamNode) -> str:
        if node.fate == "finished":
            return f"■ #{self._ranks[node.number]}" if node.number in self._ranks else "■"
        return "●" if node.number in self._surviving else "○"
