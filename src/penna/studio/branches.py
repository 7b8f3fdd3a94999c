"""A tree of what was made so far: undo steps back, redo forward, and nothing that was made lately is lost.

Whoever changes something behind an earlier state begins a branch there. Texts of the playground and exchanges of a chat
are both kept so. Nodes are numbered as they come; None is the place before the first one. Of more than a tree holds the
oldest is dropped, and what followed it follows nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

T = TypeVar("T")
MOST = 200  # states of a tree


@dataclass(frozen=True)
class Node(Generic[T]):
    """One state."""

    number: int
    parent: int | None  # None: it follows nothing
    value: T


@dataclass(frozen=True)
class Row(Generic[T]):
    """A node, and how many stand between it and the start."""

    depth: int
    node: Node[T]


class Branches(Generic[T]):
    """States, what each follows, and which of them is looked at."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._nodes: dict[int, Node[T]] = {}  # the oldest first
        self.made = 0  # in all
        self._children: dict[int | None, list[int]] = {None: []}
        self._visited: dict[int | None, int] = {}  # the child that was looked at last
        self.current: int | None = None

    def __len__(self) -> int:
        return len(self._nodes)

    def __getitem__(self, number: int) -> Node[T]:
        return self._nodes[number]

    @property
    def value(self) -> T | None:
        """What is looked at; None before the first."""
        return None if self.current is None else self._nodes[self.current].value

    def add(self, value: T) -> Node[T]:
        """A state behind the one that is looked at; it is looked at from now on."""
        node = Node(self.made, self.current, value)
        self.made += 1
        self._nodes[node.number] = node
        self._children[self.current].append(node.number)
        self._children[node.number] = []
        self.go(node.number)
        if len(self._nodes) > self._most:
            self._drop(next(iter(self._nodes)))
        return node

    def _drop(self, oldest: int) -> None:
        """Forget the oldest node, which follows nothing."""
        del self._nodes[oldest]
        orphans = self._children.pop(oldest)
        for number in orphans:
            self._nodes[number] = replace(self._nodes[number], parent=None)
        self._children[None] = sorted({*self._children[None], *orphans} - {oldest})
        visited = self._visited.pop(oldest, None)
        if self._visited.get(None) == oldest:
            self._visited.pop(None)
            if visited is not None:
                self._visited[None] = visited

    def put(self, number: int, value: T) -> None:
        """Another value in the place of one, such as a text that has grown."""
        self._nodes[number] = replace(self._nodes[number], value=value)

    def go(self, number: int | None) -> None:
        """Look at this one; redo leads here from all that stand before it."""
        self.current = number
        while number is not None:
            parent = self._nodes[number].parent
            self._visited[parent] = number
            number = parent

    @property
    def undone(self) -> int | None:
        """Where `undo` leads; the current place where it leads nowhere."""
        return None if self.current is None else self._nodes[self.current].parent

    def undo(self) -> None:
        """One step back; nothing before the first."""
        self.current = self.undone

    @property
    def redone(self) -> int | None:
        """Where `redo` leads; None where nothing follows."""
        return self._visited.get(self.current)

    def redo(self) -> None:
        """One step forward, to what was looked at last; nothing behind the last."""
        if self.redone is not None:
            self.current = self.redone

    def path(self) -> list[Node[T]]:
        """From the first one to the one that is looked at."""
        return self.path_to(self.current)

    def path_to(self, number: int | None) -> list[Node[T]]:
        """From the first one to this one."""
        found: list[Node[T]] = []
        while number is not None:
            found.append(self._nodes[number])
            number = self._nodes[number].parent
        return found[::-1]

    def versions(self, number: int) -> list[int]:
        """All that follow the same state as this one does, itself among them, as they came."""
        return list(self._children[self._nodes[number].parent])

    def newest(self, number: int) -> int:
        """The end of the branch that was looked at last behind this one."""
        while number in self._visited:
            number = self._visited[number]
        return number

    def rows(self) -> Iterator[Row[T]]:
        """All, each before what follows it."""
        stack = [(0, number) for number in reversed(self._children[None])]
        while stack:
            depth, number = stack.pop()
            yield Row(depth, self._nodes[number])
            stack += [(depth + 1, child) for child in reversed(self._children[number])]
