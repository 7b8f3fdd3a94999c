"""Comparing how tokenizers split a text.

The text is streamed: memory holds one batch of it and a count per token.
"""

import heapq
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from penna.tokenizer.offsets import is_complete_utf8
from penna.tokenizer.tokenizer import Tokenizer

_BATCH_CHARACTERS = 1 << 20
_LISTED_TOKENS = 8
_SAMPLE_CHARACTERS = 60
_CONTEXT = 16  # characters on each side of a difference


@dataclass(frozen=True)
class TextSize:
    """The size of the text; words are separated by white space."""

    characters: int
    words: int
    bytes: int


@dataclass(frozen=True)
class TokenCount:
    """A token, as `Tokenizer.token_text` shows it, and its count in the text."""

    id: int
    text: str
    count: int


@dataclass(frozen=True)
class Difference:
    """The first position at which the decoded text differs."""

    before: str
    """The original text around it."""
    after: str
    """The decoded text around it."""


@dataclass(frozen=True)
class TokenizationMetrics:
    """How a tokenizer splits the text."""

    tokens: int
    tokens_per_character: float
    tokens_per_word: float
    bytes_per_token: float
    unknown: float
    """Share of tokens that are the unknown token."""
    partial: float
    """Share of tokens that are not whole characters; most are bytes of characters without a token."""
    bits_per_byte: float
    """Bits per byte of the text if every token were predicted from token frequencies alone:
    (tokens / bytes) · Σ p log2(1/p) over the tokens' shares p of this text. Because it is per byte, it can be compared
    between tokenizers. It ignores the cost of the vocabulary, so larger ones look better on little text, and what a
    tokenizer loses (case, spaces, unknown characters).
    """
    used: int
    """Number of vocabulary tokens that occur."""
    used_share: float
    exact: bool
    """Whether decoding restored the text."""
    first_difference: Difference | None
    longest: tuple[TokenCount, ...]
    """The longest tokens that occur, in bytes."""
    rarest: tuple[TokenCount, ...]
    """The rarest tokens that occur; of equals the longest."""
    sample: tuple[str, ...]
    """The tokens of the first line."""


@dataclass(frozen=True)
class TokenizerReport:
    """One tokenizer."""

    name: str
    kind: str
    vocab_size: int
    special_tokens: dict[str, int]
    lossless: bool
    longest: tuple[str, ...]
    """The longest tokens of the vocabulary."""
    metrics: TokenizationMetrics | None


@dataclass(frozen=True)
class TokenizerComparison:
    """Several tokenizers, and the text that they were tried on."""

    text_size: TextSize | None
    sample: str
    """The line whose tokens are listed."""
    tokenizers: tuple[TokenizerReport, ...]


def inspect_tokenizers(tokenizers: Mapping[str, Tokenizer], texts: Iterable[str] | None = None) -> TokenizerComparison:
    """Describe tokenizers, and measure how they split ``texts``, if given."""
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
    text_size = None if texts is None else TextSize(characters, words, size)
    reports = [
        TokenizerReport(
            name=name,
            kind=tokenizer.kind,
            vocab_size=tokenizer.vocab_size,
            special_tokens=tokenizer.special_tokens,
            lossless=tokenizer.lossless,
            longest=tuple(tokenizer.token_text(index) for index in _longest(tokenizer, range(tokenizer.vocab_size))),
            metrics=counters[name].metrics(text_size, sample) if text_size is not None and characters else None,
        )
        for name, tokenizer in tokenizers.items()
    ]
    return TokenizerComparison(text_size, sample, tuple(reports))


def entropy_bits(counts: Iterable[int]) -> float:
    """Bits to encode tokens with these counts by their own frequencies: Σ c log2(N / c)."""
    positive = [count for count in counts if count]
    total = sum(positive)
    return math.fsum(count * math.log2(total / count) for count in positive)


def first_difference(before: str, after: str) -> Difference | None:
    """The first difference of two texts, with its context; None if they are equal."""
    if before == after:
        return None
    pairs = zip(before, after, strict=False)
    shorter = min(len(before), len(after))
    position = next((position for position, (one, other) in enumerate(pairs) if one != other), shorter)
    start, end = max(position - _CONTEXT, 0), position + _CONTEXT
    return Difference(before[start:end], after[start:end])


class _Counter:
    """Counts the tokens of one tokenizer, and compares the decoded text."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._counts: Counter[int] = Counter()
        self._difference: Difference | None = None

    def add(self, batch: Sequence[str]) -> None:
        for text, ids in zip(batch, self._tokenizer.encode_batch(batch), strict=True):
            self._counts.update(ids)
            if self._difference is None:
                self._difference = first_difference(text, self._tokenizer.decode(ids))

    def metrics(self, text_size: TextSize, sample: str) -> TokenizationMetrics:
        tokenizer, counts = self._tokenizer, self._counts
        used = sorted(counts)
        tokens = counts.total()
        unknown = tokenizer.unknown_id
        token_bytes = tokenizer.token_bytes()
        partial = sum(counts[index] for index in used if not is_complete_utf8(token_bytes[index]))
        rarest = heapq.nsmallest(
            _LISTED_TOKENS, used, key=lambda index: (counts[index], -len(token_bytes[index]), index)
        )
        return TokenizationMetrics(
            tokens=tokens,
            tokens_per_character=tokens / text_size.characters,
            tokens_per_word=tokens / max(text_size.words, 1),
            bytes_per_token=text_size.bytes / max(tokens, 1),
            unknown=0.0 if unknown is None else counts[unknown] / max(tokens, 1),
            partial=partial / max(tokens, 1),
            bits_per_byte=entropy_bits(counts.values()) / text_size.bytes,
            used=len(used),
            used_share=len(used) / max(tokenizer.vocab_size, 1),
            exact=self._difference is None,
            first_difference=self._difference,
            longest=tuple(map(self._token_count, _longest(tokenizer, used))),
            rarest=tuple(map(self._token_count, rarest)),
            sample=tuple(tokenizer.token_text(index) for index in tokenizer.encode(sample)),
        )

    def _token_count(self, index: int) -> TokenCount:
        return TokenCount(index, self._tokenizer.token_text(index), self._counts[index])


def _longest(tokenizer: Tokenizer, ids: Iterable[int]) -> list[int]:
    token_bytes = tokenizer.token_bytes()
    return heapq.nsmallest(_LISTED_TOKENS, ids, key=lambda index: (-len(token_bytes[index]), index))


def _first_line(batch: Iterable[str]) -> str:
    lines = (line.strip() for text in batch for line in text.split("\n"))
    return next((line[:_SAMPLE_CHARACTERS] for line in lines if line), "")


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= _BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
