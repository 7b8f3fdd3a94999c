"""The events that a trainer reports to its caller. The trainer itself prints nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Notice:
    """A line of information for the user."""

    text: str


@dataclass(frozen=True)
class Started:
    """Training is about to start."""

    step: int
    parameters: int
    device: str
    threads: int
    compiled: bool
    steps: int | None  # the last step of the run; None if the clock decides


@dataclass(frozen=True)
class Logged:
    """A row of training metrics was logged, averaged over the steps since the previous row."""

    row: dict[str, Any]
    progress: float  # the share of the budget that is spent, 0 to 1


@dataclass(frozen=True)
class Evaluated:
    """The validation data were scored."""

    row: dict[str, Any]
    is_best: bool


@dataclass(frozen=True)
class Sampled:
    """The model generated text from one of the recipe's prompts."""

    step: int
    prompt: str
    text: str
    separator: str  # shown between prompt and text


@dataclass(frozen=True)
class Saved:
    """A checkpoint is on disk."""

    step: int
    path: Path


@dataclass(frozen=True)
class Finished:
    """The run ended, or a signal stopped it."""

    step: int
    reason: str
    signal: int | None


Event = Notice | Started | Logged | Evaluated | Sampled | Saved | Finished
EventHandler = Callable[[Event], None]


def ignore_events(event: Event) -> None:
    """Ignores every event."""
