"""Grouping tokens into words, for explanations.

A word includes the space before it. Punctuation marks and line ends are words of their own; so is each character of a
script without spaces. Tokens are never divided: a token that spans several words makes them one, and all tokens of a
character are in the same word. Words follow from the decoded ids, so generated text works like given text. A control
token is a word by itself.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from penna.tokenizer.continuations import SPACELESS_SCRIPTS
from penna.tokenizer.tokenizer import Tokenizer

_WITHIN_WORDS = "'’\u200c\u200d"  # apostrophes, and the joiners of Indic and Persian script


@dataclass(frozen=True)
class Word:
    """A word and its tokens."""

    text: str  # with the space before it, if there is one
    start: int  # its first token
    end: int  # the token after its last


def split_words(tokenizer: Tokenizer, ids: Sequence[int]) -> list[Word]:
    """The words of ``ids``, in order. Every token belongs to exactly one."""
    table = tokenizer.byte_table
    tokens = [table.rendered[index] for index in ids]
    if tokens and ids[0] not in table.special_ids:
        tokens[0] = table.rendered_first[ids[0]]
    # A text can begin or end inside a character; such bytes count as one character each.
    text = b"".join(tokens).decode("utf-8", errors="surrogateescape")
    token_ends = list(accumulate(map(len, tokens), initial=0))  # in bytes
    letter_starts = accumulate((len(letter.encode("utf-8", "surrogateescape")) for letter in text), initial=0)
    letter_at = {start: number for number, start in enumerate(letter_starts)}
    is_control = [index in table.special_ids for index in ids]
    borders = [0] if len(ids) else []
    for token in range(1, len(ids)):
        letter = letter_at.get(token_ends[token])
        if is_control[token] or is_control[token - 1] or (letter is not None and _is_border(text, letter)):
            borders.append(token)
    return [
        Word(b"".join(tokens[start:end]).decode("utf-8", errors="replace"), start, end)
        for start, end in pairwise([*borders, len(ids)])
    ]


def _is_border(text: str, position: int) -> bool:
    """Whether a word can end before the letter at ``position``."""
    if not 0 < position < len(text):
        return True
    before, after = text[position - 1], text[position]
    if _is_mark(after) or after in "\u200c\u200d":
        return False
    if before == "\n" or after == "\n":
        return True
    if before.isspace() or after.isspace():
        return not before.isspace()  # a space belongs to the word after it
    if SPACELESS_SCRIPTS.match(before) or SPACELESS_SCRIPTS.match(after):
        return True
    if after in _WITHIN_WORDS:
        return not (_is_word_letter(before) and position + 1 < len(text) and _is_word_letter(text[position + 1]))
    if before in _WITHIN_WORDS:
        return not (position > 1 and _is_word_letter(text[position - 2]) and _is_word_letter(after))
    return not (_is_word_letter(before) and _is_word_letter(after))


def _is_word_letter(letter: str) -> bool:
    return letter.isalnum() or _is_mark(letter)


def _is_mark(letter: str) -> bool:
    """Whether a letter combines with the one before it."""
    return unicodedata.category(letter).startswith("M")
