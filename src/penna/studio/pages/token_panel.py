"""What the model thought in one place of a text: probability, rank, and the twenty likeliest tokens to take instead."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from nicegui import ui

from penna.studio.drafts import Alternative, Draft, alternatives
from penna.studio.frame import heading, meaning
from penna.studio.words import t
from penna.tokenizer.tokenizer import Tokenizer

STYLE = """
.alternatives{display:flex;flex-direction:column;gap:2px;list-style:none;margin:0;padding:0}
.alternative{display:grid;grid-template-columns:2.2em minmax(5em,1fr) 5.2em;gap:8px;align-items:center;width:100%;
text-align:left;padding:3px 8px;border:1px solid transparent;border-radius:6px;color:var(--ink);cursor:pointer;
font:inherit;font-size:.92rem;font-variant-numeric:tabular-nums;background:none;position:relative;overflow:hidden}
.alternative:hover{border-color:var(--accent)}
.alternative[aria-current]{border-color:var(--accent);font-weight:700;cursor:default}
.alternative .share-bar{position:absolute;left:0;bottom:0;height:3px;background:var(--accent)}
.alternative .shown{font-family:ui-monospace,"Noto Sans Mono",monospace;overflow-wrap:anywhere}
.alternative .rank{color:var(--faint);text-align:right}.alternative .share{text-align:right}
"""


def percent(probability: float) -> str:
    """A probability for the eye: as many digits as tell it from 0."""
    return f"{probability:.1%}" if probability >= 0.001 else f"{probability:.1e}"


class TokenPanel:
    """One place of a draft."""

    def __init__(self, on_choice: Callable[[int, int], Any]) -> None:
        """``on_choice`` is given the place and the id of the token that a person takes instead."""
        self._on_choice = on_choice
        with ui.element("section").classes("card") as card:
            card.props["aria-label"] = t("play.token")
            heading(t("play.token"))
            self._shown = ui.element("div").props("aria-live=polite")
        self.clear()

    def clear(self) -> None:
        """Say what can be done here."""
        self._shown.clear()
        with self._shown:
            meaning("play.choose")

    def show(self, draft: Draft, place: int, tokenizer: Tokenizer) -> None:
        """Show what stands in a place, and what could."""
        token = draft.tokens[place]
        self._shown.clear()
        with self._shown:
            ui.label(
                t(
                    "play.token-is",
                    token=tokenizer.token_text(token.id),
                    share=percent(math.exp(token.logprob)),
                    rank=f"{token.rank:,}",
                    size=f"{tokenizer.vocab_size:,}",
                )
            ).classes("token-is")
            if place == draft.kept - 1:
                ui.label(t("play.yours")).classes("meaning")
            with ui.element("ol").classes("alternatives"):
                for each in alternatives(tokenizer, token):
                    with ui.element("li"):
                        self._draw(each, place)
            meaning("play.alternatives")

    def _draw(self, each: Alternative, place: int) -> None:
        with ui.element("button").props("type=button").classes("alternative") as button:
            ui.label(f"{each.rank:,}").classes("rank")
            ui.label(each.text).classes("shown")
            ui.label(percent(each.probability)).classes("share")
            ui.element("span").classes("share-bar").style(f"width:{each.probability:.2%}")
        if each.is_chosen:
            button.props("aria-current=true")
        else:
            button.props["aria-label"] = t("play.take", token=each.text, share=percent(each.probability))
            button.on("click", lambda: self._on_choice(place, each.id), args=[])
