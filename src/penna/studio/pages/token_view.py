"""Parts of the Playground: the text as selectable tokens, the panel of one token, and the versions of a text.

A token's color shows how unexpected it was. Every text in HTML is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from html import escape
from typing import Any

from nicegui import ui

from penna.studio.drafts import Alternative, Draft, token_alternatives
from penna.studio.i18n import t
from penna.studio.layout import heading, note
from penna.studio.undo_tree import UndoTree
from penna.tokenizer.tokenizer import Tokenizer

_THRESHOLDS = (0.5, 0.2, 0.05, 0.01)  # each lower probability is one color level stronger
_EXCERPT = 60  # characters of a version's name
_MAX_INDENT = 8  # levels of the tree
_SELECT = "const select = (t) => t.parentElement.querySelectorAll('[data-place]').forEach(x => { \
x.setAttribute('aria-pressed', x === t); x.tabIndex = x === t ? 0 : -1; });"
_CLICK = f"(e) => {{ {_SELECT} const t = e.target.closest('[data-place]'); \
if (t) {{ select(t); emit(Number(t.dataset.place)); }} }}"
_KEY = f"(e) => {{ {_SELECT} const t = e.target.closest('[data-place]'); if (!t) return; \
let to = null; if (e.key === 'Enter' || e.key === ' ') to = t; \
else if (e.key === 'ArrowRight') to = t.nextElementSibling; \
else if (e.key === 'ArrowLeft') to = t.previousElementSibling; \
if (!to || !to.dataset.place) return; e.preventDefault(); to.focus(); select(to); \
emit(Number(to.dataset.place)); }}"
STYLE = """
.tokens{white-space:pre-wrap;overflow-wrap:anywhere;line-height:1.75;width:100%;min-width:0}
.tokens .prompt{color:var(--faint)}
.tokens .piece{cursor:pointer;border-radius:3px;border-bottom:2px solid transparent}
.tokens .piece:hover,.tokens .piece[aria-pressed=true]{border-bottom-color:var(--accent)}
.tokens .piece[aria-pressed=true]{outline:2px solid var(--accent)}
.tokens .part{font-size:.7em;color:var(--faint)}
.tokens .s1{background:rgb(214 140 20/.14)}.tokens .s2{background:rgb(214 140 20/.26)}
.tokens .s3{background:rgb(214 110 20/.36)}.tokens .s4{background:rgb(214 80 30/.46)}
.tokens .piece.kept{border-bottom:2px solid var(--accent)}
.alternatives{display:flex;flex-direction:column;gap:2px;list-style:none;margin:0;padding:0}
.alternative{display:grid;grid-template-columns:2.2em minmax(5em,1fr) 5.2em;gap:8px;align-items:center;width:100%;
text-align:left;padding:3px 8px;border:1px solid transparent;border-radius:6px;color:var(--ink);cursor:pointer;
font:inherit;font-size:.92rem;font-variant-numeric:tabular-nums;background:none;position:relative;overflow:hidden}
.alternative:hover{border-color:var(--accent)}
.alternative[aria-current]{border-color:var(--accent);font-weight:700;cursor:default}
.alternative .share-bar{position:absolute;left:0;bottom:0;height:3px;background:var(--accent)}
.alternative .shown{font-family:ui-monospace,"Noto Sans Mono",monospace;overflow-wrap:anywhere}
.alternative .rank{color:var(--faint);text-align:right}.alternative .share{text-align:right}
.tree{list-style:none;margin:0;padding:0;display:flex;flex-direction:column;gap:2px;max-height:24rem;overflow:auto}
.tree button{width:100%;text-align:left;font:inherit;font-size:.9rem;color:var(--ink);background:none;cursor:pointer;
border:1px solid transparent;border-left:3px solid var(--line);padding:3px 8px;overflow-wrap:anywhere}
.tree button:hover{border-color:var(--accent)}
.tree button[aria-current]{border-color:var(--accent);background:var(--sheet);font-weight:600}
"""


def surprise_level(logprob: float) -> int:
    """How strongly a token is colored: 0 (not at all) to 4."""
    return sum(logprob < math.log(threshold) for threshold in _THRESHOLDS)


def token_html(draft: Draft, tokenizer: Tokenizer, *, can_select: bool = True) -> str:
    """The prompt and its tokens. A token that completes no character is shown small, by its bytes."""
    parts = [f'<span class="prompt">{escape(draft.prompt)}</span>']
    for place, (token, text) in enumerate(zip(draft.tokens, draft.texts, strict=True)):
        name = tokenizer.token_text(token.id)
        classes = f"piece s{surprise_level(token.logprob)}" + (" kept" if place == draft.kept - 1 else "")
        content = escape(text) if text else f'<span class="part">{escape(name)}</span>'
        if text.startswith("\n") or text == "\r":
            content = f'<span class="part">↵</span>{content}'
        if not can_select:
            parts.append(f'<span class="{classes}">{content}</span>')
            continue
        label = "" if text.strip() else f' aria-label="{escape(name, quote=True)}"'
        tab_index = 0 if place == 0 else -1
        parts.append(
            f'<span role="button" tabindex="{tab_index}" aria-pressed="false" data-place="{place}" '
            f'class="{classes}"{label}>{content}</span>'
        )
    return "".join(parts)


def percent(probability: float) -> str:
    """A probability with enough digits to differ from 0."""
    return f"{probability:.1%}" if probability >= 0.001 else f"{probability:.1e}"


class TokenText:
    """A draft as text whose tokens can be selected by pointer or keyboard."""

    def __init__(self, name: str, on_select: Callable[[int], Any]) -> None:
        """``name`` is for screen readers; ``on_select`` receives the position of a token."""
        self._text = ui.html("", sanitize=False).classes("tokens generated").props("role=group")
        self._text.props["aria-label"] = name
        self._text.on("click", lambda event: on_select(int(event.args)), js_handler=_CLICK)
        self._text.on("keydown", lambda event: on_select(int(event.args)), js_handler=_KEY)

    def show(self, draft: Draft, tokenizer: Tokenizer) -> None:
        """Show a draft as far as it is generated."""
        self._text.set_content(token_html(draft, tokenizer))

    def clear(self) -> None:
        """Show nothing."""
        self._text.set_content("")


class TokenPanel:
    """One token: its probability and rank, and the most likely alternatives."""

    def __init__(self, on_replace: Callable[[int, int], Any]) -> None:
        """``on_replace`` receives the position of the token and the ID of its replacement."""
        self._on_replace = on_replace
        with ui.element("section").classes("card") as card:
            card.props["aria-label"] = t("playground.token")
            heading(t("playground.token"))
            self._content = ui.element("div").props("aria-live=polite")
        self.clear()

    def clear(self) -> None:
        """Show how to select a token."""
        self._content.clear()
        with self._content:
            note("playground.choose")

    def show(self, draft: Draft, place: int, tokenizer: Tokenizer) -> None:
        """Show the token at a position."""
        token = draft.tokens[place]
        self._content.clear()
        with self._content:
            ui.label(
                t(
                    "playground.token-is",
                    token=tokenizer.token_text(token.id),
                    share=percent(math.exp(token.logprob)),
                    rank=f"{token.rank:,}",
                    size=f"{tokenizer.vocab_size:,}",
                )
            ).classes("token-is")
            if place == draft.kept - 1:
                note("playground.chosen-by-you")
            with ui.element("ol").classes("alternatives"):
                for alternative in token_alternatives(tokenizer, token):
                    with ui.element("li"):
                        self._show_alternative(alternative, place)
            note("playground.alternatives")

    def _show_alternative(self, alternative: Alternative, place: int) -> None:
        share = percent(alternative.probability)
        with ui.element("button").props("type=button").classes("alternative") as button:
            ui.label(f"{alternative.rank:,}").classes("rank")
            ui.label(alternative.text).classes("shown")
            ui.label(share).classes("share")
            ui.element("span").classes("share-bar").style(f"width:{alternative.probability:.2%}")
        if alternative.is_chosen:
            button.props("aria-current=true")
        else:
            button.props["aria-label"] = t("playground.take", token=alternative.text, share=share)
            button.on("click", lambda: self._on_replace(place, alternative.id), args=[])


class VersionTree:
    """The versions of a text, with undo and redo."""

    def __init__(self, on_change: Callable[[], Any]) -> None:
        """``on_change`` is called when another version becomes current."""
        self._on_change = on_change
        self._tree: UndoTree[Draft] = UndoTree()
        with ui.element("section").classes("card") as card:
            card.props["aria-label"] = t("playground.tree")
            heading(t("playground.tree"))
            with ui.element("div").classes("line"):
                self._undo_button = ui.button(t("playground.undo"), icon="undo", on_click=self._undo)
                self._redo_button = ui.button(t("playground.redo"), icon="redo", on_click=self._redo)
                for button in (self._undo_button, self._redo_button):
                    button.props("outline dense")
            self._rows = ui.element("ol").classes("tree")
            note("playground.tree-note")

    def show(self, tree: UndoTree[Draft]) -> None:
        """Show these versions."""
        self._tree = tree
        self._undo_button.set_enabled(tree.current is not None)
        self._redo_button.set_enabled(tree.redo_target is not None)
        self._rows.clear()
        with self._rows:
            for row in tree.rows():
                with ui.element("li").style(f"margin-left:{min(row.depth, _MAX_INDENT) * 14}px"):
                    button = ui.element("button").props("type=button")
                    button.on("click", partial(self._select, row.node.number), args=[])
                    if row.node.number == tree.current:
                        button.props("aria-current=true")
                    with button:
                        ui.label(f"{row.node.number + 1}. {_excerpt(row.node.value)}")

    def _undo(self) -> None:
        self._tree.undo()
        self._on_change()

    def _redo(self) -> None:
        self._tree.redo()
        self._on_change()

    def _select(self, number: int, _: object = None) -> None:
        self._tree.select(number)
        self._on_change()


def _excerpt(draft: Draft) -> str:
    text = " ".join((draft.own_text if draft.kept else f"{draft.prompt}{draft.text}").split())
    return text if len(text) <= _EXCERPT else f"{text[:_EXCERPT].rstrip()}…"
