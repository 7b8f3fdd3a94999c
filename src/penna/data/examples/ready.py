"""What every task says of the examples it learns from: the tokenizer, the hash, and how many there are.

In come prepared examples; out go the lines for the terminal and the counts for run.json. A task adds what is its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penna.data.examples.prepare import PreparedExamples
from penna.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class ReadyExamples:
    """The examples of one recipe, prepared."""

    prepared: PreparedExamples

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer the examples were made with, with all that the task added to it."""
        return self.prepared.tokenizer

    @property
    def folder(self) -> Path:
        """Where in the cache they are kept."""
        return self.prepared.folder

    @property
    def content_hash(self) -> str:
        """A hash of the records and of how they are split."""
        return self.prepared.content_hash

    def read_line(self, what: str) -> str:
        """How much was read, beginning with ``what`` it is."""
        counts = self.prepared.counts
        line = f"{what}: {counts.records:,} records, {counts.characters:,} characters"
        if counts.bad_records:
            line += f", {counts.bad_records:,} bad records left out (the first: {counts.bad[0]})"
        return line

    def due_line(self) -> str:
        """How many examples each part has, and how many of their tokens are learned."""
        parts = (self.prepared.train_counts, self.prepared.valid_counts)
        train, valid = (f"{part.examples:,} ({part.due:,} of {part.tokens:,} tokens due)" for part in parts)
        return f"Examples: {train} to learn from, {valid} for validation, vocabulary {self.tokenizer.vocab_size:,}"

    @property
    def cut(self) -> int:
        """How many examples lack a part of their record, which was too long."""
        return self.prepared.train_counts.cut + self.prepared.valid_counts.cut

    def info(self) -> dict[str, Any]:
        """Hashes and counts, for run.json."""
        counts = self.prepared.counts
        train, valid = self.prepared.train_counts, self.prepared.valid_counts
        return {
            "content_hash": self.content_hash,
            "tokenizer_hash": self.tokenizer.fingerprint(),
            "split": self.prepared.split,
            "records": counts.records,
            "bytes": counts.bytes,
            "bad_records": counts.bad_records,
            "train_examples": train.examples,
            "valid_examples": valid.examples,
            "train_tokens": train.tokens,
            "valid_tokens": valid.tokens,
        }

    def due_info(self) -> dict[str, int]:
        """How many tokens of each part are learned, for run.json."""
        return {"train_due": self.prepared.train_counts.due, "valid_due": self.prepared.valid_counts.due}
