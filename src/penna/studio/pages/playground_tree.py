"""The undo tree of a text: every version and what it began from, one step back and forward, and any of them again."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from nicegui import ui

from penna.studio.branches import Branches
from penna.studio.drafts import Draft
from penna.studio.frame import heading, meaning
from penna.studio.words import t

_EXCERPT = 60  # characters of a version that name it
_DEEPEST = 8  # steps that are drawn to the right
STYLE = """
.tree{list-style:none;margin:0;padding:0;display:flex;flex-direction:column;gap:2px;max-height:24rem;overflow:auto}
.tree button{width:100%;text-align:left;font:inherit;font-size:.9rem;color:var(--ink);background:none;cursor:pointer;
border:1px solid transparent;border-left:3px solid var(--line);padding:3px 8px;overflow-wrap:anywhere}
.tree button:hover{border-color:var(--accent)}
.tree button[aria-current]{border-color:var(--accent);background:var(--sheet);font-weight:600}
"""


class Tree:
    """The versions of a text on a page."""

    def __init__(self, on_change: Callable[[], Any]) -> None:
        """``on_change`` is called where another version is looked at."""
        self._on_change = on_change
        self._branches: Branches[Draft] = Branches()
        with ui.element("section").classes("card") as card:
            card.props["aria-label"] = t("play.tree")
            heading(t("play.tree"))
            with ui.element("div").classes("line"):
                self.back = ui.button(t("play.undo"), icon="undo", on_click=self._undo).props("outline dense")
                self.forth = ui.button(t("play.redo"), icon="redo", on_click=self._redo).props("outline dense")
            self._rows = ui.element("ol").classes("tree")
            meaning("play.tree-means")

    def show(self, branches: Branches[Draft]) -> None:
        """Show these versions."""
        self._branches = branches
        self.back.set_enabled(branches.current is not None)
        self.forth.set_enabled(branches.redone is not None)
        self._rows.clear()
        with self._rows:
            for row in branches.rows():
                number, draft = row.node.number, row.node.value
                with ui.element("li").style(f"margin-left:{min(row.depth, _DEEPEST) * 14}px"):
                    button = ui.element("button").props("type=button")
                    button.on("click", partial(self._go, number), args=[])
                    if number == branches.current:
                        button.props("aria-current=true")
                    with button:
                        ui.label(f"{number + 1}. {_excerpt(draft)}")

    def _undo(self) -> None:
        self._branches.undo()
        self._on_change()

    def _redo(self) -> None:
        self._branches.redo()
        self._on_change()

    def _go(self, number: int, _: object = None) -> None:
        self._branches.go(number)
        self._on_change()


def _excerpt(draft: Draft) -> str:
    text = " ".join((draft.own if draft.kept else f"{draft.prompt}{draft.text}").split())
    return text if len(text) <= _EXCERPT else f"{text[:_EXCERPT].rstrip()}…"
