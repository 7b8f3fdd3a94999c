"""What an output copied from its source and what it added: copied spans, new n-grams, unsupported numbers and names.

Copied spans are the extractive fragments of Grusky et al. 2018 ("Newsroom", section 4.1); new n-grams are counted as by
See et al. 2017 and Narayan et al. 2018. A number or name that the source lacks is a cheap sign of an invented fact, not
a proof: "two" for "2" counts as absent, and a wrong number that appears elsewhere in the source is missed. Everything
is compared in the words of `penna.evaluate.words`, so case does not matter.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from penna.evaluate.sentences import sentences
from penna.evaluate.words import words, words_with_offsets

ORDERS = (1, 2, 3, 4)  # of the n-grams whose novelty is measured

_NUMBER = re.compile(r"\d+(?:[.,'’٫٬\u00a0\u202f]\d+)*")
_GROUPING = re.compile(r"[.,'’٬\u00a0\u202f](?=\d{3}(?!\d))")
_BEGINS_QUOTATION = re.compile(r"(?:(?<!\w)[\"'“„‹‘「『]|[«:]\s*)$")
_JOINERS = "\u00ad\u200c\u200d\u2060\ufeff"  # invisible characters that are ignored when words are compared


@dataclass(frozen=True)
class Support:
    """The number of numbers or names in outputs, and how many of them their sources lack."""

    count: int
    absent: int
    json_properties = ("share",)

    @property
    def share(self) -> float | None:
        """Absent ones among all; None if there are none."""
        return self.absent / self.count if self.count else None


@dataclass(frozen=True)
class CopyMetrics:
    """How much a set of outputs copies from its sources.

    Coverage, density and novelty are means over the outputs that have words (n of them, for n-grams), and None if there
    is no such output.
    """

    coverage: float | None  # share of an output's words that are in spans copied from the source
    density: float | None  # mean length in words of the copied span that an output's word is in; 0 outside of spans
    novel: Mapping[str, float | None]  # "1-grams" to "4-grams" -> share of an output's n-grams that the source lacks
    numbers: Support
    names: Support


@dataclass(frozen=True)
class CopiedSpan:
    """Consecutive words that are in both texts. Positions are characters; the end is exclusive."""

    start: int  # in the output
    end: int
    source_start: int
    source_end: int
    words: int


@dataclass(frozen=True)
class CopyReport:
    """What one output copied from its source, and what it added."""

    spans: tuple[CopiedSpan, ...]  # in the order of the output, single words included
    metrics: CopyMetrics = field(metadata={"json": "inline"})


class Source:
    """A source text, parsed once for all outputs that are compared with it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.words = words(text)

    def fragments(self, output: Sequence[str]) -> list[int]:
        """The lengths of the spans of ``output``, a list of words, that are copied from the source, in order.

        Grusky et al. 2018, figure 3: starting at the first word, take the longest span that is in the source and
        continue after it; skip a word that the source lacks.
        """
        lengths: list[int] = []
        begin = 0
        while begin < len(output):
            ends = self._positions.get(output[begin], [])
            length = 0
            while ends:
                length += 1
                follows = output[begin + length] if begin + length < len(output) else None
                ends = [end + 1 for end in ends if end + 1 < len(self.words) and self.words[end + 1] == follows]
            if length:
                lengths.append(length)
            begin += max(length, 1)
        return lengths

    def novel_share(self, output: Sequence[str], order: int) -> float | None:
        """The share of the n-grams of ``output``, repeated ones included, that the source lacks; None without any."""
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
    def _positions(self) -> dict[str, list[int]]:
        positions: dict[str, list[int]] = {}
        for position, word in enumerate(self.words):
            positions.setdefault(word, []).append(position)
        return positions

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
    """The numbers of a text as ASCII digits without grouping marks ("30,000" is "30000", "3,5" is "3.5").

    Any mark before exactly three digits counts as grouping. Signs, units and currencies are left out.
    """
    return [_plain_number(found[0]) for found in _NUMBER.finditer(text)]


def names_in(text: str) -> list[str]:
    """Words of two or more letters that start with a capital and do not start a sentence or a quotation.

    These are names in most languages with capitals. German capitalizes all nouns, and scripts without case have none.
    """
    found: list[str] = []
    for sentence in sentences(text):
        for number, (start, word) in enumerate(words_with_offsets(sentence)):
            if number and len(word) > 1 and word[0].isupper() and not _BEGINS_QUOTATION.search(sentence[:start]):
                found.append(word)
    return found


def copy_metrics(pairs: Iterable[tuple[Source, str]]) -> CopyMetrics:
    """Metrics over pairs of a source and an output."""
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
        novel={f"{order}-grams": _mean(shares) for order, shares in novel.items()},
        numbers=_total(numbers),
        names=_total(names),
    )


def copy_report(source: str, output: str) -> CopyReport:
    """What one output copied from a source."""
    return CopyReport(tuple(copied_spans(source, output)), copy_metrics([(Source(source), output)]))


def copied_spans(source: str, output: str) -> list[CopiedSpan]:
    """The spans of ``Source.fragments`` with their positions, in the order of the output.

    If the source has the same words several times, the first occurrence is reported.
    """
    source_words, source_offsets = _words_with_spans(source)
    output_words, output_offsets = _words_with_spans(output)
    lengths = iter(Source(source).fragments(output_words))
    known = frozenset(source_words)
    spans: list[CopiedSpan] = []
    at = 0
    while at < len(output_words):
        if output_words[at] not in known:
            at += 1
            continue
        length = next(lengths)
        found = _find(source_words, output_words[at : at + length])
        (start, _), (_, end) = output_offsets[at], output_offsets[at + length - 1]
        (source_start, _), (_, source_end) = source_offsets[found], source_offsets[found + length - 1]
        spans.append(CopiedSpan(start, end, source_start, source_end, length))
        at += length
    return spans


def _words_with_spans(text: str) -> tuple[list[str], list[tuple[int, int]]]:
    """The words of a text in the form in which they are compared, and the characters that each covers."""
    visible = [offset for offset, letter in enumerate(text) if letter not in _JOINERS]
    found: list[str] = []
    spans: list[tuple[int, int]] = []
    for start, original in words_with_offsets("".join(text[offset] for offset in visible)):
        for word in words(original):
            found.append(word)
            spans.append((visible[start], visible[start + len(original) - 1] + 1))
    return found, spans


def _find(words: Sequence[str], part: Sequence[str]) -> int:
    """The first position of consecutive words in others that contain them."""
    length = len(part)
    return next(at for at in range(len(words) - length + 1) if list(words[at : at + length]) == list(part))


def _ngrams(sequence: Sequence[str], order: int) -> Iterator[tuple[str, ...]]:
    return zip(*(sequence[offset:] for offset in range(order)), strict=False)


def _plain_number(number: str) -> str:
    ungrouped = _GROUPING.sub("", number)
    return "".join(str(unicodedata.decimal(sign)) if sign.isdecimal() else "." for sign in ungrouped)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _total(parts: Sequence[Support]) -> Support:
    return Support(sum(part.count for part in parts), sum(part.absent for part in parts))
