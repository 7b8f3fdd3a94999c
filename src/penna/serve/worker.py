"""One loaded model that serves many clients.

``Worker`` is the asyncio side: it validates requests at once and queues them up to a limit. The model runs in a thread
of its own (``penna.serve.model_thread``). When a client disconnects, its slots are free before the engine's next step.
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
from penna.generate.text_stream import DEFAULT_STYLE, TextDelta, TextStream, TextStyle
from penna.loading import LoadedModel
from penna.serve.generation_job import DeltaStream, GenerationJob, ModelCall, ModelClosing
from penna.serve.model_thread import ModelThread
from penna.serve.settings import ServeSettings

T = TypeVar("T")
_NO_DEFAULTS = GenerationConfig()  # compared by identity
_ABORT_SECONDS = 5.0  # after the drain, for work that cannot be interrupted at once


class Busy(PennaError):  # noqa: N818 - an expected state, not a bug
    """A queue is full."""

    exit_code = 1

    def __init__(self, happened: str, expected: str, retry_after: float) -> None:
        super().__init__(happened, expected, f"Try again in {retry_after:.0f} s.")
        self.retry_after = retry_after  # seconds


@dataclass(frozen=True)
class WorkerGauges:
    """What a worker does now, and its totals."""

    running: int  # texts being generated
    waiting: int  # texts waiting for a slot
    calls: int  # other calls, waiting or running
    texts: int  # total accepted
    tokens: int  # total generated
    failures: int  # total texts that ended with an error


class Worker:
    """A model, its engine and their thread."""

    def __init__(self, loaded: LoadedModel, settings: ServeSettings, *, slots: int | None = None) -> None:
        """``slots`` texts are generated at once, by default as many as the settings say. Raises DeviceError if there is
        no memory for one, and InteropError if the model's own generation settings are invalid."""
        self.loaded = loaded
        self._defaults = default_settings(loaded, _NO_DEFAULTS)
        self._engine = Engine(loaded.model, slots=slots or settings.slots)
        self._max_waiting = settings.max_waiting
        self._is_closing = False
        self._thread = ModelThread(loaded, self._engine)

    def defaults(self, otherwise: GenerationConfig) -> GenerationConfig:
        """The model's own generation settings when it was loaded; ``otherwise`` if it has none."""
        return otherwise if self._defaults is _NO_DEFAULTS else self._defaults

    @property
    def is_idle(self) -> bool:
        """Whether no text and no call is running or waiting."""
        return not (self._thread.open_texts or self._thread.open_calls)

    def generate(
        self, requests: Sequence[Request], style: TextStyle = DEFAULT_STYLE
    ) -> AsyncGenerator[TextDelta, None]:
        """Generate texts; yields their deltas, whose ``request`` is the index in ``requests``.

        Raises at once: Busy if too many texts wait, ModelClosing, DataError or DeviceError for a text that can never be
        generated, and RunError without a tokenizer. Raises while iterating: ModelClosing, DeviceError if memory runs
        out, and InternalError.
        """
        tokenizer = self.loaded.require_tokenizer()
        slots = self._engine.slots
        capacity = slots + self._max_waiting
        if len(requests) > capacity:
            raise DataError(
                f"The request is for {len(requests):,} texts at once.",
                f"At most {capacity:,} are accepted: {slots:,} running and {self._max_waiting:,} waiting.",
                "Request fewer at a time.",
            )
        for request in requests:
            self._engine.check(request)
        streams = [TextStream(tokenizer, request, style) for request in requests]
        job = GenerationJob(requests, streams, asyncio.get_running_loop())
        with self._thread.lock:
            self._check_open()
            waiting = max(0, self._thread.open_texts - slots)
            if self._thread.open_texts + len(requests) > capacity:
                raise self._busy(f"{waiting:,} texts", waiting + 1)
            self._thread.open_texts += len(requests)
            self._thread.start_job(job)
        return DeltaStream(job, self._thread.cancel_job)

    async def call(self, function: Callable[[LoadedModel], T]) -> T:
        """Call ``function`` with the model, in the model's thread between two engine steps.

        If the caller is cancelled, a waiting call is dropped and a running one stops before the model's next layer.
        Raises Busy if too many calls wait, ModelClosing, and the errors of ``function``.
        """
        call = ModelCall(function)
        with self._thread.lock:
            self._check_open()
            if self._thread.open_calls > self._max_waiting:
                raise self._busy(f"{self._thread.open_calls - 1:,} requests", 1)
            self._thread.open_calls += 1
            self._thread.start_call(call)
        try:
            return await asyncio.wrap_future(call.future)
        finally:
            call.is_abandoned = True

    async def close(self, drain: float) -> None:
        """Accept no more work, let running work end within ``drain`` seconds, then abort it."""
        with self._thread.lock:
            self._is_closing = True
            self._thread.close()
        ended = asyncio.wrap_future(self._thread.ended)
        done, _ = await asyncio.wait([ended], timeout=drain)
        if not done:
            self._thread.abort()
            await asyncio.wait([ended], timeout=_ABORT_SECONDS)

    def gauges(self) -> WorkerGauges:
        """What the worker does now, and its totals."""
        thread, texts = self._thread, self._thread.open_texts
        running = min(texts, self._engine.slots)
        return WorkerGauges(running, texts - running, thread.open_calls, thread.texts, thread.tokens, thread.failures)

    def _check_open(self) -> None:
        if self._is_closing:
            raise ModelClosing("The model is being unloaded.", "It accepts no more requests.", "Try again in a moment.")

    def _busy(self, waiting: str, turns: int) -> Busy:
        """An error that estimates when ``turns`` texts have got a slot."""
        seconds = math.ceil(self._thread.seconds_per_text * turns / self._engine.slots)
        return Busy(
            f"{waiting} are already waiting for this model.",
            f"At most {self._max_waiting:,} may wait (max_waiting).",
            float(min(60, max(1, seconds))),
        )
