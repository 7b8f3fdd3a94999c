"""One loaded model at work for many clients: requests in, pieces of text out as they are written.

This is the side of asyncio: what may be asked is checked here at once, and what is asked waits in a queue of limited
length. The model itself lives in a thread of its own (`penna.serve.model_thread`). A client that leaves frees its slots
before the engine's next step.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from penna.api.generation_defaults import default_settings
from penna.config.generation import GenerationConfig
from penna.errors import DataError, PennaError
from penna.generate.engine import Engine
from penna.generate.request import Request
from penna.generate.text_stream import GrowingText, TextDelta
from penna.loading import LoadedModel
from penna.serve.job import DeltaStream, GenerationJob, ModelCall
from penna.serve.job import InternalError as InternalError
from penna.serve.job import ModelClosing as ModelClosing
from penna.serve.model_thread import ModelThread
from penna.serve.settings import ServeSettings

T = TypeVar("T")
_NONE_GIVEN = GenerationConfig()
_PATIENCE = 5.0  # seconds behind the drain for work that cannot be cut off


class Busy(PennaError):  # noqa: N818 - no fault
    """A queue that is full."""

    exit_code = 1

    def __init__(self, happened: str, expected: str, retry_after: float) -> None:
        super().__init__(happened, expected, f"Ask again in {retry_after:.0f} s.")
        self.retry_after = retry_after  # seconds


@dataclass(frozen=True)
class WorkerGauges:
    """What a worker does and did."""

    running: int  # texts that hold a slot
    waiting: int  # texts that wait for one
    calls: int  # other work, waiting or under way
    texts: int  # taken in, in all
    tokens: int  # written, in all
    failures: int  # texts that ended by a fault, in all


class Worker:
    """A model, its engine and the thread they live in."""

    def __init__(self, loaded: LoadedModel, settings: ServeSettings, *, slots: int | None = None) -> None:
        """``slots`` texts are written at once, as the settings say unless given. Raises DeviceError where there is no
        memory for one, and ExchangeError where the model's own settings cannot be followed."""
        self.loaded = loaded
        self._own = default_settings(loaded, _NONE_GIVEN)
        self._engine = Engine(loaded.model, slots=slots or settings.slots)
        self._max_waiting = settings.max_waiting
        self._is_closing = False
        self._thread = ModelThread(loaded, self._engine)

    def defaults(self, otherwise: GenerationConfig) -> GenerationConfig:
        """The model's own settings as they were when it was loaded; ``otherwise`` where it has none."""
        return otherwise if self._own is _NONE_GIVEN else self._own

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way, nor waits."""
        return not (self._thread.held or self._thread.called)

    def generate(self, requests: Sequence[Request], *, show_special: bool = False) -> AsyncGenerator[TextDelta, None]:
        """Write texts: pieces of all of them as they grow; ``Piece.request`` is the place in ``requests``.

        At once, not with the first piece: raises Busy where too many texts wait, Closing where the model is being put
        away, DataError or DeviceError where a text can never be written, and RunError where there is no tokenizer. With
        a piece: Closing, DeviceError where memory went short on the way, and WorkError where writing failed.
        """
        tokenizer = self.loaded.require_tokenizer()
        slots = self._engine.slots
        room = slots + self._max_waiting
        if len(requests) > room:
            raise DataError(
                f"{len(requests):,} texts are asked for at once.",
                f"At most {room:,}: {slots:,} that are written and {self._max_waiting:,} that wait.",
                "Ask for fewer at a time.",
            )
        for request in requests:
            self._engine.check(request)
        texts = [GrowingText(tokenizer, request, show_special=show_special) for request in requests]
        job = GenerationJob(requests, texts, asyncio.get_running_loop())
        with self._thread.lock:
            self._check_open()
            waiting = max(0, self._thread.held - slots)
            if self._thread.held + len(requests) > room:
                raise self._busy(f"{waiting:,} texts", waiting + 1)
            self._thread.held += len(requests)
            self._thread.write(job)
        return DeltaStream(job, self._thread.leave)

    async def call(self, function: Callable[[LoadedModel], T]) -> T:
        """What ``function`` makes of the model, on the model's own thread, between two steps.

        Where the caller is cancelled it is not begun, or, where it runs, stopped before it reads through another layer
        of the model: others wait no longer for what nobody wants. Only tokens that the model writes within it are
        written first. Raises Busy where too much such work waits, Closing, and whatever ``function`` raises.
        """
        call = ModelCall(function)
        with self._thread.lock:
            self._check_open()
            if self._thread.called > self._max_waiting:
                raise self._busy(f"{self._thread.called - 1:,} requests", 1)
            self._thread.called += 1
            self._thread.call(call)
        try:
            return await asyncio.wrap_future(call.future)
        finally:
            call.is_left = True

    async def close(self, drain: float) -> None:
        """Take nothing in any more, and let what runs end within ``drain`` seconds; then cut it off."""
        with self._thread.lock:
            self._is_closing = True
            self._thread.close()
        ended = asyncio.wrap_future(self._thread.ended)
        done, _ = await asyncio.wait([ended], timeout=drain)
        if not done:
            self._thread.cut_off()
            await asyncio.wait([ended], timeout=_PATIENCE)

    def gauges(self) -> WorkerGauges:
        """What it does now and did in all."""
        thread, held = self._thread, self._thread.held
        running = min(held, self._engine.slots)
        return WorkerGauges(running, held - running, thread.called, thread.texts, thread.tokens, thread.failures)

    def _check_open(self) -> None:
        if self._is_closing:
            raise ModelClosing(
                "This model is being put away.", "A model that takes requests.", "Ask again in a moment."
            )

    def _busy(self, waiting: str, turns: int) -> Busy:
        """The error that says so, and when so many of those that wait will have a slot, about."""
        seconds = math.ceil(self._thread.seconds * turns / self._engine.slots)
        return Busy(
            f"{waiting} wait for this model already.",
            f"At most {self._max_waiting:,} (max_waiting).",
            float(min(60, max(1, seconds))),
        )
