"""Signals: the first SIGINT or SIGTERM asks for a clean stop, a second one kills the process."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """The signal that asked to stop, or None."""

    signal: int | None = None


@contextmanager
def catch_stop_signals() -> Generator[StopRequest]:
    """Catch SIGINT and SIGTERM while the block runs. Only the main thread can; elsewhere the request stays empty."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def handle(number: int, frame: FrameType | None) -> None:
        request.signal = number
        for each in previous:
            signal.signal(each, signal.SIG_DFL)

    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in previous:
        signal.signal(number, handle)
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
