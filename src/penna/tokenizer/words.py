"""Words, and the tokens each is made of: ids in, the parts of their text that a reader would point at out.

A unit is a word with the space before it, a mark of punctuation, a line end, or, in a script written without spaces, a
character. No token belongs to two units: where one spans several words or characters, they are one unit; where several
make up a character, they are all in its unit. Words go by what decoding writes for the ids, so they are as well known
of a generated text as of a given one. A control token is a unit by itself.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from penna.tokenizer.continuations import SPACELESS_SCRIPTS
from penna.tokenizer.tokenizer import Tokenizer

_WITHIN_WORDS = "'’\u200c\u200d"  # apostrophes, and what joins letters in Indic and Persian writing


@dataclass(frozen=True)
class Word:
    """A part of a text that is pointed at as one."""

    text: str  # with the space in front, where there is one
    start: int  # its first token
    end: int  # the one behind its last


def split_words(tokenizer: Tokenizer, ids: Sequence[int]) -> list[Word]:
    """The units of ids, in their order; every token is in one of them, and an id that stands for no text by itself."""
    surface = tokenizer.byte_table
    pieces = [surface.rendered[index] for index in ids]
    if pieces and ids[0] not in surface.special_ids:
        pieces[0] = surface.rendered_first[ids[0]]
    # A byte that is part of no character stands as one of its own: a text may begin or end within a character.
    text = b"".join(pieces).decode("utf-8", errors="surrogateescape")
    ends = list(accumulate(map(len, pieces), initial=0))  # of tokens, in bytes
    bytes_before = list(accumulate((len(letter.encode("utf-8", "surrogateescape")) for letter in text), initial=0))
    place_of = {at: place for place, at in enumerate(bytes_before)}  # of letters that begin with a byte
    control = [index in surface.special_ids for index in ids]
    borders = [0] if len(ids) else []
    for token in range(1, len(ids)):
        place = place_of.get(ends[token])
        if control[token] or control[token - 1] or (place is not None and _is_border(text, place)):
            borders.append(token)
    return [Word(_readable(b"".join(pieces[start:end])), start, end) for start, end in pairwise([*borders, len(ids)])]


def _readable(piece: bytes) -> str:
    return piece.decode("utf-8", errors="replace")


def _is_border(text: str, place: int) -> bool:
    """Whether a word may end before the letter at ``place``."""
    if not 0 < place < len(text):
        return True
    before, behind = text[place - 1], text[place]
    if _is_mark(behind) or behind in "\u200c\u200d":
        return False
    if before == "\n" or behind == "\n":
        return True
    if before.isspace() or behind.isspace():
        return not before.isspace()  # a space belongs to what stands behind it
    if SPACELESS_SCRIPTS.match(before) or SPACELESS_SCRIPTS.match(behind):
        return True
    if behind in _WITHIN_WORDS:
        return not (_is_of_word(before) and place + 1 < len(text) and _is_of_word(text[place + 1]))
    if before in _WITHIN_WORDS:
        return not (place > 1 and _is_of_word(text[place - 2]) and _is_of_word(behind))
    return not (_is_of_word(before) and _is_of_word(behind))


def _is_of_word(letter: str) -> bool:
    return letter.isalnum() or _is_mark(letter)


def _is_mark(letter: str) -> bool:
    """Whether a letter is written on the one before it."""
    return unicodedata.category(letter).startswith("M")
