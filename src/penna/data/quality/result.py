"""The data report: statistics of a data set and their meaning for training.

Shares are between 0 and 1, lengths are whole numbers, locations are "file:line". ``None`` means that something does not
apply: no labels, no tokenizer, no test text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

BLOCK_SIZES = (128, 256, 512, 1024)
"""Usual context lengths of small models, which lengths are compared with."""


@dataclass(frozen=True)
class TextCounts:
    """Counts of documents and their content."""

    files: dict[str, int]  # format -> files
    shapes: dict[str, int]  # text, labeled, messages, completion -> documents
    documents: int  # with text
    empty: int  # blank documents, which count nowhere else
    characters: int
    bytes: int  # in UTF-8
    words: int  # separated by white space
    distinct_characters: int
    blocks: int  # in plain text files that are one document: the parts between blank lines
    separators: int  # occurrences of "<|endoftext|>" in the text
    bad: int  # records that cannot be used
    bad_examples: tuple[str, ...]  # "file:line: reason"


@dataclass(frozen=True)
class Histogram:
    """``counts[i]`` is the number of values with edges[i] <= value < edges[i + 1]; edges grow by a constant factor."""

    edges: tuple[int, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Lengths:
    """Lengths of documents or their parts, in one unit; quantiles are lengths that occur."""

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
    """Shares of letters (general category L) by script."""

    letters: int
    shares: dict[str, float]


@dataclass(frozen=True)
class Languages:
    """The estimated languages of a sample of documents: shares by ISO 639-1 code."""

    documents: int  # in the sample
    shares: dict[str, float]


@dataclass(frozen=True)
class CharacterExample:
    """Text around a damaged or unusual character, and its probable original."""

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
    times: int | None = None  # occurrences, if they can be counted
    repairable: int | None = None  # for mojibake: documents that ftfy can repair


@dataclass(frozen=True)
class RepeatedText:
    """A text that several documents share."""

    count: int
    text: str
    location: str  # one of them


@dataclass(frozen=True)
class Duplicates:
    """Documents that repeat an earlier one exactly."""

    repeats: int
    share: float  # of all documents
    most: tuple[RepeatedText, ...]


@dataclass(frozen=True)
class Overlap:
    """What test documents share with training; empty ones count as exact."""

    documents: int  # of the test text, including empty ones
    exact: int  # that are also in training
    exact_empty: int  # of these, the empty ones
    other_label: int | None  # of the exact ones with text: those that never have the same label in training
    n: int
    unit: Literal["words", "characters"]
    comparable: int  # test documents with at least n units
    sharing: int  # of these, with at least one n-gram of training
    ngrams: int  # of the test text, repeated ones included
    ngrams_seen: int  # of these, those that occur in training


@dataclass(frozen=True)
class Labels:
    """The labels of records, the most frequent first."""

    counts: dict[str, int]
    contradictory_texts: int  # different texts that occur with more than one label
    contradictory_documents: int  # documents with such a text


@dataclass(frozen=True)
class Dialogues:
    """Dialogues from messages, or from text blocks with one turn per line."""

    source: Literal["messages", "lines"]
    turns: Lengths
    characters: Lengths  # of a turn
    roles: dict[str, int]
    ending_unanswered: int  # dialogues whose last turn is not an answer


@dataclass(frozen=True)
class Completions:
    """Lengths of prompts and completions."""

    prompts: tuple[Lengths, ...]  # in characters and, with a tokenizer, in tokens
    completions: tuple[Lengths, ...]


@dataclass(frozen=True)
class Tokenization:
    """How a tokenizer encodes this text."""

    tokenizer: str
    vocab_size: int
    tokens: int
    tokens_per_word: float
    tokens_per_character: float
    bytes_per_token: float
    unknown: float  # share of unknown tokens
    used: int  # different tokens that occur
    samples: tuple[tuple[str, ...], ...]  # the beginnings of some documents, token by token


@dataclass(frozen=True)
class Finding:
    """What a statistic means for training, in a sentence or two."""

    topic: str
    text: str


@dataclass(frozen=True)
class DataReport:
    """The report on a data set."""

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
