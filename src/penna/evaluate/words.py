"""The words that summaries are compared in: a text in any language in, a list of words out.

A word is a run of letters and digits with the marks that belong to them, case folded, so "don't" is "don" and "t", as
the ROUGE package has it (Lin 2004), which knows a-z and 0-9 alone. Scripts that put no space between words (Han,
Hiragana, Katakana, Thai, Lao, Khmer, Burmese) are taken character by character, as is usual for ROUGE in Chinese and
Japanese; Korean goes by its spaced words. Two spellings that Unicode calls the same text (canonical equivalents) are
the same word, and so are words that differ in invisible joiners alone; nothing else is normalised.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_UNSPACED = (
    "\u3005\u3007\u3021-\u3029\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
    "\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f"  # Hiragana, Katakana
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ec6\u1000-\u103f\u1050-\u108f\u1780-\u17b3"  # Thai, Lao, Burmese, Khmer
)
_INVISIBLE = dict.fromkeys((0xAD, 0x200C, 0x200D, 0x2060, 0xFEFF, *range(0xFE00, 0xFE10)))


def words(text: str) -> list[str]:
    """The words of a text, in their order."""
    return _pattern().findall(unicodedata.normalize("NFC", text.translate(_INVISIBLE).casefold()))


def words_with_offsets(text: str) -> list[tuple[int, str]]:
    """The words as they are written, in their own case, each with its place in the text."""
    return [(found.start(), found[0]) for found in _pattern().finditer(text)]


@lru_cache(maxsize=1)
def _pattern() -> re.Pattern[str]:
    marks = _marks()
    # A mark that stands alone is no word: normalised, it may change places with its neighbour.
    return re.compile(f"(?![{marks}])[{_UNSPACED}][{marks}]*|(?:[^\\W_{_UNSPACED}][{marks}]*)+")


def _marks() -> str:
    """All combining marks as ranges of a character class: `re` counts them neither as letters nor as digits."""
    ranges: list[list[int]] = []
    for code in range(0x300, 0x1F000):
        if unicodedata.category(chr(code))[0] == "M":
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)


# MERGED evaluate.texts.text_words: What a word is where texts are compared by their statistics: a text in any
# language in, its words in order out.
#
# A word is a run of letters and digits with the marks that belong to them; scripts that put no space between words
# are
# taken character by character, and Korean goes by its spaced words, as in `penna.evaluate.words`. Beside these,
# every sign that is no white space is a word of its own, since punctuation is part of how a text is written
# (Holtzman et
# al. 2020 count it, too). Case is kept. Canonical equivalents (NFC) are the same word.
#
# A spaced Korean word carries its endings, and a Chinese character is less than a word, so that statistics of words
# are
# lower in one and higher in the other than in English: compare texts of one language alone.


def words_and_punctuation(text: str) -> list[str]:
    """The words of a text, punctuation included."""
    composed = unicodedata.normalize("NFC", text)
    words: list[str] = []
    end = 0
    for place, word in words_with_offsets(composed):
        words += _signs(composed[end:place])
        words.append(word)
        end = place + len(word)
    return words + _signs(composed[end:])


def _signs(between: str) -> list[str]:
    return [sign for sign in between if not sign.isspace()]
