"""An example, the token ids of one record, and the protocol by which a task turns records into examples.

An ``ExampleFormat`` says how a record is read, which of its texts the tokenizer is trained on, and how it is encoded.
Splitting, caching and batching are the same for all tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from penna.config.sections import DataConfig
from penna.config.tasks import Truncation
from penna.data.sources.records import BadRecord, Record
from penna.tokenizer.tokenizer import Tokenizer

T = TypeVar("T")  # an item: a record as a task reads it


@dataclass(frozen=True, slots=True)
class Example:
    """One record as the model reads it."""

    ids: Sequence[int]  # what a decoder reads, its separator first; at least one
    target_mask: Sequence[bool] | None = None  # per id, whether it is a target; the first never is. None: all others
    label: int | None = None  # the index of the class
    source: Sequence[int] = ()  # what an encoder reads
    truncated: bool = False  # whether a part of the record was dropped to make it fit


class ExampleFormat(Protocol[T]):
    """How a task turns records into examples."""

    @property
    def settings(self) -> str:
        """Everything that examples depend on besides the text and the tokenizer; part of the cache key."""
        ...

    def read(self, record: Record, data: DataConfig) -> T | BadRecord:
        """A record as an item, or why it cannot be used."""
        ...

    def texts(self, item: T) -> Sequence[str]:
        """The texts of an item: the tokenizer is trained on them, and their hash decides the item's part."""
        ...

    def label(self, item: T) -> str | None:
        """The class of an item by name, if the task has classes."""
        ...

    def adapt(self, tokenizer: Tokenizer) -> Tokenizer:
        """The tokenizer with the control tokens and the chat template that the task needs."""
        ...

    def encode(
        self, items: Sequence[T], tokenizer: Tokenizer, labels: Sequence[str]
    ) -> Sequence[Example | Sequence[Example] | str]:
        """For each item its example, its examples, or the reason why it cannot be used.

        ``labels`` are the names of the classes in order; empty if the task has none.
        """
        ...


def truncate(ids: Sequence[int], size: int, side: Truncation) -> list[int]:
    """At most ``size`` of the ids, in order; ``side`` says which part of a longer sequence is dropped.

    Without the middle, the start keeps one more id than the end if ``size`` is odd.
    """
    if len(ids) <= size:
        return list(ids)
    size = max(size, 0)
    start = {"tail": size, "head": 0, "middle": size - size // 2}[side]
    return [*ids[:start], *ids[len(ids) - (size - start) :]]
