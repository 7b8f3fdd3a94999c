"""A look at a data set: one pass over its records, everything counted on the way.

In come a section data and, if wanted, a tokenizer; out comes an ``Inspection``. A test side (``valid_path``) is read
first, and the training text streams by it once. Memory holds about 100 MB of tables and batches, 16 to 48 bytes a
document (its hashes and lengths), and of a test side about 20 bytes a word or character (see ``overlap``), but never
the text.
"""

from __future__ import annotations

import heapq
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from penna.config.sections import DataConfig
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
from penna.data.sources.reader import BadRecord
from penna.formatting import plural
from penna.tokenizer.tokenizer import SEPARATOR, Tokenizer

# MERGED data.quality.sample: A few hundred documents of a stream, the same ones each time, wherever in it they stand.
#
# A document is chosen by a hash of its place in the stream: those with the smallest are kept. So the sample is spread
# over the whole text, depends on no random state, and holds a bounded number of beginnings of documents.


SAMPLE = 500  # documents
_BEGINNING = 1000  # characters kept of each
_SHORTEST = 20  # characters a guess at the language needs


class DocumentSample:
    """The beginnings of up to ``size`` documents, spread evenly."""

    def __init__(self, size: int = SAMPLE) -> None:
        self._size = size
        self._held: list[tuple[int, int, str]] = []  # a heap of (-hash, number, beginning)

    def add(self, batch: TextBatch) -> None:
        """Show the documents of a batch; very short ones are passed over."""
        for text, number, starts in zip(batch.texts, batch.numbers.tolist(), batch.starts, strict=True):
            if not starts or len(text) < _SHORTEST:
                continue
            key = -_scattered(number)
            if len(self._held) < self._size:
                heapq.heappush(self._held, (key, number, text[:_BEGINNING]))
            elif key > self._held[0][0]:
                heapq.heapreplace(self._held, (key, number, text[:_BEGINNING]))

    def texts(self) -> list[str]:
        """The beginnings, in the order of the stream."""
        return [text for _, _, text in sorted(self._held, key=lambda held: held[1])]


def _scattered(number: int) -> int:
    """A number as 64 bits that look random (the finaliser of SplitMix64, Steele et al. 2014)."""
    mask = (1 << 64) - 1
    value = (number + 1) * 0x9E3779B97F4A7C15 & mask
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & mask
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB & mask
    return value ^ (value >> 31)


_BAD_SHOWN = 5
_BLANK_LINES = re.compile(r"\n(?:[ \t\r]*\n)+(?=\S)")
_SAY_EVERY = 1 << 23  # characters


def silent(text: str) -> None:
    """Say nothing."""


def inspect_text(
    config: DataConfig, tokenizer: Tokenizer | None = None, name: str = "", report: Callable[[str], None] = silent
) -> DataReport:
    """Look at the configured text, and at what ``valid_path`` shares with it.

    ``name`` is what the tokenizer is called in the result; ``say`` is told how far a long text has been read.
    Raises DataError where there is nothing to read or a file is no text.
    """
    overlap = OverlapCounter(_test_documents(config, report)) if config.valid_path else None
    look = _Look(config, tokenizer, name)
    told = 0
    for batch in text_batches(look.usable(read_documents(config))):
        look.add(batch)
        if overlap is not None:
            overlap.add(batch)
        if look.characters // _SAY_EVERY > told:
            told = look.characters // _SAY_EVERY
            report(f"Read {plural(look.documents, 'document', 'documents')}, {look.characters:,} characters ...")
    return with_findings(look.told(overlap), config)


def _test_documents(config: DataConfig, report: Callable[[str], None]) -> Iterator[Document]:
    count = 0
    for item in read_documents(config, "valid"):
        if not isinstance(item, BadRecord):
            count += item.starts
            yield item
    report(f"Read {plural(count, 'test document', 'test documents')}.")


class _Look:
    """Everything that is collected while the training side streams by."""

    def __init__(self, config: DataConfig, tokenizer: Tokenizer | None, name: str) -> None:
        self._config = config
        self.documents = self.characters = 0
        self._empty = self._bytes = self._words = self._blocks = self._separators = 0
        self._files: dict[str, str] = {}  # file -> format
        self._shapes: Counter[str] = Counter()
        self._bad, self._bad_examples = 0, list[str]()
        self._lengths = LengthCounter("documents", "characters")
        self._code_points = CharacterCounter()
        self._troubles = CharacterIssueCounter()
        self._sample = DocumentSample()
        self._duplicates = DuplicateCounter()
        self._dialogues = _DialogueCounter()
        self._cut = None if tokenizer is None else TokenizationCounter(tokenizer, name)
        self._pairs = _PairCounter(self._cut)

    def usable(self, items: Iterator[Document | BadRecord]) -> Iterator[Document]:
        """The documents with text; the others are counted."""
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
        """Count a batch of the documents that ``usable`` gave."""
        sizes = np.diff(batch.ends, prepend=0)
        self.characters += int(sizes.sum())
        self._bytes += int(utf8_sizes(batch.codes).sum())
        self._words += len(batch.word_starts)
        self._lengths.add_pieces(sizes, batch.starts)
        self._code_points.add(batch)
        self._troubles.add(batch)
        self._sample.add(batch)
        if self._cut is not None:
            self._cut.add(batch)

    def told(self, overlap: OverlapCounter | None) -> DataReport:
        """All that was collected."""
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
        lengths = (self._lengths.result(), *(() if self._cut is None else (self._cut.lengths(),)))
        duplicates = self._duplicates
        return DataReport(
            paths=tuple(self._config.path),
            test_paths=tuple(self._config.valid_path),
            amount=amount,
            lengths=lengths,
            scripts=self._code_points.scripts(),
            languages=guess_languages(self._sample.texts()),
            character_issues=self._troubles.result(self._code_points, self.documents),
            duplicates=duplicates.result(),
            overlap=None
            if overlap is None
            else overlap.result(duplicates.hashes(), duplicates.labeled_hashes(), self._empty),
            labels=duplicates.labels(),
            dialogues=self._dialogues.told(),
            completions=self._pairs.told(),
            tokenization=None if self._cut is None else self._cut.result(amount, self._sample.texts()),
        )


class _DialogueCounter:
    """Turns of dialogues: of messages, or of blocks with a turn per line."""

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

    def told(self) -> Dialogues | None:
        """None where most blocks are a single line, and so no dialogues."""
        turns = self._turns.result()
        if not self._roles and turns.median < 2:
            return None
        source = "messages" if self._roles else "lines"
        roles = dict(self._roles.most_common())
        return Dialogues(source, turns, self._characters.result(), roles, self._unanswered)


class _PairCounter:
    """Lengths of prompts and completions."""

    def __init__(self, cut: TokenizationCounter | None) -> None:
        self._cut = cut
        units = ("characters",) if cut is None else ("characters", "tokens")
        self._prompts = [LengthCounter("prompts", unit) for unit in units]
        self._completions = [LengthCounter("completions", unit) for unit in units]

    def add(self, document: Document) -> None:
        for counters, text in ((self._prompts, document.prompt), (self._completions, document.completion)):
            counters[0].add([len(text)])
            if self._cut is not None:
                counters[1].add([self._cut.count(text)])

    def told(self) -> Completions | None:
        if not len(self._prompts[0]):
            return None
        return Completions(
            tuple(counter.result() for counter in self._prompts),
            tuple(counter.result() for counter in self._completions),
        )
