"""The data report, from one pass over the records.

The test text (``valid_path``) is read first, then the training text streams past it once. Memory holds about 100 MB of
tables and batches, 16 to 48 bytes per document (hashes and lengths), and about 20 bytes per word or character of the
test text (see ``overlap``), but never the text itself.
"""

from __future__ import annotations

import heapq
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from penna.config.sections import DataConfig
from penna.data.cache import Progress
from penna.data.quality.checks import CharacterIssueCounter
from penna.data.quality.codepoints import TextBatch, text_batches, utf8_sizes
from penna.data.quality.documents import Document, read_documents
from penna.data.quality.duplicates import DuplicateCounter
from penna.data.quality.findings import with_findings
from penna.data.quality.lengths import LengthCounter, TokenizationCounter
from penna.data.quality.overlap import OverlapCounter
from penna.data.quality.result import Completions, DataReport, Dialogues, TextCounts
from penna.data.quality.scripts import CharacterCounter, guess_languages
from penna.data.sources.files import format_of
from penna.data.sources.records import BadRecord
from penna.formatting import plural
from penna.tokenizer.tokenizer import SEPARATOR, Tokenizer

SAMPLE = 500  # documents
_BEGINNING = 1000  # characters kept of each
_SHORTEST = 20  # characters needed to estimate the language
_BAD_SHOWN = 5
_BLANK_LINES = re.compile(r"\n(?:[ \t\r]*\n)+(?=\S)")
_REPORT_EVERY = 1 << 23  # characters


def inspect_text(
    config: DataConfig, tokenizer: Tokenizer | None = None, name: str = "", report: Progress = lambda _: None
) -> DataReport:
    """The report on the configured text, and on what ``valid_path`` shares with it.

    ``name`` is the tokenizer's name in the report; ``report`` receives the progress of a long text. Raises DataError if
    there is nothing to read or a file is not text.
    """
    overlap = OverlapCounter(_test_documents(config, report)) if config.valid_path else None
    builder = _ReportBuilder(config, tokenizer, name)
    reported = 0
    for batch in text_batches(builder.usable(read_documents(config))):
        builder.add(batch)
        if overlap is not None:
            overlap.add(batch)
        if builder.characters // _REPORT_EVERY > reported:
            reported = builder.characters // _REPORT_EVERY
            report(f"Read {plural(builder.documents, 'document', 'documents')}, {builder.characters:,} characters …")
    return with_findings(builder.result(overlap), config)


def _test_documents(config: DataConfig, report: Progress) -> Iterator[Document]:
    count = 0
    for item in read_documents(config, "valid"):
        if not isinstance(item, BadRecord):
            count += item.starts
            yield item
    report(f"Read {plural(count, 'test document', 'test documents')}.")


class _ReportBuilder:
    """Collects everything while the training text streams past."""

    def __init__(self, config: DataConfig, tokenizer: Tokenizer | None, name: str) -> None:
        self._config = config
        self.documents = self.characters = 0
        self._empty = self._bytes = self._words = self._blocks = self._separators = 0
        self._files: dict[str, str] = {}  # file -> format
        self._shapes: Counter[str] = Counter()
        self._bad, self._bad_examples = 0, list[str]()
        self._lengths = LengthCounter("documents", "characters")
        self._code_points = CharacterCounter()
        self._issues = CharacterIssueCounter()
        self._sample = DocumentSample()
        self._duplicates = DuplicateCounter()
        self._dialogues = _DialogueCounter()
        self._tokenization = None if tokenizer is None else TokenizationCounter(tokenizer, name)
        self._pairs = _PairCounter(self._tokenization)

    def usable(self, items: Iterator[Document | BadRecord]) -> Iterator[Document]:
        """The documents with text; the others are only counted."""
        for item in items:
            self._files.setdefault(item.file, format_of(Path(item.file), self._config.format))
            if isinstance(item, BadRecord):
                self._bad += 1
                if len(self._bad_examples) < _BAD_SHOWN:
                    self._bad_examples.append(str(item))
            elif item.starts and not item.text.strip():
                self._empty += 1
            else:
                self._add_document(item)
                yield item

    def _add_document(self, document: Document) -> None:
        self.documents += document.starts
        self._shapes[document.shape] += document.starts
        self._separators += document.text.count(SEPARATOR)
        self._duplicates.add(document)
        if document.shape == "messages":
            self._dialogues.add_messages(document)
        elif document.shape == "completion":
            self._pairs.add(document)
        elif document.format == "txt":
            if self._config.document == "block":
                self._dialogues.add_lines(document)
            elif self._config.document == "file":
                self._blocks += len(_BLANK_LINES.findall(document.text)) + document.starts

    def add(self, batch: TextBatch) -> None:
        """Count a batch of the documents from ``usable``."""
        sizes = np.diff(batch.ends, prepend=0)
        self.characters += int(sizes.sum())
        self._bytes += int(utf8_sizes(batch.codes).sum())
        self._words += len(batch.word_starts)
        self._lengths.add_chunks(sizes, batch.starts)
        self._code_points.add(batch)
        self._issues.add(batch)
        self._sample.add(batch)
        if self._tokenization is not None:
            self._tokenization.add(batch)

    def result(self, overlap: OverlapCounter | None) -> DataReport:
        """The report, still without findings."""
        amount = TextCounts(
            files=dict(Counter(self._files.values()).most_common()),
            shapes=dict(self._shapes.most_common()),
            documents=self.documents,
            empty=self._empty,
            characters=self.characters,
            bytes=self._bytes,
            words=self._words,
            distinct_characters=self._code_points.distinct(),
            blocks=self._blocks,
            separators=self._separators,
            bad=self._bad,
            bad_examples=tuple(self._bad_examples),
        )
        lengths = (self._lengths.result(), *(() if self._tokenization is None else (self._tokenization.lengths(),)))
        duplicates = self._duplicates
        return DataReport(
            paths=tuple(self._config.path),
            test_paths=tuple(self._config.valid_path),
            amount=amount,
            lengths=lengths,
            scripts=self._code_points.scripts(),
            languages=guess_languages(self._sample.texts()),
            character_issues=self._issues.result(self._code_points, self.documents),
            duplicates=duplicates.result(),
            overlap=None
            if overlap is None
            else overlap.result(duplicates.hashes(), duplicates.labeled_hashes(), self._empty),
            labels=duplicates.labels(),
            dialogues=self._dialogues.result(),
            completions=self._pairs.result(),
            tokenization=None
            if self._tokenization is None
            else self._tokenization.result(amount, self._sample.texts()),
        )


class _DialogueCounter:
    """Counts dialogues from messages, or from text blocks with one turn per line."""

    def __init__(self) -> None:
        self._turns = LengthCounter("dialogues", "turns")
        self._characters = LengthCounter("turns", "characters")
        self._roles: Counter[str] = Counter()
        self._unanswered = 0

    def add_messages(self, document: Document) -> None:
        self._turns.add([len(document.turns)])
        self._characters.add([len(content) for _, content in document.turns])
        self._roles.update(role for role, _ in document.turns)
        self._unanswered += bool(document.turns) and document.turns[-1][0] != "assistant"

    def add_lines(self, document: Document) -> None:
        lines = [line for line in document.text.splitlines() if line.strip()]
        self._turns.add([len(lines)])
        self._characters.add([len(line) for line in lines])
        self._unanswered += len(lines) % 2

    def result(self) -> Dialogues | None:
        """The dialogues; None if most blocks are a single line, so that they are not dialogues."""
        turns = self._turns.result()
        if not self._roles and turns.median < 2:
            return None
        source = "messages" if self._roles else "lines"
        roles = dict(self._roles.most_common())
        return Dialogues(source, turns, self._characters.result(), roles, self._unanswered)


class _PairCounter:
    """Measures prompts and completions."""

    def __init__(self, tokenization: TokenizationCounter | None) -> None:
        self._tokenization = tokenization
        units = ("characters",) if tokenization is None else ("characters", "tokens")
        self._prompts = [LengthCounter("prompts", unit) for unit in units]
        self._completions = [LengthCounter("completions", unit) for unit in units]

    def add(self, document: Document) -> None:
        for counters, text in ((self._prompts, document.prompt), (self._completions, document.completion)):
            counters[0].add([len(text)])
            if self._tokenization is not None:
                counters[1].add([self._tokenization.count(text)])

    def result(self) -> Completions | None:
        if not len(self._prompts[0]):
            return None
        return Completions(
            tuple(counter.result() for counter in self._prompts),
            tuple(counter.result() for counter in self._completions),
        )


class DocumentSample:
    """The beginnings of up to ``size`` documents, spread evenly over the text.

    The documents with the smallest hashes of their numbers are kept, so the sample needs no random state.
    """

    def __init__(self, size: int = SAMPLE) -> None:
        self._size = size
        self._held: list[tuple[int, int, str]] = []  # a heap of (-hash, number, beginning)

    def add(self, batch: TextBatch) -> None:
        """Add the documents of a batch; very short ones are skipped."""
        for text, number, starts in zip(batch.texts, batch.numbers.tolist(), batch.starts, strict=True):
            if not starts or len(text) < _SHORTEST:
                continue
            key = -_mixed(number)
            if len(self._held) < self._size:
                heapq.heappush(self._held, (key, number, text[:_BEGINNING]))
            elif key > self._held[0][0]:
                heapq.heapreplace(self._held, (key, number, text[:_BEGINNING]))

    def texts(self) -> list[str]:
        """The beginnings, in the order of the documents."""
        return [text for _, _, text in sorted(self._held, key=lambda held: held[1])]


def _mixed(number: int) -> int:
    """64 bits that look random (the finalizer of SplitMix64, Steele et al. 2014)."""
    mask = (1 << 64) - 1
    value = (number + 1) * 0x9E3779B97F4A7C15 & mask
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & mask
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB & mask
    return value ^ (value >> 31)
