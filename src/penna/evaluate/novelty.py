"""How much of a set of texts is new compared with the training text: novel n-grams and verbatim spans.

McCoy et al. 2021 ("How much do language models copy from their training data?", section 4): an n-gram is novel if it
appears nowhere in the training text. The share of novel n-grams rises with n; the same share for human text that the
model never read is the reference. Long copied spans are measured by `penna.evaluate.memorization`. n-grams are of the
model's own tokens: with a character tokenizer, eight are a word and a half.

The stream is read once for all sets. n-grams are compared by 64-bit hashes (Karp and Rabin 1987), so about one in 2**64
pairs is a false match.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from penna.evaluate.memorization import GeneratedText, Memorization, MemorizedText, measure_memorization
from penna.evaluate.verbatim import Tokens
from penna.tokenizer.tokenizer import Tokenizer

ORDERS = (2, 4, 8, 16, 32)  # tokens

_CHUNK = 1 << 18  # tokens of the stream at a time
_TABLE_BITS = 20  # leading bits of a hash, looked up first
_BASE = np.uint64(0x9E3779B97F4A7C15)
_TEXTS = 100  # texts whose spans are searched together; the table of each grows with the words of all

_Ids = NDArray[np.int64]
_Hashes = NDArray[np.uint64]


@dataclass(frozen=True)
class Novelty:
    """How new the texts of one set are."""

    novel_ngrams: dict[int, float | None]  # n -> share of all n-grams, repeated ones included; None if there are none
    memorization: Memorization = field(metadata={"json": False})
    json_properties = (
        "memorized", "verdict", "verbatim_share", "unseen_verbatim_share", "shortest_span", "longest_span"
    )  # fmt: skip

    @property
    def memorized(self) -> bool:
        """Whether the texts count as memorized."""
        return self.memorization.memorized

    @property
    def verdict(self) -> str:
        """The result for a person."""
        return self.memorization.verdict

    @property
    def verbatim_share(self) -> float:
        """The share of tokens that are in verbatim spans."""
        return self.memorization.share

    @property
    def unseen_verbatim_share(self) -> float | None:
        """The same share for human text that the model never read."""
        return self.memorization.unseen_share

    @property
    def shortest_span(self) -> int:
        """The tokens that a span must have to count."""
        return self.memorization.shortest

    @property
    def longest_span(self) -> dict[str, int | str] | None:
        """The longest verbatim span."""
        span = self.memorization.longest
        return None if span is None else {"tokens": span.tokens, "text": span.text}

    @property
    def longest(self) -> int:
        """The tokens of the longest verbatim span; 0 if there is none."""
        span = self.memorization.longest
        return 0 if span is None else span.tokens


def measure_novelty(
    stream: Tokens,
    human: Sequence[Sequence[int]],
    generated: Mapping[str, Sequence[Sequence[int]]],
    tokenizer: Tokenizer,
    *,
    shortest: int,
) -> tuple[Novelty, dict[str, Novelty]]:
    """The novelty of human texts and of each set of generated ones. ``shortest``: tokens of the shortest span."""
    sets = [human, *generated.values()]
    novel = novel_shares(stream, sets)
    memorized = [_memorized_texts(stream, texts, tokenizer, shortest) for texts in sets]
    human_share = Memorization(shortest, memorized[0], None).share if any(human) else None
    found = [
        Novelty(shares, Memorization(shortest, texts, human_share if number else None))
        for number, (shares, texts) in enumerate(zip(novel, memorized, strict=True))
    ]
    return found[0], dict(zip(generated, found[1:], strict=True))


def _memorized_texts(
    stream: Tokens, texts: Sequence[Sequence[int]], tokenizer: Tokenizer, shortest: int
) -> tuple[MemorizedText, ...]:
    parts = [
        [GeneratedText("", ids) for ids in texts[start : start + _TEXTS]] for start in range(0, len(texts), _TEXTS)
    ]
    return tuple(
        text for part in parts for text in measure_memorization(stream, part, tokenizer, shortest=shortest).texts
    )


def novel_shares(
    stream: Tokens, sets: Sequence[Sequence[Sequence[int]]], orders: Sequence[int] = ORDERS
) -> list[dict[int, float | None]]:
    """Per set and n, the share of n-grams that appear nowhere in the stream; None if no text is long enough."""
    shares: list[dict[int, float | None]] = [{} for _ in sets]
    hashes = {order: [_hashes_of_texts(texts, order) for texts in sets] for order in orders}
    tables = {order: _HashTable(np.unique(np.concatenate(each))) for order, each in hashes.items()}
    reach = max(orders) - 1
    for start in range(0, len(stream), _CHUNK):
        tokens = stream.read(start, min(_CHUNK + reach, len(stream) - start))
        for order, table in tables.items():
            table.mark_seen(_hashes(tokens, order))
    for order, each in hashes.items():
        for own, of_set in zip(shares, each, strict=True):
            own[order] = float(1 - tables[order].seen(of_set).mean()) if len(of_set) else None
    return shares


class _HashTable:
    """Sorted hashes, and which of them were seen."""

    def __init__(self, hashes: _Hashes) -> None:
        self._hashes = hashes
        self._seen = np.zeros(len(hashes), dtype=np.bool_)
        self._shift = np.uint64(64 - _TABLE_BITS)
        self._table = np.zeros(1 << _TABLE_BITS, dtype=np.bool_)
        self._table[hashes >> self._shift] = True

    def mark_seen(self, hashes: _Hashes) -> None:
        likely = hashes[self._table[hashes >> self._shift]]
        if len(likely):
            slots = np.minimum(np.searchsorted(self._hashes, likely), len(self._hashes) - 1)
            self._seen[slots[self._hashes[slots] == likely]] = True

    def seen(self, hashes: _Hashes) -> NDArray[np.bool_]:
        return self._seen[np.searchsorted(self._hashes, hashes)]


def _hashes_of_texts(texts: Sequence[Sequence[int]], order: int) -> _Hashes:
    """The hash of every n-gram of the texts; no n-gram spans two of them."""
    return np.concatenate(
        [np.empty(0, dtype=np.uint64), *(_hashes(np.asarray(text, dtype=np.int64), order) for text in texts)]
    )


def _hashes(tokens: _Ids, order: int) -> _Hashes:
    """The hash of every run of ``order`` tokens: a polynomial of their mixed ids, modulo 2**64."""
    count = len(tokens) - order + 1
    if count <= 0:
        return np.empty(0, dtype=np.uint64)
    mixed = _mix(tokens)
    result = np.zeros(count, dtype=np.uint64)
    for offset in range(order):
        result = result * _BASE + mixed[offset : offset + count]
    return result ^ (result >> np.uint64(29))


def _mix(tokens: _Ids) -> _Hashes:
    """Ids spread over 64 bits: the finalizer of splitmix64 (Steele et al. 2014)."""
    x = tokens.astype(np.uint64) + np.uint64(1)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
