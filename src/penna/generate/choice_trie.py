"""The texts to choose from as a prefix tree of tokens: which tokens may follow the generated ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from penna.errors import DataError


class ChoiceOptions(NamedTuple):
    """What may follow a prefix."""

    allowed: tuple[int, ...]  # tokens that continue a choice
    is_complete: bool  # the tokens are a whole choice, so the text may end


@dataclass
class _Node:
    children: dict[int, _Node] = field(default_factory=dict[int, "_Node"])
    is_complete: bool = False


class ChoiceTrie:
    """Token sequences, one of which is to be generated."""

    def __init__(self, choices: Iterable[Sequence[int]]) -> None:
        """Raises DataError if there are no choices, or if one has no tokens."""
        self._root = _Node()
        for number, ids in enumerate(choices):
            if not ids:
                raise DataError(
                    f"Choice {number + 1} has no tokens.",
                    "Each choice must have at least one.",
                    "Drop it, or use a tokenizer that knows its characters.",
                )
            node = self._root
            for index in ids:
                node = node.children.setdefault(index, _Node())
            node.is_complete = True
        if not self._root.children:
            raise DataError("There are no choices.", "At least one is needed.", "Add choices, or drop the option.")

    def after(self, generated: Iterable[int]) -> ChoiceOptions:
        """What may follow these tokens; nothing if no choice starts with them."""
        node = self._root
        for index in generated:
            if index not in node.children:
                return ChoiceOptions((), is_complete=False)
            node = node.children[index]
        return ChoiceOptions(tuple(node.children), node.is_complete)
