"""Where requests are read before a model is asked, and long answers written: a few threads, and a queue that ends.

A text of a megabyte takes a good part of a second. In the threads that all of asyncio shares, a few clients who ask for
that, and leave, would hold up whatever else needs one; here they hold up each other, and are sent away beyond a number.
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
    """Threads for it, and those who wait for one."""

    def __init__(self, max_waiting: int) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, "penna reading")
        self._places = threading.Semaphore(_THREADS + max_waiting)
        self._max_waiting = max_waiting

    async def run(self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """What a function comes to, done in one of the threads; not begun where the caller is cancelled before. Raises
        Busy where too many wait."""
        if not self._places.acquire(blocking=False):
            raise Busy(
                f"{self._max_waiting:,} requests wait to be read.", f"At most {self._max_waiting:,} (max_waiting).", 1.0
            )
        future = self._threads.submit(function, *arguments, **named)
        future.add_done_callback(self._give_back)
        return await asyncio.wrap_future(future)

    def _give_back(self, _: Future[Any]) -> None:
        self._places.release()
