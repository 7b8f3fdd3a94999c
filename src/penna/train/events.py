"""What the loop tells while it runs. Whoever listens decides what to show; the loop prints nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Notice:
    """Something worth a line."""

    text: str


@dataclass(frozen=True)
class Started:
    """The first batch is about to be read."""

    step: int
    parameters: int
    device: str
    threads: int
    compiled: bool
    steps: int | None  # the end of the run, where it is known


@dataclass(frozen=True)
class Logged:
    """A row was logged for the steps since the last one."""

    row: dict[str, Any]
    progress: float  # share of the budget that is spent, 0 to 1


@dataclass(frozen=True)
class Evaluated:
    """The validation text was scored."""

    row: dict[str, Any]
    is_best: bool


@dataclass(frozen=True)
class Sampled:
    """The model wrote from a fixed prompt."""

    step: int
    prompt: str
    text: str
    separator: str  # what stands between the two where both are shown


@dataclass(frozen=True)
class Saved:
    """A checkpoint is on disk."""

    step: int
    path: Path


@dataclass(frozen=True)
class Finished:
    """The run is over, or was stopped by a signal."""

    step: int
    reason: str
    signal: int | None


Event = Notice | Started | Logged | Evaluated | Sampled | Saved | Finished
EventHandler = Callable[[Event], None]


def ignore_events(event: Event) -> None:
    """The listener that does not."""
