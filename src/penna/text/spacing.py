"""Spaces that a tokenizer's decoder wrote and no writer would: between the characters of Chinese and Japanese.

WordPiece takes each such character for a word, and its decoder puts a space between words. In comes decoded text, piece
by piece; out comes the same text without the spaces beside a character of these scripts. Only what is shown or counted
goes through here: decoding itself means what the tokenizer says.
"""

from __future__ import annotations

import re

from penna.text.tokenizer import Tokenizer

# CJK ideographs with their extensions and punctuation, kana, full-width forms: what is written without spaces.
_WITHOUT_SPACES = (
    "\u2014\u2018-\u201d\u2026\u3000-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff"
)
_BESIDE = re.compile(f"(?<=[{_WITHOUT_SPACES}]) +| +(?=[{_WITHOUT_SPACES}])")


class SpacingMender:
    """Mends one stream of text; use a new one for each. Tokenizers that write no spaces of their own pass unchanged."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Start with nothing held back."""
        self._mends = tokenizer.kind == "WordPiece"
        self._held = ""  # spaces of which it is not known yet what follows them
        self._last = ""  # the character before them

    def push(self, text: str) -> str:
        """What may be shown now that ``text`` has come."""
        if not self._mends:
            return text
        whole = self._last + self._held + text
        bare = whole.rstrip(" ")
        shown = _BESIDE.sub("", bare)[len(self._last) :]
        self._held = whole[len(bare) :] if bare else whole[len(self._last) :]
        self._last = bare[-1:]
        return shown

    def finish(self) -> str:
        """Spaces at the end, which nothing followed."""
        return self._held if not re.match(f"[{_WITHOUT_SPACES}]", self._last) else ""


def mended(tokenizer: Tokenizer, text: str) -> str:
    """A whole text without such spaces."""
    mender = SpacingMender(tokenizer)
    return mender.push(text) + mender.finish()
