"""Words, as word-level perplexities of WikiText and PTB count them: white-space words plus line ends.

A text may come in pieces; a word that was cut in two is still counted once.
"""

from __future__ import annotations


def count_words(text: str) -> int:
    """White-space words plus line ends."""
    return len(text.split()) + text.count("\n")


class WordCounter:
    """Counts the words of documents that come in pieces, wherever they were cut."""

    def __init__(self) -> None:
        self._inside = False  # whether the last piece ended inside a word

    def count(self, text: str, starts: bool) -> int:
        """The words that this piece adds; ``starts`` where it begins a document, and with it a new word."""
        words = count_words(text)
        if self._inside and not starts and text and not text[0].isspace():
            words -= 1
        if text or starts:
            self._inside = bool(text) and not text[-1].isspace()
        return words
