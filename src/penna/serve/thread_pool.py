"""A small thread pool with a bounded queue, for tokenizing requests and encoding long responses.

Tokenizing a megabyte takes a good part of a second. In asyncio's shared thread pool a few clients could block
everything else that needs a thread; here they block only each other, and requests beyond the limit are rejected.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from penna.serve.worker import Busy

P = ParamSpec("P")
T = TypeVar("T")
_THREADS = 2


class RequestThreadPool:
    """Two threads; ``max_waiting`` calls may wait for one."""

    def __init__(self, max_waiting: int) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, "penna requests")
        self._slots = threading.Semaphore(_THREADS + max_waiting)
        self._max_waiting = max_waiting

    async def run(self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Call a function in one of the threads, unless the caller is cancelled first. Raises Busy if the queue is
        full."""
        if not self._slots.acquire(blocking=False):
            raise Busy(
                f"{self._max_waiting:,} requests are already waiting to be read.",
                f"At most {self._max_waiting:,} may wait (max_waiting).",
                1.0,
            )
        future = self._threads.submit(function, *arguments, **named)
        future.add_done_callback(self._release)
        return await asyncio.wrap_future(future)

    def _release(self, _: Future[Any]) -> None:
        self._slots.release()
