"""Texts to choose from, as a tree of their tokens: what may follow what is written, so that it becomes one of them.

In come the choices as token sequences; for each beginning of a text the tree says which tokens go on towards a choice,
and whether a whole choice stands there already.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from penna.errors import DataError


class ChoiceOptions(NamedTuple):
    """What lies behind a beginning."""

    allowed: tuple[int, ...]  # the tokens that go on towards a choice
    is_complete: bool  # a whole choice is written: the text may end here, and does where nothing is allowed


@dataclass
class _Node:
    children: dict[int, _Node] = field(default_factory=dict[int, "_Node"])
    is_complete: bool = False


class ChoiceTrie:
    """Token sequences, of which a text is to be one."""

    def __init__(self, choices: Iterable[Sequence[int]]) -> None:
        """Take in the choices. Raises DataError where there is none, or one without tokens."""
        self._root = _Node()
        for number, ids in enumerate(choices):
            if not ids:
                raise DataError(
                    f"Choice {number + 1} has no tokens.",
                    "Each choice has at least one, so that it can be written.",
                    "Leave it out, or take a tokenizer that has tokens for its characters.",
                )
            node = self._root
            for index in ids:
                node = node.children.setdefault(index, _Node())
            node.is_complete = True
        if not self._root.children:
            raise DataError(
                "There are no choices.", "At least one text to choose.", "Give some, or let the text be free."
            )

    def after(self, written: Iterable[int]) -> ChoiceOptions:
        """What may follow these tokens. Where they are the beginning of no choice nothing may, and nothing is whole."""
        node = self._root
        for index in written:
            if index not in node.children:
                return ChoiceOptions((), is_complete=False)
            node = node.children[index]
        return ChoiceOptions(tuple(node.children), node.is_complete)
