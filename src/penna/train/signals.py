"""Signals: the first SIGINT or SIGTERM asks the loop to stop after its step; a second one stops at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """Whether a signal asked to stop, and which."""

    signal: int | None = None


@contextmanager
def catch_stop_signals() -> Generator[StopRequest]:
    """Catch SIGINT and SIGTERM while the block runs (in the main thread; elsewhere signals are not ours to catch)."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def stop(number: int, frame: FrameType | None) -> None:
        request.signal = number
        for each in before:
            signal.signal(each, signal.SIG_DFL)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, stop)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
