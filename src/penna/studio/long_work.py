"""Work of minutes, such as an evaluation or a comparison: a few pieces at once, in threads that nobody waits for.

asyncio's own threads are for what takes moments: every page and the API share them, and a process ends only when they
have. Here each piece has a thread of its own, which waits for its turn, and is cut off where the process ends.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import ParamSpec, TypeVar

from penna.serve.model_thread import THREAD_NAME

P = ParamSpec("P")
T = TypeVar("T")


class LongWork:
    """What a studio does besides its models' work."""

    def __init__(self, at_once: int = 2) -> None:
        self._turn = threading.Semaphore(at_once)
        self._ending = threading.Event()

    @property
    def is_ending(self) -> bool:
        """Whether what can stop should."""
        return self._ending.is_set()

    async def done(self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """What the function gives. Where the caller is cancelled before its turn, it is not begun."""
        return await asyncio.wrap_future(self.begin(partial(function, *arguments, **named)))

    def begin(self, function: Callable[[], T]) -> Future[T]:
        """Call the function when it is its turn."""
        future: Future[T] = Future()
        threading.Thread(
            target=self._work, args=(function, future), name=f"{THREAD_NAME} at long work", daemon=True
        ).start()
        return future

    def end(self) -> None:
        """Begin nothing more, and let those that look at `is_ending` stop."""
        self._ending.set()

    def _work(self, function: Callable[[], T], future: Future[T]) -> None:
        with self._turn:
            if self.is_ending or not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)
