"""Strategies side by side: one prompt, seed and length, and a card for each way of writing, all growing at once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from nicegui import ui

from penna.api.generation_defaults import override_settings
from penna.api.strategies import Strategy, default_grid
from penna.config.generation import GenerationConfig
from penna.serve.worker import Worker
from penna.studio.drafts import Draft, begun, written
from penna.studio.frame import heading, in_thread, meaning
from penna.studio.pages.flow import Pace
from penna.studio.pages.token_text import token_html
from penna.studio.words import t
from penna.tokenizer.tokenizer import Tokenizer

_FIRST = ("greedy", "beam 4", "top-p 0.9", "contrastive 0.6")  # chosen when the page opens


@dataclass
class _Card:
    """One strategy's text."""

    text: ui.html
    facts: ui.label
    keep: ui.button

    def show(self, draft: Draft, tokenizer: Tokenizer) -> None:
        self.text.set_content(token_html(draft, tokenizer, can_choose=False))
        if draft.finish is not None:
            self.facts.set_text(facts(draft))
            self.keep.set_visibility(bool(draft.tokens))


class SideBySide:
    """The choice of strategies, and their texts."""

    def __init__(self, on_keep: Callable[[Draft], Any]) -> None:
        """``on_keep`` is given a text that is to be among the versions."""
        self._on_keep = on_keep
        meaning("play.side-means")
        self._choices = ui.element("div").classes("line").props("role=group")
        self._choices.props["aria-label"] = t("play.side")
        self._line = ui.element("div").classes("line")
        self._cards = ui.element("div").classes("cards")
        self._grid: list[Strategy] = []
        self._chosen: dict[str, ui.checkbox] = {}
        self._drafts: list[Draft] = []

    def button(self, on_click: Callable[[], Any]) -> ui.button:
        """What begins it."""
        with self._line:
            return ui.button(t("play.side-write"), on_click=on_click).props("outline")

    def offer(self, vocab_size: int) -> None:
        """Offer the strategies that a model of this vocabulary knows; what was chosen stays."""
        chosen = {name for name, box in self._chosen.items() if box.value} if self._chosen else {"", *_FIRST}
        self._grid = default_grid(vocab_size)
        self._choices.clear()
        with self._choices:
            names = {"": t("play.own"), **{strategy.name: strategy.name for strategy in self._grid}}
            self._chosen = {name: ui.checkbox(words, value=name in chosen) for name, words in names.items()}

    async def write(self, worker: Worker, prompt: str, own: GenerationConfig, seed: int) -> None:
        """Write by all that are chosen; ``own`` is what is set above. Raises as `penna.studio.drafts.written`."""
        configs = {
            name: own
            if name == ""
            else override_settings(
                self._of(name), {"max_new_tokens": own.max_new_tokens, "min_new_tokens": own.min_new_tokens}
            )
            for name, box in self._chosen.items()
            if box.value
        }
        tokenizer = worker.loaded.require_tokenizer()
        self._drafts = [await in_thread(begun, worker.loaded, prompt, each, seed) for each in configs.values()]
        self._cards.clear()
        with self._cards:
            cards = [self._card(place, name or t("play.own")) for place, name in enumerate(configs)]
        paces = [Pace() for _ in cards]
        try:
            async with aclosing(written(worker, self._drafts)) as grown:
                async for place, draft in grown:
                    self._drafts[place] = draft
                    if draft.finish is not None or paces[place].is_due(len(draft.text) * len(cards)):
                        cards[place].show(draft, tokenizer)
        finally:
            for place, draft in enumerate(self._drafts):
                if draft.finish is None:
                    self._drafts[place] = replace(draft, finish="cancelled")
                    cards[place].show(self._drafts[place], tokenizer)

    def clear(self) -> None:
        """Show no texts any more."""
        self._cards.clear()

    def _of(self, name: str) -> GenerationConfig:
        return next(strategy.config for strategy in self._grid if strategy.name == name)

    def _card(self, place: int, name: str) -> _Card:
        with ui.element("section").classes("card side") as card:
            card.props["aria-label"] = name
            heading(name, 3)
            text = ui.html("", sanitize=False).classes("tokens written")
            told = ui.label(t("play.writing")).classes("meaning").props("role=status")
            keep = ui.button(t("play.keep"), on_click=lambda: self._on_keep(self._drafts[place]))
            keep.props("flat dense").set_visibility(False)
        return _Card(text, told, keep)


def facts(draft: Draft) -> str:
    """A text in figures, and how it ended."""
    perplexity = "–" if draft.perplexity is None else f"{draft.perplexity:.3g}"
    return t(
        "play.facts",
        count=f"{len(draft.tokens):,}",
        perplexity=perplexity,
        end=t(f"play.end.{draft.finish or 'cancelled'}"),
    )
