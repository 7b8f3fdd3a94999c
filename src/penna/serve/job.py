"""What a client asked of a model, while it is under way: texts that grow, and what they have to tell.

The model's thread puts pieces in (`penna.serve.model_thread`), the client takes them out (`Writing`), and where the
client is gone, in whatever way, the texts are given up.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from penna.errors import PennaError
from penna.generate.request import Request
from penna.generate.text_stream import GrowingText, TextDelta
from penna.loading import LoadedModel


class ModelClosing(PennaError):  # noqa: N818 - no fault
    """A model that is being put away."""

    exit_code = 1


def server_stopping() -> ModelClosing:
    """What is told to those who are not served to the end, or not at all, since the server stops."""
    return ModelClosing("The server stops.", "Requests that end while it waits for them.", "Ask again later.")


class InternalError(PennaError):
    """A fault of ours in the middle of the work."""

    exit_code = 1


Told = TextDelta | PennaError | None  # None: all texts are over


@dataclass(eq=False)
class GenerationJob:
    """Texts that are written for one client."""

    requests: Sequence[Request]
    texts: Sequence[GrowingText]
    loop: asyncio.AbstractEventLoop
    told: asyncio.Queue[Told] = field(default_factory=asyncio.Queue[Told])  # only the loop touches it
    begun: float = field(default_factory=time.monotonic)
    left: set[int] = field(init=False)  # places of the texts that are not over
    is_over: bool = False

    def __post_init__(self) -> None:
        self.left = set(range(len(self.requests)))


@dataclass(eq=False)
class ModelCall:
    """Other work on a model."""

    function: Callable[[LoadedModel], Any]
    future: Future[Any] = field(default_factory=Future[Any])
    is_left: bool = False  # nobody waits for it any more


class DeltaStream(AsyncGenerator[TextDelta, None]):
    """Pieces of a job's texts. Closed, cancelled while it is waited for or forgotten, it gives the texts up."""

    def __init__(self, job: GenerationJob, leave: Callable[[GenerationJob], None]) -> None:
        self._job = job
        self._leave = leave
        self._is_over = False

    async def asend(self, value: None) -> TextDelta:
        """The next piece."""
        if self._is_over:
            raise StopAsyncIteration
        try:
            told = await self._job.told.get()
        except BaseException:
            self._give_up()
            raise
        if isinstance(told, TextDelta):
            return told
        self._is_over = True
        raise StopAsyncIteration if told is None else told

    async def athrow(self, typ: Any, val: Any = None, tb: Any = None) -> TextDelta:
        """End it by an exception."""
        self._give_up()
        raise typ if val is None else val

    async def aclose(self) -> None:
        """End it, wherever it is."""
        self._give_up()

    def __del__(self) -> None:
        self._give_up()

    def _give_up(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._leave(self._job)
