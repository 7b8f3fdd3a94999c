"""Work for a model's thread: generation jobs and calls, and the stream from which a client reads a job's text."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from penna.errors import PennaError
from penna.generate.request import Request
from penna.generate.text_stream import TextDelta, TextStream
from penna.loading import LoadedModel


class ModelClosing(PennaError):  # noqa: N818 - an expected state, not a bug
    """The model is being unloaded, or the server is stopping."""

    exit_code = 1


def server_stopping() -> ModelClosing:
    """The error for requests that a stopping server does not accept or finish."""
    return ModelClosing("The server is stopping.", "A request must end before that.", "Try again later.")


class InternalError(PennaError):
    """A bug in Penna that interrupted generation."""

    exit_code = 1


JobEvent = TextDelta | PennaError | None  # None: all texts have ended


@dataclass(eq=False)
class GenerationJob:
    """The texts that are generated for one client."""

    requests: Sequence[Request]
    streams: Sequence[TextStream]
    loop: asyncio.AbstractEventLoop
    events: asyncio.Queue[JobEvent] = field(default_factory=asyncio.Queue[JobEvent])  # used by ``loop`` only
    started: float = field(default_factory=time.monotonic)
    unfinished: set[int] = field(init=False)  # indices of texts
    is_over: bool = False

    def __post_init__(self) -> None:
        self.unfinished = set(range(len(self.requests)))


@dataclass(eq=False)
class ModelCall:
    """A function to call with the model."""

    function: Callable[[LoadedModel], Any]
    future: Future[Any] = field(default_factory=Future[Any])
    is_abandoned: bool = False  # nobody waits for the result any more


class DeltaStream(AsyncGenerator[TextDelta, None]):
    """The deltas of a job. The job is cancelled if the stream is closed, its reader is cancelled, or it is deleted."""

    def __init__(self, job: GenerationJob, cancel: Callable[[GenerationJob], None]) -> None:
        self._job = job
        self._cancel = cancel
        self._is_over = False

    async def asend(self, value: None) -> TextDelta:
        """The next delta."""
        if self._is_over:
            raise StopAsyncIteration
        try:
            event = await self._job.events.get()
        except BaseException:
            self._close()
            raise
        if isinstance(event, TextDelta):
            return event
        self._is_over = True
        raise StopAsyncIteration if event is None else event

    async def athrow(self, typ: Any, val: Any = None, tb: Any = None) -> TextDelta:
        """Cancel the job and raise an exception."""
        self._close()
        raise typ if val is None else val

    async def aclose(self) -> None:
        """Cancel the job."""
        self._close()

    def __del__(self) -> None:
        self._close()

    def _close(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._cancel(self._job)
