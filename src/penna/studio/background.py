"""Work that takes long: background threads for minutes, and page tasks that a button stops.

asyncio's own threads are for calls of seconds: all pages and the API share them, and the process waits for them when it
ends. A background thread is abandoned at that point.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from typing import ParamSpec, TypeVar

from nicegui import context, ui
from nicegui.elements.mixins.disableable_element import DisableableElement

from penna.serve.model_thread import THREAD_NAME

P = ParamSpec("P")
T = TypeVar("T")
_UPDATE_SECONDS = 0.08  # between two updates of a growing text


class BackgroundThreads:
    """Threads for evaluations and comparisons; at most ``limit`` run at a time and the others wait."""

    def __init__(self, limit: int = 2) -> None:
        self._slots = threading.Semaphore(limit)
        self._stopping = threading.Event()

    @property
    def is_stopping(self) -> bool:
        """Whether running work should end."""
        return self._stopping.is_set()

    async def run(self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Run a call and return its result. It never starts if the caller is canceled first."""
        return await asyncio.wrap_future(self.start(partial(function, *arguments, **named)))

    def start(self, function: Callable[[], T]) -> Future[T]:
        """Start a call as soon as a slot is free."""
        future: Future[T] = Future()
        threading.Thread(
            target=self._run, args=(function, future), name=f"{THREAD_NAME} background", daemon=True
        ).start()
        return future

    def stop(self) -> None:
        """Start nothing more, and set ``is_stopping``."""
        self._stopping.set()

    def _run(self, function: Callable[[], T], future: Future[T]) -> None:
        with self._slots:
            if self.is_stopping or not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)


class StoppableTask:
    """One task of a page at a time; a button or leaving the page stops it."""

    def __init__(self, start_elements: Sequence[DisableableElement], stop: ui.button) -> None:
        """``start_elements`` are disabled while the task runs, ``stop`` while it does not."""
        self._start_elements, self._stop = start_elements, stop
        self._task: asyncio.Task[object] | None = None
        self._is_stopped = False
        stop.disable()
        stop.on_click(self.stop)
        context.client.on_delete(self.stop)

    @property
    def is_running(self) -> bool:
        """Whether the task is running."""
        return self._task is not None

    @contextmanager
    def running(self) -> Generator[None]:
        """Run the block as the task. If it is stopped, execution continues after the block."""
        self._task, self._is_stopped = asyncio.current_task(), False
        self._update(is_running=True)
        try:
            yield
        except asyncio.CancelledError:
            if not self._is_stopped:
                raise
        finally:
            self._task = None
            self._update(is_running=False)

    def stop(self) -> None:
        """Cancel the task, if it runs."""
        if self._task is not None:
            self._is_stopped = True
            self._task.cancel()

    def _update(self, *, is_running: bool) -> None:
        for element in (*self._start_elements, self._stop):
            if not element.is_deleted:
                element.set_enabled(is_running == (element is self._stop))


class UpdateThrottle:
    """Limits how often a growing text is redrawn: the longer it is, the less often."""

    def __init__(self) -> None:
        self._last = 0.0

    def is_due(self, length: int = 0) -> bool:
        """Whether a text of ``length`` characters should be redrawn now."""
        now = time.monotonic()
        if now - self._last < _UPDATE_SECONDS + length / 50_000:
            return False
        self._last = now
        return True
