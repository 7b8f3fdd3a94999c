"""Damaged and unusual characters: how many documents contain them, and the first examples.

Mojibake is text that was decoded wrongly ("â€œ" for a quotation mark). ftfy's test for it is heuristic; whether ftfy
can repair the text separates real damage from unusual text. Everything else is counted exactly.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from penna.data.quality.codepoints import CODE_POINTS, TextBatch
from penna.data.quality.result import CharacterExample, CharacterIssue
from penna.data.quality.scripts import CharacterCounter

_SHOWN = 3  # examples of each kind
_CONTEXT = 24  # characters to each side of one
Kind = Literal["mojibake", "replacement", "control", "byte order mark", "white space", "not NFC"]
_ORDINARY = "\t\n\r "


def _codes(chosen: Callable[[str], bool]) -> NDArray[np.int64]:
    """The chosen code points below U+10000; the kinds used here have none above."""
    return np.array([code for code in range(0x10000) if chosen(chr(code))], dtype=np.int64)


@lru_cache(maxsize=1)
def issue_code_points() -> dict[Kind, NDArray[np.int64]]:
    """The code points of each kind of issue that single characters have."""
    return {
        "replacement": np.array([0xFFFD]),
        "control": _codes(lambda letter: unicodedata.category(letter) == "Cc" and letter not in _ORDINARY),
        "byte order mark": np.array([0xFEFF]),
        "white space": _codes(
            lambda letter: letter == "\u200b" or (letter != " " and unicodedata.category(letter) in ("Zs", "Zl", "Zp"))
        ),
    }


@lru_cache(maxsize=1)
def _table() -> NDArray[np.uint8]:
    """Per code point, one bit for each kind."""
    table = np.zeros(CODE_POINTS, dtype=np.uint8)
    for bit, codes in enumerate(issue_code_points().values()):
        table[codes] |= np.uint8(1 << bit)
    return table


@dataclass
class _Seen:
    documents: int = 0
    last: int = -1  # number of the last document counted
    times: int = 0
    repairable: int = 0
    examples: list[CharacterExample] = field(default_factory=list)


class CharacterIssueCounter:
    """Searches batches for every kind of issue."""

    def __init__(self) -> None:
        self._seen: dict[Kind, _Seen] = {
            kind: _Seen() for kind in ("mojibake", *issue_code_points(), "not NFC")
        }  # in the order of the report
        self._last_repairable = -1

    def add(self, batch: TextBatch) -> None:
        """Search a batch."""
        self._add_characters(batch)
        for index, text in enumerate(batch.texts):
            if text.isascii():
                continue
            self._find_mojibake(batch, index, text)
            if not unicodedata.is_normalized("NFC", text):
                self._note("not NFC", batch, index, _first_difference(text, unicodedata.normalize("NFC", text)))

    def result(self, characters: CharacterCounter, documents: int) -> tuple[CharacterIssue, ...]:
        """The issues that were found; ``characters`` has counted the same batches."""
        issues: list[CharacterIssue] = []
        for kind, seen in self._seen.items():
            if not seen.documents:
                continue
            codes = issue_code_points().get(kind)
            issues.append(
                CharacterIssue(
                    kind,
                    seen.documents,
                    seen.documents / documents,
                    tuple(seen.examples),
                    times=seen.times or (None if codes is None else characters.count(codes)),
                    repairable=seen.repairable if kind == "mojibake" else None,
                )
            )
        return tuple(issues)

    def _add_characters(self, batch: TextBatch) -> None:
        bits = _table()[batch.codes]
        for bit, kind in enumerate(issue_code_points()):
            positions = np.flatnonzero(bits & (1 << bit))
            if not len(positions):
                continue
            places, first = np.unique(batch.text_of(positions), return_index=True)
            begins = np.concatenate(([0], batch.ends))
            for place, position in zip(places.tolist(), positions[first].tolist(), strict=True):
                self._note(kind, batch, place, (position - int(begins[place]), 1, None))

    def _find_mojibake(self, batch: TextBatch, place: int, text: str) -> None:
        found = _mojibake().search(text)
        if found is None:
            return
        number = int(batch.numbers[place])
        start, end = max(found.start() - _CONTEXT, 0), found.end() + _CONTEXT
        self._seen["mojibake"].times += len(_mojibake().findall(text))
        if _repair(text) != text and number != self._last_repairable:
            self._seen["mojibake"].repairable += 1
            self._last_repairable = number
        part = text[start:end]
        repaired = _repair(part)
        self._note(
            "mojibake", batch, place, (found.start(), len(found.group()), repaired if repaired != part else None)
        )

    def _note(self, kind: Kind, batch: TextBatch, place: int, found: tuple[int, int, str | None]) -> None:
        """Count the document of a text once, and keep it if there are few examples."""
        seen, number = self._seen[kind], int(batch.numbers[place])
        if number == seen.last:
            return
        seen.documents, seen.last = seen.documents + 1, number
        if len(seen.examples) < _SHOWN:
            position, length, repaired = found
            shown = batch.texts[place][max(position - _CONTEXT, 0) : position + length + _CONTEXT]
            seen.examples.append(CharacterExample(batch.location(place, position), shown, repaired))


def _mojibake() -> Any:
    from ftfy.badness import BADNESS_RE  # ftfy.is_bad is this search

    return BADNESS_RE


def _repair(text: str) -> str:
    from ftfy import fix_encoding

    return fix_encoding(text)


def _first_difference(text: str, normal: str) -> tuple[int, int, str | None]:
    """The first position at which a text differs from its normal form."""
    pairs = zip(text, normal, strict=False)
    place = next((place for place, (one, other) in enumerate(pairs) if one != other), min(len(text), len(normal)))
    return place, 1, None
