"""Decoding token by token, as text is generated.

A token can end inside a character (most Korean and Chinese characters take several tokens of a small byte-level
vocabulary), so unfinished characters are held back. So are spaces that decoding drops at the end of a text. The parts
joined are what `Tokenizer.decode` returns.
"""

from __future__ import annotations

import codecs
import re

from penna.tokenizer.tokenizer import Tokenizer


class StreamDecoder:
    """Decodes one stream of ids; create a new one for each stream."""

    def __init__(self, tokenizer: Tokenizer, *, mid_text: bool = False) -> None:
        """``mid_text`` means that the first token continues a text."""
        self._tokenizer = tokenizer
        self._table = tokenizer.byte_table
        self._characters = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._ids: list[int] = []  # only if the library must decode, and then all ids at the end
        self._has_started = mid_text
        self._held_space = b""
        self._spaces_to_strip = 0 if mid_text else self._table.stripped_spaces

    def push(self, index: int) -> str:
        """The characters that the next id completes; "" while a character is unfinished.

        A special token is returned by name. With an unsupported decoder, all text comes from `finish`. Raises
        TokenizerError for an id outside the vocabulary.
        """
        received = self._tokenizer.rendered_bytes(index)
        if not self._table.is_supported:
            self._ids.append(index)
            return ""
        if not self._has_started:
            received = self._table.rendered_first[index]
            self._has_started = True
        received = self._held_space + received
        self._held_space = b""
        if index in self._table.trailing_space_ids:
            self._held_space, received = received[-1:], received[:-1]
        return self._strip_leading_spaces(self._characters.decode(received))

    def finish(self) -> str:
        """The rest of the text: U+FFFD for an unfinished character, else ""."""
        if not self._table.is_supported:
            return self._tokenizer.decode(self._ids)
        return self._strip_leading_spaces(self._characters.decode(b"", final=True))

    def _strip_leading_spaces(self, text: str) -> str:
        while self._spaces_to_strip and text:
            if text[0] != " ":
                self._spaces_to_strip = 0
                break
            text = text[1:]
            self._spaces_to_strip -= 1
        return text


# CJK ideographs with their extensions and punctuation, kana, full-width forms, and dashes and quotes used with them.
_CJK = "\u2014\u2018-\u201d\u2026\u3000-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff"
_SPACES_AT_CJK = re.compile(f"(?<=[{_CJK}]) +| +(?=[{_CJK}])")


class SpacingFixer:
    """Removes the spaces that WordPiece decoding puts between Chinese or Japanese characters, from one stream of text.

    WordPiece treats each such character as a word and puts spaces between words. Use this for text that is shown or
    scored; decoding itself follows the tokenizer. Text of other tokenizers is unchanged.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Start a stream."""
        self._is_active = tokenizer.kind == "WordPiece"
        self._held = ""  # spaces, until the character after them is known
        self._last = ""  # the character before them

    def push(self, text: str) -> str:
        """The text that can be shown after ``text`` has arrived."""
        if not self._is_active:
            return text
        whole = self._last + self._held + text
        bare = whole.rstrip(" ")
        fixed = _SPACES_AT_CJK.sub("", bare)[len(self._last) :]
        self._held = whole[len(bare) :] if bare else whole[len(self._last) :]
        self._last = bare[-1:]
        return fixed

    def finish(self) -> str:
        """Spaces at the end of the text."""
        return self._held if not re.match(f"[{_CJK}]", self._last) else ""


def fix_spacing(tokenizer: Tokenizer, text: str) -> str:
    """A whole text without these spaces."""
    fixer = SpacingFixer(tokenizer)
    return fixer.push(text) + fixer.finish()
