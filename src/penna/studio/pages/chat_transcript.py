"""A conversation on the Chat page: its turns with their actions, which turns were dropped, and what the model read.

Every text in HTML is escaped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from html import escape
from typing import Any

from nicegui import ui

from penna.studio.conversation import ConversationTree, Exchange, ReadContext
from penna.studio.i18n import t
from penna.studio.layout import note
from penna.studio.undo_tree import Node

STYLE = """
.conversation{display:flex;flex-direction:column;gap:10px;min-height:80px;width:100%}
.turn{border:1px solid var(--line);border-radius:10px;padding:8px 12px;max-width:92%;min-width:0;display:flex;
flex-direction:column;gap:2px}
.turn.user{align-self:flex-end;background:var(--sheet)}
.turn.reply{align-self:flex-start;background:var(--paper)}
.turn.dropped{border-style:dashed;color:var(--faint)}
.turn .speaker{font-size:.8rem;color:var(--faint)}
.turn .details{font-size:.8rem;color:var(--faint)}
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
        """``on_edit`` receives an exchange and its edited message, ``on_again`` an exchange to reply to again."""
        self._name, self._on_edit, self._on_again = name, on_edit, on_again
        self._conversation = ConversationTree()
        self._turns = ui.element("div").classes("conversation").props("role=log tabindex=0")
        self._turns.props["aria-label"] = f"{t('chat.talk')}: {name}"
        self._context = ui.element("div")
        self._growing: ui.label | None = None  # the reply that is being generated

    def show(self, conversation: ConversationTree, name: str) -> None:
        """Show the current version of a conversation with the model ``name``."""
        self._conversation, self._name, self._growing = conversation, name, None
        exchanges = conversation.exchanges
        self._turns.clear()
        with self._turns:
            if not exchanges:
                note("chat.nothing")
            dropped = conversation.dropped_turns // 2
            for place, node in enumerate(exchanges):
                if place == dropped and dropped:
                    ui.label(t("chat.fell-out")).classes("window")
                self._show_exchange(node, is_dropped=place < dropped)
        self._context.clear()
        if exchanges:
            with self._context, ui.expansion(t("chat.read")).classes("fold"):
                _show_context(exchanges[-1].value.read)

    def update_reply(self, exchange: Exchange) -> None:
        """Show a reply as far as it is generated."""
        if self._growing is not None:
            self._growing.set_text(exchange.reply)

    def _show_exchange(self, node: Node[Exchange], *, is_dropped: bool) -> None:
        exchange, dropped = node.value, " dropped" if is_dropped else ""
        turn = ui.element("div").classes(f"turn user{dropped}")
        with turn:
            ui.label(t("chat.you")).classes("speaker")
            ui.label(exchange.line).classes("generated")
            with ui.element("div").classes("line"):
                self._button("edit", t("chat.edit"), partial(self._show_editor, node, turn))
                self._show_versions(node)
        with ui.element("div").classes(f"turn reply{dropped}"):
            ui.label(self._name).classes("speaker")
            is_empty = exchange.finish is not None and not exchange.reply
            reply = ui.label(t("chat.no-reply") if is_empty else exchange.reply).classes("generated reply-text")
            with ui.element("div").classes("line"):
                if exchange.finish is None:
                    ui.label(t("chat.writing")).classes("details").props("role=status")
                    self._growing = reply
                    return
                self._button("refresh", t("chat.again"), partial(self._on_again, node.number))
                end = t(f"chat.end-{exchange.finish}")
                ui.label(t("chat.facts", count=f"{exchange.tokens:,}", seed=exchange.seed, end=end)).classes("details")

    def _show_versions(self, node: Node[Exchange]) -> None:
        """Buttons that lead to the other versions of an exchange, if there are any."""
        versions = self._conversation.tree.siblings(node.number)
        if len(versions) < 2:
            return
        place = versions.index(node.number)
        self._version_button("chevron_left", t("chat.older"), versions, place - 1)
        ui.label(t("chat.version", place=place + 1, count=len(versions))).classes("details")
        self._version_button("chevron_right", t("chat.newer"), versions, place + 1)

    def _version_button(self, icon: str, label: str, versions: Sequence[int], place: int) -> None:
        def select() -> None:
            self._conversation.select_version(versions[place])
            self.show(self._conversation, self._name)

        self._button(icon, label, select).set_enabled(0 <= place < len(versions))

    def _show_editor(self, node: Node[Exchange], turn: ui.element) -> None:
        """Replace a message by a field to edit it."""
        turn.clear()
        turn.classes("editing")
        with turn:
            field = ui.textarea(t("chat.edited"), value=node.value.line).props("outlined dense autogrow autofocus")
            with ui.element("div").classes("line"):
                send = ui.button(t("chat.say"), on_click=lambda: self._on_edit(node.number, field.value or ""))
                send.props("unelevated dense")
                cancel = ui.button(t("chat.cancel"), on_click=lambda: self.show(self._conversation, self._name))
                cancel.props("flat dense")

    @staticmethod
    def _button(icon: str, label: str, on_click: Callable[[], Any]) -> ui.button:
        button = ui.button(icon=icon, on_click=on_click).props(_SMALL)
        button.props["aria-label"] = label
        return button


def context_html(read: ReadContext) -> str:
    """What the model read: the template's text is bold, messages and replies are plain."""
    text, parts, end = read.rendered.text, list[str](), 0
    for first, last in read.rendered.content_spans:
        parts.append(_bold(text[end:first]) + escape(text[first:last]))
        end = last
    return "".join(parts) + _bold(text[end:])


def _bold(text: str) -> str:
    return f"<b>{escape(text)}</b>" if text else ""


def _show_context(read: ReadContext) -> None:
    ui.html(context_html(read), sanitize=False).classes("code rendered")
    note("chat.read-note", tokens=f"{read.tokens:,}", capacity=f"{read.capacity:,}", dropped=read.dropped_turns)
