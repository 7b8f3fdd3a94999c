"""How tokenizers cut a text: counted once, side by side.

In come tokenizers by name and, if there is one, a text as an iterable of pieces; out comes an `Inspection` with a
`Findings` for each tokenizer. The text streams by: memory holds a batch of it, and a count for every token. Where there
is no text, only what a tokenizer is made of is told.
"""

import heapq
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from penna.tokenizer.offsets import is_complete_utf8
from penna.tokenizer.tokenizer import Tokenizer

_BATCH = 1 << 20  # characters encoded side by side
_SHOWN = 8  # tokens in each list
_SAMPLE = 60  # characters of the line that is shown cut
_AROUND = 16  # characters shown to each side of a difference


@dataclass(frozen=True)
class TextSize:
    """How much text was looked at; words are parted by white space."""

    characters: int
    words: int
    bytes: int


@dataclass(frozen=True)
class TokenCount:
    """A token, as `Tokenizer.token_text` shows it, and how often it occurs in the text."""

    id: int
    text: str
    count: int


@dataclass(frozen=True)
class Difference:
    """Where decoding first gave something else than was encoded."""

    before: str
    """The text around the place."""
    after: str
    """What came back around it."""


@dataclass(frozen=True)
class TokenizationMetrics:
    """What a tokenizer makes of the text."""

    tokens: int
    tokens_per_character: float
    tokens_per_word: float
    bytes_per_token: float
    unknown: float
    """The share of tokens that are the unknown token; 0 where there is no such token."""
    partial: float
    """The share of tokens that are no whole characters: bytes of characters that have no token, for the most part."""
    bits_per_byte: float
    """What the text would cost, in bits for each of its bytes, if each token were predicted by nothing but how often
    it occurs: (tokens / bytes) · Σ p log2(1/p) over the tokens' shares p of this text. It is what a model that knows
    token frequencies alone would reach on this very text, and since it is counted per byte of the text it can be
    compared between tokenizers. Two things are not counted in: the vocabulary itself, so a larger one looks better
    on little text; and what a tokenizer that is not lossless leaves out (case, spaces, unknown characters).
    """
    used: int
    """How many tokens of the vocabulary occur."""
    used_share: float
    exact: bool
    """Whether the text came back from its ids as it was."""
    first_difference: Difference | None
    longest: tuple[TokenCount, ...]
    """The longest tokens that occur, by the bytes they write."""
    rarest: tuple[TokenCount, ...]
    """The tokens that occur least, of those that occur; of equals the longest."""
    sample: tuple[str, ...]
    """The first line of the text, token by token."""


@dataclass(frozen=True)
class TokenizerReport:
    """One tokenizer."""

    name: str
    kind: str
    vocab_size: int
    special_tokens: dict[str, int]
    lossless: bool
    """Whether every text comes back from its ids, as the tokenizer is built."""
    longest: tuple[str, ...]
    """The longest tokens of the vocabulary."""
    metrics: TokenizationMetrics | None


@dataclass(frozen=True)
class TokenizerComparison:
    """All that was found."""

    text_size: TextSize | None
    sample: str
    """The line of text that is shown cut."""
    tokenizers: tuple[TokenizerReport, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain dictionaries, lists, strings and numbers."""
        return asdict(self)


def inspect_tokenizers(tokenizers: Mapping[str, Tokenizer], texts: Iterable[str] | None = None) -> TokenizerComparison:
    """Look at tokenizers, and at how they cut ``texts`` (pieces of any length up to what memory holds)."""
    counters = {name: _Counter(tokenizer) for name, tokenizer in tokenizers.items()}
    characters = words = size = 0
    sample = ""
    for batch in _batches(texts or ()):
        characters += sum(map(len, batch))
        words += sum(len(text.split()) for text in batch)
        size += sum(len(text.encode("utf-8")) for text in batch)
        sample = sample or _first_line(batch)
        for counter in counters.values():
            counter.add(batch)
    amount = None if texts is None else TextSize(characters, words, size)
    findings = [
        TokenizerReport(
            name=name,
            kind=tokenizer.kind,
            vocab_size=tokenizer.vocab_size,
            special_tokens=tokenizer.special_tokens,
            lossless=tokenizer.lossless,
            longest=tuple(tokenizer.token_text(index) for index in _longest(tokenizer, range(tokenizer.vocab_size))),
            metrics=counters[name].told(amount, sample) if amount is not None and amount.characters else None,
        )
        for name, tokenizer in tokenizers.items()
    ]
    return TokenizerComparison(amount, sample, tuple(findings))


def entropy_bits(counts: Iterable[int]) -> float:
    """Bits it takes to write tokens that occur ``counts`` times each, by their own frequencies: Σ c log2(N / c)."""
    held = [count for count in counts if count]
    total = sum(held)
    return math.fsum(count * math.log2(total / count) for count in held)


def first_difference(before: str, after: str) -> Difference | None:
    """Where two texts part, with what is around it on both sides; None where they are the same."""
    if before == after:
        return None
    both = zip(before, after, strict=False)
    shorter = min(len(before), len(after))
    place = next((place for place, (one, other) in enumerate(both) if one != other), shorter)
    start, end = max(place - _AROUND, 0), place + _AROUND
    return Difference(before[start:end], after[start:end])


class _Counter:
    """Counts the tokens of one tokenizer, and watches whether the text comes back."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._counts: Counter[int] = Counter()
        self._difference: Difference | None = None

    def add(self, batch: Sequence[str]) -> None:
        for text, ids in zip(batch, self._tokenizer.encode_batch(batch), strict=True):
            self._counts.update(ids)
            if self._difference is None:
                self._difference = first_difference(text, self._tokenizer.decode(ids))

    def told(self, amount: TextSize, sample: str) -> TokenizationMetrics:
        tokenizer, counts = self._tokenizer, self._counts
        used = sorted(counts)
        tokens = counts.total()
        unknown = tokenizer.unknown_id
        pieces = tokenizer.token_bytes()
        partial = sum(counts[index] for index in used if not is_complete_utf8(pieces[index]))
        rarest = heapq.nsmallest(_SHOWN, used, key=lambda index: (counts[index], -len(pieces[index]), index))
        return TokenizationMetrics(
            tokens=tokens,
            tokens_per_character=tokens / amount.characters,
            tokens_per_word=tokens / max(amount.words, 1),
            bytes_per_token=amount.bytes / max(tokens, 1),
            unknown=0.0 if unknown is None else counts[unknown] / max(tokens, 1),
            partial=partial / max(tokens, 1),
            bits_per_byte=entropy_bits(counts.values()) / amount.bytes,
            used=len(used),
            used_share=len(used) / max(tokenizer.vocab_size, 1),
            exact=self._difference is None,
            first_difference=self._difference,
            longest=tuple(map(self._shown, _longest(tokenizer, used))),
            rarest=tuple(map(self._shown, rarest)),
            sample=tuple(tokenizer.token_text(index) for index in tokenizer.encode(sample)),
        )

    def _shown(self, index: int) -> TokenCount:
        return TokenCount(index, self._tokenizer.token_text(index), self._counts[index])


def _longest(tokenizer: Tokenizer, ids: Iterable[int]) -> list[int]:
    pieces = tokenizer.token_bytes()
    return heapq.nsmallest(_SHOWN, ids, key=lambda index: (-len(pieces[index]), index))


def _first_line(batch: Iterable[str]) -> str:
    lines = (line.strip() for text in batch for line in text.split("\n"))
    return next((line[:_SAMPLE] for line in lines if line), "")


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    held = 0
    for text in texts:
        batch.append(text)
        held += len(text)
        if held >= _BATCH:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch
