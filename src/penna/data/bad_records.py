"""Bad records, counted and named, and the stop where a recipe's data hold more of them than it allows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from penna.config.sections import DataConfig
from penna.data.reading.records import BadRecord
from penna.errors import DataError

_SHOWN = 5  # named in a message
KEPT = 100  # kept with their reasons; the others are only counted


class BadRecords:
    """The bad records of a source: how many there are, and the first of them."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[BadRecord] = []

    def add(self, record: BadRecord) -> None:
        """Count one, and keep it where it is among the first."""
        self.count += 1
        if len(self.first) < KEPT:
            self.first.append(record)

    def extend(self, count: int, first: Iterable[BadRecord]) -> None:
        """Count ``count`` more, of which ``first`` are the first."""
        self.count += count
        self.first = [*self.first, *first][:KEPT]


def check_bad_records(count: int, first: Sequence[BadRecord], total: int, config: DataConfig) -> None:
    """Raise DataError where ``count`` of ``total`` records are bad, and that is more than ``allow_bad_records``."""
    if count > config.allow_bad_records * total:
        shown = "\n".join(f"  {record}" for record in first[:_SHOWN])
        more = count - _SHOWN
        raise DataError(
            f"{count} of {total} records cannot be used:\n{shown}" + (f"\n  and {more} more" if more > 0 else ""),
            f"At most {config.allow_bad_records:.0%} may be bad (data.allow_bad_records).",
            "Mend or remove these lines, or allow more with --data.allow-bad-records 0.1."
            if count < total
            else "None can be used, so the cause lies in the file as a whole, or in how it is read.",
        )
