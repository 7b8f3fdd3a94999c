"""Where an output is copied from its source: the spans of both texts that hold the same words.

The spans are the extractive fragments of Grusky et al. 2018 that `copying` counts, with their places in characters, so
that they can be marked where they stand. Of several places of the source with the same words the first is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from penna.evaluate.copying import Source
from penna.evaluate.rouge_words import words, written_words

_JOINERS = "\u00ad\u200c\u200d\u2060\ufeff"  # invisible letters that words are compared without


@dataclass(frozen=True)
class CopiedSpan:
    """Words that stand in both texts, one behind another; places are characters, the end behind the last."""

    start: int  # in the output
    end: int
    source_start: int
    source_end: int
    words: int


def copied_spans(source: str, output: str) -> list[CopiedSpan]:
    """The spans of an output that are copied from a source, in the order of the output.

    From its first word on, the longest span that stands in the source is taken, and the search goes on behind it.
    """
    read = Source(source)
    source_words, source_places = _placed(source)
    output_words, output_places = _placed(output)
    lengths = iter(read.fragments(output_words))
    known = frozenset(source_words)
    spans: list[CopiedSpan] = []
    at = 0
    while at < len(output_words):
        if output_words[at] not in known:
            at += 1
            continue
        length = next(lengths)
        found = _first(source_words, output_words[at : at + length])
        (start, _), (_, end) = output_places[at], output_places[at + length - 1]
        (source_start, _), (_, source_end) = source_places[found], source_places[found + length - 1]
        spans.append(CopiedSpan(start, end, source_start, source_end, length))
        at += length
    return spans


def _placed(text: str) -> tuple[list[str], list[tuple[int, int]]]:
    """The words of a text as they are compared, and from where to where each is written."""
    seen = [place for place, letter in enumerate(text) if letter not in _JOINERS]
    found: list[str] = []
    places: list[tuple[int, int]] = []
    for start, written in written_words("".join(text[place] for place in seen)):
        for word in words(written):
            found.append(word)
            places.append((seen[start], seen[start + len(written) - 1] + 1))
    return found, places


def _first(inside: Sequence[str], wanted: Sequence[str]) -> int:
    """Where words first stand in others, one behind another."""
    length = len(wanted)
    return next(at for at in range(len(inside) - length + 1) if list(inside[at : at + length]) == list(wanted))
