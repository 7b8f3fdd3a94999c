"""A draft as text whose tokens can be chosen, by pointer or keyboard; the colour says how little each was expected.

Who writes HTML here escapes every text. A draft in, HTML out; the place of a chosen token comes back.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from html import escape
from typing import Any

from nicegui import ui

from penna.studio.drafts import Draft
from penna.tokenizer.tokenizer import Tokenizer

_BOUNDS = (0.5, 0.2, 0.05, 0.01)  # probabilities below which a token is coloured a shade more
_CHOSEN = "const mark = (t) => t.parentElement.querySelectorAll('[data-place]').forEach(x => { \
x.setAttribute('aria-pressed', x === t); x.tabIndex = x === t ? 0 : -1; });"
_CLICK = f"(e) => {{ {_CHOSEN} const t = e.target.closest('[data-place]'); \
if (t) {{ mark(t); emit(Number(t.dataset.place)); }} }}"
_KEY = f"(e) => {{ {_CHOSEN} const t = e.target.closest('[data-place]'); if (!t) return; \
let to = null; if (e.key === 'Enter' || e.key === ' ') to = t; \
else if (e.key === 'ArrowRight') to = t.nextElementSibling; \
else if (e.key === 'ArrowLeft') to = t.previousElementSibling; \
if (!to || !to.dataset.place) return; e.preventDefault(); to.focus(); mark(to); emit(Number(to.dataset.place)); }}"
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
"""


def shade(logprob: float) -> int:
    """How strongly a token of this log-probability is coloured: 0, not at all, to 4."""
    return sum(logprob < math.log(bound) for bound in _BOUNDS)


def token_html(draft: Draft, tokenizer: Tokenizer, *, can_choose: bool = True) -> str:
    """The prompt and the tokens behind it; a token that completes no character is shown small, by its bytes."""
    parts = [f'<span class="prompt">{escape(draft.prompt)}</span>']
    for place, (token, text) in enumerate(zip(draft.tokens, draft.texts, strict=True)):
        name = tokenizer.token_text(token.id)
        classes = f"piece s{shade(token.logprob)}" + (" kept" if place == draft.kept - 1 else "")
        shown = escape(text) if text else f'<span class="part">{escape(name)}</span>'
        if text.startswith("\n") or text == "\r":
            shown = f'<span class="part">↵</span>{shown}'
        if not can_choose:
            parts.append(f'<span class="{classes}">{shown}</span>')
            continue
        named = "" if text.strip() else f' aria-label="{escape(name, quote=True)}"'
        first = 0 if place == 0 else -1
        parts.append(
            f'<span role="button" tabindex="{first}" aria-pressed="false" data-place="{place}" '
            f'class="{classes}"{named}>{shown}</span>'
        )
    return "".join(parts)


class TokenText:
    """The text of a draft on a page."""

    def __init__(self, name: str, on_choice: Callable[[int], Any]) -> None:
        """``name`` says what it is to those who cannot see it; ``on_choice`` is given the place of a token."""
        self._shown = ui.html("", sanitize=False).classes("tokens written").props("role=group")
        self._shown.props["aria-label"] = name
        self._shown.on("click", lambda event: on_choice(int(event.args)), js_handler=_CLICK)
        self._shown.on("keydown", lambda event: on_choice(int(event.args)), js_handler=_KEY)

    def show(self, draft: Draft, tokenizer: Tokenizer) -> None:
        """Show a draft, as far as it is written."""
        self._shown.set_content(token_html(draft, tokenizer))

    def clear(self) -> None:
        """Show nothing."""
        self._shown.set_content("")
