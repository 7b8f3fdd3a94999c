"""The characters, scripts and languages of a text.

Characters are counted in a table of 1,114,112 code points (9 MB). The script is the first word of a letter's Unicode
name ("HANGUL SYLLABLE GA"); ideographs are Han.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from penna.data.quality.codepoints import CODE_POINTS, TextBatch
from penna.data.quality.result import Languages, Scripts

_BY_FIRST_WORD = {
    name.upper(): name
    for name in (
        "Arabic", "Armenian", "Bengali", "Cherokee", "Coptic", "Cyrillic", "Devanagari", "Ethiopic", "Georgian",
        "Greek", "Gujarati", "Gurmukhi", "Hangul", "Hebrew", "Hiragana", "Javanese", "Kannada", "Katakana", "Khmer",
        "Lao", "Latin", "Malayalam", "Mongolian", "Myanmar", "Oriya", "Runic", "Sinhala", "Syriac", "Tamil", "Telugu",
        "Thaana", "Thai", "Tibetan", "Yi",
    )
} | {
    "CJK": "Han", "IDEOGRAPHIC": "Han", "KATAKANA-HIRAGANA": "Katakana", "FEMININE": "Latin", "MASCULINE": "Latin",
    "MICRO": "Greek",
}  # fmt: skip
OTHER = "Other"
UNSPACED = frozenset({"Han", "Hiragana", "Katakana", "Thai", "Lao", "Khmer", "Myanmar", "Tibetan", "Yi"})
"""Scripts that do not separate words by spaces."""


class CharacterCounter:
    """Counts every code point of the given batches."""

    def __init__(self) -> None:
        self._counts = np.zeros(CODE_POINTS, dtype=np.int64)

    def add(self, batch: TextBatch) -> None:
        """Count a batch."""
        self._counts += np.bincount(batch.codes, minlength=CODE_POINTS)

    def distinct(self) -> int:
        """The number of different characters, including white space."""
        return int(np.count_nonzero(self._counts))

    def count(self, codes: NDArray[np.int64]) -> int:
        """The total number of occurrences of these code points."""
        return int(self._counts[codes].sum())

    def scripts(self) -> Scripts:
        """Shares of the letters by script, the largest first."""
        sums: dict[str, int] = {}
        for code in np.flatnonzero(self._counts):
            letter = chr(int(code))
            if unicodedata.category(letter).startswith("L"):
                script = script_of(letter)
                sums[script] = sums.get(script, 0) + int(self._counts[code])
        letters = sum(sums.values())
        ordered = sorted(sums.items(), key=lambda item: (-item[1], item[0]))
        return Scripts(letters, {script: count / letters for script, count in ordered})


def script_of(letter: str) -> str:
    """The script of one letter; "Other" for rarer scripts and for letters of none, such as modifiers."""
    words = unicodedata.name(letter, "").split()
    while words and words[0] in ("HALFWIDTH", "FULLWIDTH"):
        words = words[1:]
    return _BY_FIRST_WORD.get(words[0], OTHER) if words else OTHER


def ngram_unit(scripts: Scripts) -> Literal["words", "characters"]:
    """The unit of n-grams: characters if most letters are of scripts without spaces, else words."""
    unspaced = sum(share for script, share in scripts.shares.items() if script in UNSPACED)
    return "characters" if unspaced > 0.5 else "words"


def guess_languages(texts: Sequence[str]) -> Languages:
    """Shares of these texts by their most probable language, the largest first.

    py3langid distinguishes 97 languages by bytes. It needs about a paragraph; shares of a few percent mean little.
    """
    if not texts:
        return Languages(0, {})
    import py3langid

    counts = Counter(str(py3langid.classify(text)[0]) for text in texts)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return Languages(len(texts), {language: count / len(texts) for language, count in ordered})
