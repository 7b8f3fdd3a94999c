"""The words in which texts of any language are compared.

A word is a run of letters and digits with their combining marks, so "don't" is "don" and "t", as in the ROUGE package
(Lin 2004), which knows only a-z and 0-9. Scripts without spaces between words (Han, Hiragana, Katakana, Thai, Lao,
Khmer, Burmese) are split into characters, as is usual for ROUGE in Chinese and Japanese; Korean is split at spaces.
Canonically equivalent spellings (Unicode NFC) are the same word.

A spaced Korean word includes its endings, and a Chinese character is less than a word, so word statistics of different
languages are not comparable.
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
    """The words of a text in order, case-folded and without invisible joiners."""
    return _pattern().findall(unicodedata.normalize("NFC", text.translate(_INVISIBLE).casefold()))


def words_with_offsets(text: str) -> list[tuple[int, str]]:
    """The words as spelled in the text, each with the offset of its first character."""
    return [(found.start(), found[0]) for found in _pattern().finditer(text)]


def words_and_punctuation(text: str) -> list[str]:
    """The words of a text in their own case, and every other visible character as a word of its own.

    Punctuation is part of a text's style; Holtzman et al. 2020 count it, too.
    """
    composed = unicodedata.normalize("NFC", text)
    found: list[str] = []
    end = 0
    for start, word in words_with_offsets(composed):
        found += _visible(composed[end:start])
        found.append(word)
        end = start + len(word)
    return found + _visible(composed[end:])


def _visible(text: str) -> list[str]:
    return [character for character in text if not character.isspace()]


@lru_cache(maxsize=1)
def _pattern() -> re.Pattern[str]:
    marks = _combining_marks()
    # A mark without a base is not a word: normalization may swap it with its neighbor.
    return re.compile(f"(?![{marks}])[{_UNSPACED}][{marks}]*|(?:[^\\W_{_UNSPACED}][{marks}]*)+")


def _combining_marks() -> str:
    """All combining marks as ranges of a character class: `re` counts them neither as letters nor as digits."""
    ranges: list[list[int]] = []
    for code in range(0x300, 0x1F000):
        if unicodedata.category(chr(code))[0] == "M":
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)
