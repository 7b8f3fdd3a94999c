"""An undo tree: undo goes back, redo goes forward, and a change after an undo starts a new branch.

The playground keeps texts this way, the chat its exchanges. Nodes are numbered in the order they are added; None is
the state before the first node. A full tree drops its oldest node, whose children become roots.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

T = TypeVar("T")
MAX_NODES = 200


@dataclass(frozen=True)
class Node(Generic[T]):
    """One state."""

    number: int
    parent: int | None  # None: a root
    value: T


@dataclass(frozen=True)
class TreeRow(Generic[T]):
    """A node and its depth."""

    depth: int
    node: Node[T]


class UndoTree(Generic[T]):
    """States, their parents, and the current one."""

    def __init__(self, max_nodes: int = MAX_NODES) -> None:
        self._max_nodes = max_nodes
        self._nodes: dict[int, Node[T]] = {}  # oldest first
        self.total_added = 0
        self._children: dict[int | None, list[int]] = {None: []}
        self._last_visited: dict[int | None, int] = {}  # for each node, the child that was current last
        self.current: int | None = None

    def __len__(self) -> int:
        return len(self._nodes)

    def __getitem__(self, number: int) -> Node[T]:
        return self._nodes[number]

    @property
    def value(self) -> T | None:
        """The current state; None before the first."""
        return None if self.current is None else self._nodes[self.current].value

    def add(self, value: T) -> Node[T]:
        """Add a child of the current node and make it current."""
        node = Node(self.total_added, self.current, value)
        self.total_added += 1
        self._nodes[node.number] = node
        self._children[self.current].append(node.number)
        self._children[node.number] = []
        self.select(node.number)
        if len(self._nodes) > self._max_nodes:
            self._drop_oldest()
        return node

    def _drop_oldest(self) -> None:
        """Drop the oldest node, which is always a root."""
        oldest = next(iter(self._nodes))
        del self._nodes[oldest]
        orphans = self._children.pop(oldest)
        for number in orphans:
            self._nodes[number] = replace(self._nodes[number], parent=None)
        self._children[None] = sorted({*self._children[None], *orphans} - {oldest})
        visited = self._last_visited.pop(oldest, None)
        if self._last_visited.get(None) == oldest:
            self._last_visited.pop(None)
            if visited is not None:
                self._last_visited[None] = visited

    def replace(self, number: int, value: T) -> None:
        """Replace the value of a node, for example with a longer text."""
        self._nodes[number] = replace(self._nodes[number], value=value)

    def select(self, number: int | None) -> None:
        """Make a node current; redo from its ancestors leads back to it."""
        self.current = number
        while number is not None:
            parent = self._nodes[number].parent
            self._last_visited[parent] = number
            number = parent

    def undo(self) -> None:
        """Go to the parent; nothing happens before the first node."""
        self.current = None if self.current is None else self._nodes[self.current].parent

    @property
    def redo_target(self) -> int | None:
        """The node that ``redo`` makes current; None if there is none."""
        return self._last_visited.get(self.current)

    def redo(self) -> None:
        """Go to the child that was current last, if there is one."""
        if self.redo_target is not None:
            self.current = self.redo_target

    def path(self) -> list[Node[T]]:
        """The nodes from the root to the current node."""
        return self.path_to(self.current)

    def path_to(self, number: int | None) -> list[Node[T]]:
        """The nodes from the root to a node."""
        path: list[Node[T]] = []
        while number is not None:
            path.append(self._nodes[number])
            number = self._nodes[number].parent
        return path[::-1]

    def siblings(self, number: int) -> list[int]:
        """The children of a node's parent, the node itself included, oldest first."""
        return list(self._children[self._nodes[number].parent])

    def latest_descendant(self, number: int) -> int:
        """The end of the branch below a node that was current last."""
        while number in self._last_visited:
            number = self._last_visited[number]
        return number

    def rows(self) -> Iterator[TreeRow[T]]:
        """All nodes, depth first, each before its children."""
        stack = [(0, number) for number in reversed(self._children[None])]
        while stack:
            depth, number = stack.pop()
            yield TreeRow(depth, self._nodes[number])
            stack += [(depth + 1, child) for child in reversed(self._children[number])]
