"""An example: the ids of one record, which of them are due, and its label or source where the task has one.

A ``Form`` is what a task makes of records: how a record is read, what of it the tokenizer learns from, and how it
becomes ids. Everything else, splitting, keeping, batching, is the same for all tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from penna.config.sections import DataConfig
from penna.config.tasks import Truncation
from penna.data.sources.records import BadRecord, Record
from penna.tokenizer.tokenizer import Tokenizer

T = TypeVar("T")  # a record as a task sees it


@dataclass(frozen=True, slots=True)
class Example:
    """One record as the model reads it."""

    ids: Sequence[int]  # what a decoder reads, its separator first; at least one
    target_mask: Sequence[bool] | None = (
        None  # per id, whether predicting it is learned; the first never is. None: all others
    )
    label: int | None = None  # the class
    source: Sequence[int] = ()  # what an encoder reads
    truncated: bool = False  # whether a part of the record was left out to make it fit


class ExampleFormat(Protocol[T]):
    """What a task makes of records."""

    @property
    def settings(self) -> str:
        """All that examples depend on beside the text and the tokenizer, as part of the cache key."""
        ...

    def read(self, record: Record, data: DataConfig) -> T | BadRecord:
        """A record as the task sees it, or why it cannot be used."""
        ...

    def texts(self, item: T) -> Sequence[str]:
        """Its texts: the tokenizer learns from them, and their hash decides which part it goes to."""
        ...

    def label(self, item: T) -> str | None:
        """Its class by name, where the task has such."""
        ...

    def adapt(self, tokenizer: Tokenizer) -> Tokenizer:
        """The tokenizer with the control tokens and the chat template that the task needs."""
        ...

    def encode(
        self, items: Sequence[T], tokenizer: Tokenizer, labels: Sequence[str]
    ) -> Sequence[Example | Sequence[Example] | str]:
        """Examples of items, side by side, of one item perhaps several; or a sentence why it cannot be used, such as a
        target beyond the block.

        ``labels`` are the names of the classes in order; empty where the task has none.
        """
        ...


def truncate(ids: Sequence[int], size: int, side: Truncation) -> list[int]:
    """At most ``size`` of the ids, in their order; ``cut`` says which part is left out where there are more.

    The middle leaves the beginning and the end, and of an odd number the beginning has one more.
    """
    if len(ids) <= size:
        return list(ids)
    size = max(size, 0)
    begin = {"tail": size, "head": 0, "middle": size - size // 2}[side]
    return [*ids[:begin], *ids[len(ids) - (size - begin) :]]
