"""Work that a person begins on a page, sees growing, and can stop; who leaves the page stops it as well."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from nicegui import context, ui
from nicegui.elements.mixins.disableable_element import DisableableElement

_PAUSE = 0.08  # seconds between two looks at a text that grows


class Flow:
    """One piece of work at a time."""

    def __init__(self, begins: Sequence[DisableableElement], stop: ui.button) -> None:
        """``begins`` are what begins it, and cannot be used while it runs; ``stop`` can only then."""
        self._begins, self._stop = begins, stop
        self._task: asyncio.Task[object] | None = None
        self._is_stopped = False
        stop.disable()
        stop.on_click(self.stop)
        context.client.on_delete(self.stop)

    @property
    def is_running(self) -> bool:
        """Whether it is under way."""
        return self._task is not None

    @contextmanager
    def running(self) -> Generator[None]:
        """What the block does can be stopped: it is left then, and what follows it goes on."""
        self._task, self._is_stopped = asyncio.current_task(), False
        self._show(is_running=True)
        try:
            yield
        except asyncio.CancelledError:
            if not self._is_stopped:
                raise
        finally:
            self._task = None
            self._show(is_running=False)

    def stop(self) -> None:
        """End it where it is."""
        if self._task is not None:
            self._is_stopped = True
            self._task.cancel()

    def _show(self, *, is_running: bool) -> None:
        for element in (*self._begins, self._stop):
            if not element.is_deleted:
                element.set_enabled(is_running == (element is self._stop))


class Pace:
    """Tells when it is time to show again what has grown: the longer it is, the less often."""

    def __init__(self) -> None:
        self._last = 0.0

    def is_due(self, length: int = 0) -> bool:
        """Whether so many characters are to be shown now."""
        now = time.monotonic()
        if now - self._last < _PAUSE + length / 50_000:
            return False
        self._last = now
        return True
