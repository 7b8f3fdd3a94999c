"""Text as it is generated: token ids in one by one, whole characters out.

A token may end in the middle of a character (most Korean or Chinese characters under a small byte-level vocabulary
take several), so a token cannot be shown alone. The bytes of the tokens go through an incremental UTF-8 decoder, which
holds back an unfinished character until the rest has come. What a decoder does at the ends of a text is done here as
well: the first token may have another form, spaces may be dropped from the start, and a space behind the last token is
held back until there is another. The pieces joined are what `Tokenizer.decode` gives.
"""

from __future__ import annotations

import codecs
import re

from penna.tokenizer.tokenizer import Tokenizer


class StreamDecoder:
    """Decodes one stream of ids; use a new one for each."""

    def __init__(self, tokenizer: Tokenizer, *, mid_text: bool = False) -> None:
        """Start with nothing held back; ``inside`` where the first token goes on with a text that has begun."""
        self._tokenizer = tokenizer
        self._surface = tokenizer.byte_table
        self._characters = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._ids: list[int] = []  # kept only where the library alone can decode, and then all of them
        self._started = mid_text
        self._held_space = b""
        self._to_strip = 0 if mid_text else self._surface.stripped_spaces

    def push(self, index: int) -> str:
        """The characters that the next id completes; "" while a character is unfinished.

        A special token is written by its name. Raises TokenizerError for an id outside the vocabulary. Of a tokenizer
        whose decoder is of an unknown kind nothing comes before `finish`.
        """
        received = self._tokenizer.rendered_bytes(index)
        if not self._surface.is_supported:
            self._ids.append(index)
            return ""
        if not self._started:
            received = self._surface.rendered_first[index]
            self._started = True
        received = self._held_space + received
        self._held_space = b""
        if index in self._surface.trailing_space_ids:
            self._held_space, received = received[-1:], received[:-1]
        return self._without_first_spaces(self._characters.decode(received))

    def finish(self) -> str:
        """What is left at the end: U+FFFD for a character that never was finished, else ""."""
        if not self._surface.is_supported:
            return self._tokenizer.decode(self._ids)
        return self._without_first_spaces(self._characters.decode(b"", final=True))

    def _without_first_spaces(self, text: str) -> str:
        while self._to_strip and text:
            if text[0] != " ":
                self._to_strip = 0
                break
            text = text[1:]
            self._to_strip -= 1
        return text


# MERGED tokenizer.spacing: Spaces that a tokenizer's decoder wrote and no writer would: between the characters of
# Chinese and Japanese.
#
# WordPiece takes each such character for a word, and its decoder puts a space between words. In comes decoded text,
# piece
# by piece; out comes the same text without the spaces beside a character of these scripts. Only what is shown or
# counted
# goes through here: decoding itself means what the tokenizer says.


# CJK ideographs with their extensions and punctuation, kana, full-width forms: what is written without spaces.
_WITHOUT_SPACES = (
    "\u2014\u2018-\u201d\u2026\u3000-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff"
)
_BESIDE = re.compile(f"(?<=[{_WITHOUT_SPACES}]) +| +(?=[{_WITHOUT_SPACES}])")


class SpacingFixer:
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


def fix_spacing(tokenizer: Tokenizer, text: str) -> str:
    """A whole text without such spaces."""
    mender = SpacingFixer(tokenizer)
    return mender.push(text) + mender.finish()
