"""What a word is where texts are compared by their statistics: a text in any language in, its words in order out.

A word is a run of letters and digits with the marks that belong to them; scripts that put no space between words are
taken character by character, and Korean goes by its spaced words, as in `penna.evaluate.rouge_words`. Beside these,
every sign that is no white space is a word of its own, since punctuation is part of how a text is written (Holtzman et
al. 2020 count it, too). Case is kept. Canonical equivalents (NFC) are the same word.

A spaced Korean word carries its endings, and a Chinese character is less than a word, so that statistics of words are
lower in one and higher in the other than in English: compare texts of one language alone.
"""

from __future__ import annotations

import unicodedata

from penna.evaluate.rouge_words import written_words


def text_words(text: str) -> list[str]:
    """The words of a text, punctuation included."""
    composed = unicodedata.normalize("NFC", text)
    words: list[str] = []
    end = 0
    for place, word in written_words(composed):
        words += _signs(composed[end:place])
        words.append(word)
        end = place + len(word)
    return words + _signs(composed[end:])


def _signs(between: str) -> list[str]:
    return [sign for sign in between if not sign.isspace()]
