"""What a look at a data set tells: typed figures, and the dictionaries they make for JSON.

Every share is between 0 and 1, every length a whole number of its unit, every place "file:line". ``None`` stands for
what does not apply: no labels, no tokenizer, nothing to compare with.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

BLOCK_SIZES = (128, 256, 512, 1024)
"""Usual context lengths of small models; lengths are held against them."""


@dataclass(frozen=True)
class TextCounts:
    """How much there is."""

    files: dict[str, int]  # format -> files
    shapes: dict[str, int]  # text, labelled, messages, completion -> documents
    documents: int  # that hold text
    empty: int  # documents of white space or nothing, left out of every other figure
    characters: int
    bytes: int  # of UTF-8
    words: int  # parted by white space
    distinct_characters: int
    blocks: int  # of plain text files read whole: their parts between blank lines
    separators: int  # times "<|endoftext|>" is spelled out in the text
    bad: int  # records that cannot be used
    bad_examples: tuple[str, ...]  # "file:line: reason"


@dataclass(frozen=True)
class Histogram:
    """``counts[i]`` values lie in edges[i] <= value < edges[i + 1]; the edges grow by about the same factor."""

    edges: tuple[int, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Lengths:
    """Lengths of documents, or of their parts, in one unit; quantiles are lengths that occur."""

    of: str  # documents, prompts, completions, turns
    unit: str  # characters, tokens, turns
    count: int
    total: int
    minimum: int
    quarter: int
    median: int
    three_quarters: int
    percentile_95: int
    maximum: int
    longer_than: dict[int, float]  # block size -> share of lengths above it
    histogram: Histogram


@dataclass(frozen=True)
class Scripts:
    """Shares of the letters (general category L) by script."""

    letters: int
    shares: dict[str, float]


@dataclass(frozen=True)
class Languages:
    """A guess at the languages of some documents: shares by document, language codes of ISO 639-1."""

    documents: int  # how many were looked at
    shares: dict[str, float]


@dataclass(frozen=True)
class CharacterExample:
    """A place in the data, what stands there, and what it was probably meant to be."""

    location: str
    text: str
    repaired: str | None = None


@dataclass(frozen=True)
class CharacterIssue:
    """One kind of damaged or unusual characters."""

    kind: Literal["mojibake", "replacement", "control", "byte order mark", "white space", "not NFC"]
    documents: int
    share: float  # of all documents
    examples: tuple[CharacterExample, ...]
    times: int | None = None  # how often, where that can be counted
    repairable: int | None = None  # of mojibake: documents in which ftfy would change something


@dataclass(frozen=True)
class RepeatedText:
    """A text that several documents consist of."""

    count: int
    text: str
    location: str  # one of them


@dataclass(frozen=True)
class Duplicates:
    """Exact duplicates: documents that repeat an earlier one letter for letter."""

    repeats: int
    share: float  # of all documents
    most: tuple[RepeatedText, ...]


@dataclass(frozen=True)
class Overlap:
    """What test documents have in common with training; empty ones count among the exact."""

    documents: int  # of the test side, empty ones included
    exact: int  # that occur in training letter for letter
    exact_empty: int  # of those, the empty ones
    other_label: int | None  # of the exact ones with text: never with this label in training
    n: int
    unit: Literal["words", "characters"]
    comparable: int  # test documents with at least n units
    sharing: int  # of those, with at least one n-gram of training
    ngrams: int  # of the test side, each as often as it occurs
    ngrams_seen: int  # of those, that occur in training


@dataclass(frozen=True)
class Labels:
    """Labels of labelled records, the most frequent first."""

    counts: dict[str, int]
    contradictory_texts: int  # different texts that occur with more than one label
    contradictory_documents: int  # documents with such a text


@dataclass(frozen=True)
class Dialogues:
    """Dialogues: of messages, or of text blocks read as a turn per line."""

    source: Literal["messages", "lines"]
    turns: Lengths
    characters: Lengths  # of a turn
    roles: dict[str, int]
    ending_unanswered: int  # dialogues whose last turn is not an answer


@dataclass(frozen=True)
class Completions:
    """Prompts and what is to be written after them."""

    prompts: tuple[Lengths, ...]  # in characters and, with a tokenizer, in tokens
    completions: tuple[Lengths, ...]


@dataclass(frozen=True)
class Tokenization:
    """How a tokenizer cuts this text."""

    tokenizer: str
    vocab_size: int
    tokens: int
    tokens_per_word: float
    tokens_per_character: float
    bytes_per_token: float
    unknown: float  # share of tokens that stand for something the vocabulary lacks
    used: int  # different tokens that occur
    samples: tuple[tuple[str, ...], ...]  # some beginnings of documents, token by token


@dataclass(frozen=True)
class Finding:
    """What a figure means for training, in a sentence or two."""

    topic: str
    text: str


@dataclass(frozen=True)
class DataReport:
    """Everything a look at a data set tells."""

    paths: tuple[str, ...]
    test_paths: tuple[str, ...]
    amount: TextCounts
    lengths: tuple[Lengths, ...]  # of documents: in characters and, with a tokenizer, in tokens
    scripts: Scripts
    languages: Languages
    character_issues: tuple[CharacterIssue, ...]
    duplicates: Duplicates
    overlap: Overlap | None
    labels: Labels | None
    dialogues: Dialogues | None
    completions: Completions | None
    tokenization: Tokenization | None
    findings: tuple[Finding, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """A dictionary for JSON."""
        return asdict(self)
