"""What a text took from its source and what it added: copied spans, new n-grams, numbers and names out of nowhere.

Copied spans are the extractive fragments of Grusky et al. 2018 ("Newsroom", section 4.1); new n-grams are counted as by
See et al. 2017 and Narayan et al. 2018. A number or a name that the source lacks is a cheap sign of a made-up fact, no
proof: "two" for "2" is one too many, and a wrong number that stands elsewhere in the source is not seen. All in words
of `rouge_words`, so case does not matter.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from penna.evaluate.sentences import sentences
from penna.evaluate.words import words, words_with_offsets

ORDERS = (1, 2, 3, 4)  # of the n-grams whose novelty is told

_NUMBER = re.compile(r"\d+(?:[.,'’٫٬\u00a0\u202f]\d+)*")
_GROUPING = re.compile(r"[.,'’٬\u00a0\u202f](?=\d{3}(?!\d))")
_BEGINS_QUOTATION = re.compile(r"(?:(?<!\w)[\"'“„‹‘「『]|[«:]\s*)$")


@dataclass(frozen=True)
class Support:
    """How many numbers or names the outputs have, and how many of them their sources lack."""

    count: int
    absent: int

    @property
    def share(self) -> float | None:
        """Absent ones among all; None where there are none."""
        return self.absent / self.count if self.count else None

    def as_json(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return {**asdict(self), "share": self.share}


@dataclass(frozen=True)
class CopyMetrics:
    """How a set of outputs is made from its sources.

    Coverage, density and novelty are means over the outputs that have words (n of them, for n-grams), and None where
    there is no such output.
    """

    coverage: float | None  # share of an output's words that lie in spans copied from the source
    density: float | None  # mean length in words of the copied span that an output's word lies in; 0 for one in none
    novel: tuple[float | None, ...]  # for n in ORDERS, share of an output's n-grams that the source lacks
    numbers: Support
    names: Support

    def as_json(self) -> dict[str, Any]:
        """As JSON keeps them."""
        return {
            "coverage": self.coverage,
            "density": self.density,
            "novel": {f"{order}-grams": share for order, share in zip(ORDERS, self.novel, strict=True)},
            "numbers": self.numbers.as_json(),
            "names": self.names.as_json(),
        }


class Source:
    """A source text, read once for all outputs that are compared with it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.words = words(text)

    def fragments(self, output: Sequence[str]) -> list[int]:
        """The lengths of the spans in a list of words that are copied from the source, in their order.

        Grusky et al. 2018, figure 3: from its first word on, the longest span that stands in the source is taken, and
        the search goes on behind it; a word that the source lacks is passed over.
        """
        lengths: list[int] = []
        begin = 0
        while begin < len(output):
            ends = self._places.get(output[begin], [])
            length = 0
            while ends:
                length += 1
                follows = output[begin + length] if begin + length < len(output) else None
                ends = [place + 1 for place in ends if place + 1 < len(self.words) and self.words[place + 1] == follows]
            if length:
                lengths.append(length)
            begin += max(length, 1)
        return lengths

    def novel_share(self, output: Sequence[str], order: int) -> float | None:
        """Share of a list's n-grams, each as often as it occurs, that the source lacks; None where there are none."""
        grams = list(_ngrams(output, order))
        known = self._known[order]
        return sum(gram not in known for gram in grams) / len(grams) if grams else None

    def numbers(self, output: str) -> Support:
        """The numbers of an output, and how many of them the source lacks."""
        found = numbers_in(output)
        return Support(len(found), sum(number not in self._numbers for number in found))

    def names(self, output: str) -> Support:
        """The names of an output, and how many of them the source lacks as words in any case."""
        found = names_in(output)
        return Support(len(found), sum(not self._known_words.issuperset(words(name)) for name in found))

    @cached_property
    def _places(self) -> dict[str, list[int]]:
        places: dict[str, list[int]] = {}
        for place, word in enumerate(self.words):
            places.setdefault(word, []).append(place)
        return places

    @cached_property
    def _known(self) -> dict[int, frozenset[tuple[str, ...]]]:
        return {order: frozenset(_ngrams(self.words, order)) for order in ORDERS}

    @cached_property
    def _known_words(self) -> frozenset[str]:
        return frozenset(self.words)

    @cached_property
    def _numbers(self) -> frozenset[str]:
        return frozenset(numbers_in(self.text))


def numbers_in(text: str) -> list[str]:
    """The numbers written in digits, as ASCII digits without grouping marks ("30,000" is "30000", "3,5" is "3.5").

    A mark before exactly three digits is taken for grouping, whatever it is; signs, units and currencies are left out.
    """
    return [_plain(found[0]) for found in _NUMBER.finditer(text)]


def names_in(text: str) -> list[str]:
    """The words of two letters or more that begin with a capital and do not begin a sentence or a quotation.

    These are names in most languages that have capitals; German writes all nouns so, and a script without case has
    none.
    """
    found: list[str] = []
    for sentence in sentences(text):
        for number, (place, word) in enumerate(words_with_offsets(sentence)):
            if number and len(word) > 1 and word[0].isupper() and not _BEGINS_QUOTATION.search(sentence[:place]):
                found.append(word)
    return found


def copy_metrics(pairs: Iterable[tuple[Source, str]]) -> CopyMetrics:
    """Figures over pairs of a source and an output."""
    coverage: list[float] = []
    density: list[float] = []
    novel: dict[int, list[float]] = {order: [] for order in ORDERS}
    numbers: list[Support] = []
    names: list[Support] = []
    for source, text in pairs:
        output = words(text)
        if output:
            lengths = source.fragments(output)
            coverage.append(sum(lengths) / len(output))
            density.append(sum(length * length for length in lengths) / len(output))
        for order, shares in novel.items():
            share = source.novel_share(output, order)
            if share is not None:
                shares.append(share)
        numbers.append(source.numbers(text))
        names.append(source.names(text))
    return CopyMetrics(
        coverage=_mean(coverage),
        density=_mean(density),
        novel=tuple(_mean(shares) for shares in novel.values()),
        numbers=_together(numbers),
        names=_together(names),
    )


def _ngrams(sequence: Sequence[str], order: int) -> Iterator[tuple[str, ...]]:
    return zip(*(sequence[offset:] for offset in range(order)), strict=False)


def _plain(number: str) -> str:
    ungrouped = _GROUPING.sub("", number)
    return "".join(str(unicodedata.decimal(sign)) if sign.isdecimal() else "." for sign in ungrouped)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _together(parts: Sequence[Support]) -> Support:
    return Support(sum(part.count for part in parts), sum(part.absent for part in parts))


# MERGED evaluate.copied_spans: Where an output is copied from its source: the spans of both texts that hold the
# same words.
#
# The spans are the extractive fragments of Grusky et al. 2018 that `copying` counts, with their places in
# characters, so
# that they can be marked where they stand. Of several places of the source with the same words the first is told.


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
    for start, written in words_with_offsets("".join(text[place] for place in seen)):
        for word in words(written):
            found.append(word)
            places.append((seen[start], seen[start + len(written) - 1] + 1))
    return found, places


def _first(inside: Sequence[str], wanted: Sequence[str]) -> int:
    """Where words first stand in others, one behind another."""
    length = len(wanted)
    return next(at for at in range(len(inside) - length + 1) if list(inside[at : at + length]) == list(wanted))
