"""A conversation on a page: its turns with what can be done with each, what fell out of the window, what was read.

Who writes HTML here escapes every text. A `Talk` in; which exchange is to be said or answered anew comes back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from html import escape
from typing import Any

from nicegui import ui

from penna.studio.branches import Node
from penna.studio.conversation import Exchange, Read, Talk
from penna.studio.frame import meaning
from penna.studio.words import t

STYLE = """
.talk{display:flex;flex-direction:column;gap:10px;min-height:80px;width:100%}
.turn{border:1px solid var(--line);border-radius:10px;padding:8px 12px;max-width:92%;min-width:0;display:flex;
flex-direction:column;gap:2px}
.turn.user{align-self:flex-end;background:var(--sheet)}
.turn.reply{align-self:flex-start;background:var(--paper)}
.turn.unread{border-style:dashed;color:var(--faint)}
.turn .who{font-size:.8rem;color:var(--faint)}
.turn .told{font-size:.8rem;color:var(--faint)}
.turn .line{gap:4px}
.turn.editing{align-self:stretch;max-width:100%}
.window{border-top:2px dashed var(--line);color:var(--faint);font-size:.85rem;padding-top:4px}
.rendered{white-space:pre-wrap;overflow-wrap:anywhere}
.rendered b{color:var(--accent);font-weight:600}
"""
_SMALL = "flat dense round size=sm"


class Transcript:
    """The turns of one conversation."""

    def __init__(self, name: str, *, on_edit: Callable[[int, str], Any], on_again: Callable[[int], Any]) -> None:
        """``name`` is the model's; ``on_edit`` is given an exchange and its new line, ``on_again`` an exchange."""
        self._name, self._on_edit, self._on_again = name, on_edit, on_again
        self._talk = Talk()
        self._shown = ui.element("div").classes("talk").props("role=log tabindex=0")
        self._shown.props["aria-label"] = f"{t('chat.talk')}: {name}"
        self._read = ui.element("div")
        self._reply: ui.label | None = None  # the one that grows

    def show(self, talk: Talk, name: str) -> None:
        """Show a conversation as it stands."""
        self._talk, self._name, self._reply = talk, name, None
        exchanges = talk.exchanges
        self._shown.clear()
        with self._shown:
            if not exchanges:
                meaning("chat.nothing")
            unread = talk.unread() // 2
            for place, node in enumerate(exchanges):
                if place == unread and unread:
                    ui.label(t("chat.fell-out")).classes("window")
                self._draw(node, is_unread=place < unread)
        self._read.clear()
        if exchanges:
            with self._read, ui.expansion(t("chat.read")).classes("fold"):
                _show_read(exchanges[-1].value.read)

    def grow(self, exchange: Exchange) -> None:
        """Show a reply as far as it is written."""
        if self._reply is not None:
            self._reply.set_text(exchange.reply)

    def _draw(self, node: Node[Exchange], *, is_unread: bool) -> None:
        exchange, unread = node.value, " unread" if is_unread else ""
        turn = ui.element("div").classes(f"turn user{unread}")
        with turn:
            ui.label(t("chat.you")).classes("who")
            ui.label(exchange.line).classes("written")
            with ui.element("div").classes("line"):
                self._button("edit", "chat.edit", partial(self._edit, node, turn))
                self._versions(node)
        with ui.element("div").classes(f"turn reply{unread}"):
            ui.label(self._name).classes("who")
            is_empty = exchange.finish is not None and not exchange.reply
            reply = ui.label(t("chat.no-reply") if is_empty else exchange.reply).classes("written reply-text")
            with ui.element("div").classes("line"):
                if exchange.finish is None:
                    ui.label(t("chat.writing")).classes("told").props("role=status")
                    self._reply = reply
                    return
                self._button("refresh", "chat.again", partial(self._on_again, node.number))
                end = t(f"chat.end.{exchange.finish}")
                ui.label(t("chat.facts", count=f"{exchange.tokens:,}", seed=exchange.seed, end=end)).classes("told")

    def _versions(self, node: Node[Exchange]) -> None:
        """A way to the other versions of an exchange."""
        versions = self._talk.branches.versions(node.number)
        if len(versions) < 2:
            return
        place = versions.index(node.number)
        self._step("chevron_left", "chat.older", versions, place - 1)
        ui.label(t("chat.version", place=place + 1, count=len(versions))).classes("told")
        self._step("chevron_right", "chat.newer", versions, place + 1)

    def _step(self, icon: str, key: str, versions: Sequence[int], place: int) -> None:
        def go() -> None:
            self._talk.version(versions[place])
            self.show(self._talk, self._name)

        self._button(icon, key, go).set_enabled(0 <= place < len(versions))

    def _edit(self, node: Node[Exchange], turn: ui.element) -> None:
        """A field in the place of a line."""
        turn.clear()
        turn.classes("editing")
        with turn:
            field = ui.textarea(t("chat.edited"), value=node.value.line).props("outlined dense autogrow autofocus")
            with ui.element("div").classes("line"):
                say = ui.button(t("chat.say"), on_click=lambda: self._on_edit(node.number, field.value or ""))
                say.props("unelevated dense")
                back = ui.button(t("chat.cancel"), on_click=lambda: self.show(self._talk, self._name))
                back.props("flat dense")

    @staticmethod
    def _button(icon: str, key: str, on_click: Callable[[], Any]) -> ui.button:
        button = ui.button(icon=icon, on_click=on_click).props(_SMALL)
        button.props["aria-label"] = t(key)
        return button


def rendered_html(read: Read) -> str:
    """What was read: bold what the template wrote, plain what was said."""
    text, parts, end = read.rendered.text, list[str](), 0
    for first, last in read.rendered.content_spans:
        parts.append(_bold(text[end:first]) + escape(text[first:last]))
        end = last
    return "".join(parts) + _bold(text[end:])


def _bold(text: str) -> str:
    return f"<b>{escape(text)}</b>" if text else ""


def _show_read(read: Read) -> None:
    ui.html(rendered_html(read), sanitize=False).classes("code rendered")
    meaning("chat.read-means", tokens=f"{read.tokens:,}", room=f"{read.room:,}", forgotten=read.forgotten)
