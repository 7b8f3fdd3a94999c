"""What of written texts is new: sets of ids and the training stream in, shares of unseen n-grams and recitation out.

McCoy et al. 2021 ("How much do language models copy from their training data?", section 4): an n-gram of a written text
is novel where it stands nowhere in the training text; the share of them rises with n, and the same share of human text
that the model never read is the yardstick. Beside it stands how much is recited in long spans (`recitation`). n-grams
are of the model's own tokens: with a character tokenizer, eight are a word and a half.

The stream is read once for all sets. n-grams are compared by 64-bit hashes (Karp and Rabin 1987), so one in about 2**64
pairs is taken for another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penna.evaluate.memorization import GeneratedText, Memorization, MemorizedText, measure_memorization
from penna.evaluate.verbatim import Tokens
from penna.tokenizer.tokenizer import Tokenizer

ORDERS = (2, 4, 8, 16, 32)  # tokens

_CHUNK = 1 << 18  # tokens of the stream at a time
_TABLE_BITS = 20  # of a hash, looked up before the whole of it
_BASE = np.uint64(0x9E3779B97F4A7C15)
_AT_ONCE = 100  # texts whose spans are looked for together; a table for each grows with the words of all

_Ids = NDArray[np.int64]
_Hashes = NDArray[np.uint64]


@dataclass(frozen=True)
class Novelty:
    """How new the texts of one set are."""

    novel_ngrams: dict[
        int, float | None
    ]  # per n, share of n-grams, each as often as it is written; None where there are none
    memorization: Memorization

    @property
    def longest(self) -> int:
        """Tokens of the longest span that stands in the training text; 0 where none is as long as counts."""
        span = self.memorization.longest
        return 0 if span is None else span.tokens

    def as_json(self) -> dict[str, Any]:
        """A dictionary for JSON; the recited texts one by one are left out."""
        span = self.memorization.longest
        return {
            "novel_ngrams": {str(order): share for order, share in self.novel_ngrams.items()},
            "recites": self.memorization.memorized,
            "verdict": self.memorization.verdict,
            "verbatim_share": self.memorization.share,
            "unseen_verbatim_share": self.memorization.unseen_share,
            "shortest_span": self.memorization.shortest,
            "longest_span": None if span is None else {"tokens": span.tokens, "text": span.text},
        }


def measure_novelty(
    stream: Tokens,
    human: Sequence[Sequence[int]],
    written: Mapping[str, Sequence[Sequence[int]]],
    tokenizer: Tokenizer,
    *,
    shortest: int,
) -> tuple[Novelty, dict[str, Novelty]]:
    """The novelty of human texts, and of sets of written ones. ``shortest``: tokens a recited span has at least."""
    sets = [human, *written.values()]
    novel = novel_shares(stream, sets)
    recited = [_recited(stream, texts, tokenizer, shortest) for texts in sets]
    share = Memorization(shortest, recited[0], None).share if any(human) else None
    found = [
        Novelty(shares, Memorization(shortest, texts, share if number else None))
        for number, (shares, texts) in enumerate(zip(novel, recited, strict=True))
    ]
    return found[0], dict(zip(written, found[1:], strict=True))


def _recited(
    stream: Tokens, texts: Sequence[Sequence[int]], tokenizer: Tokenizer, shortest: int
) -> tuple[MemorizedText, ...]:
    parts = [texts[start : start + _AT_ONCE] for start in range(0, len(texts), _AT_ONCE)]
    return tuple(
        text
        for part in parts
        for text in measure_memorization(
            stream, [GeneratedText("", ids) for ids in part], tokenizer, shortest=shortest
        ).texts
    )


def novel_shares(
    stream: Tokens, sets: Sequence[Sequence[Sequence[int]]], orders: Sequence[int] = ORDERS
) -> list[dict[int, float | None]]:
    """Per set and n, the share of n-grams that stand nowhere in the stream; None where no text is so long."""
    shares: list[dict[int, float | None]] = [{} for _ in sets]
    hashes = {order: [_of_texts(texts, order) for texts in sets] for order in orders}
    known = {order: _Known(np.unique(np.concatenate(each))) for order, each in hashes.items()}
    reach = max(orders) - 1
    for start in range(0, len(stream), _CHUNK):
        tokens = stream.read(start, min(_CHUNK + reach, len(stream) - start))
        for order, table in known.items():
            table.look_in(_hashes(tokens, order))
    for order, each in hashes.items():
        for own, of_set in zip(shares, each, strict=True):
            own[order] = float(1 - known[order].seen(of_set).mean()) if len(of_set) else None
    return shares


class _Known:
    """Sorted hashes, and which of them were met."""

    def __init__(self, hashes: _Hashes) -> None:
        self._hashes = hashes
        self._met = np.zeros(len(hashes), dtype=np.bool_)
        self._shift = np.uint64(64 - _TABLE_BITS)
        self._table = np.zeros(1 << _TABLE_BITS, dtype=np.bool_)
        self._table[hashes >> self._shift] = True

    def look_in(self, hashes: _Hashes) -> None:
        likely = hashes[self._table[hashes >> self._shift]]
        if len(likely):
            places = np.minimum(np.searchsorted(self._hashes, likely), len(self._hashes) - 1)
            self._met[places[self._hashes[places] == likely]] = True

    def seen(self, hashes: _Hashes) -> NDArray[np.bool_]:
        return self._met[np.searchsorted(self._hashes, hashes)]


def _of_texts(texts: Sequence[Sequence[int]], order: int) -> _Hashes:
    """The hash of every n-gram of some texts, none across two of them."""
    return np.concatenate(
        [np.empty(0, dtype=np.uint64), *(_hashes(np.asarray(text, dtype=np.int64), order) for text in texts)]
    )


def _hashes(tokens: _Ids, order: int) -> _Hashes:
    """The hash of every run of ``order`` tokens: a polynomial of their mixed ids, modulo 2**64."""
    count = len(tokens) - order + 1
    if count <= 0:
        return np.empty(0, dtype=np.uint64)
    mixed = _mixed(tokens)
    result = np.zeros(count, dtype=np.uint64)
    for offset in range(order):
        result = result * _BASE + mixed[offset : offset + count]
    return result ^ (result >> np.uint64(29))


def _mixed(tokens: _Ids) -> _Hashes:
    """Ids spread over 64 bits: the finisher of splitmix64 (Steele et al. 2014)."""
    x = tokens.astype(np.uint64) + np.uint64(1)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
