"""The thread that a model lives in: what is asked comes through one queue, and is looked at between two steps.

Nothing else touches the engine or the model. In each turn come a piece of other work, where there is one, and a step
of the engine; what the step told is then handed to the event loops that asked, once for all texts together. Other work
that nobody waits for any more is stopped in its middle. A request that fails ends alone. Where the step itself fails,
nobody knows whose fault it is: the texts at work end, and the engine goes on empty.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from queue import SimpleQueue

from penna.errors import PennaError
from penna.generate.engine import Engine
from penna.generate.request import BeamStep, Failed, Finish, GeneratedToken
from penna.loading import LoadedModel
from penna.model.gpt import Block
from penna.serve.job import GenerationJob, InternalError, ModelCall, Told, server_stopping

_LOG = logging.getLogger("penna.serve")


THREAD_NAME = "penna model"  # and where it is from


def model_threads_running() -> bool:
    """Whether models of this process have threads that did not end."""
    return any(thread.name.startswith(THREAD_NAME) for thread in threading.enumerate())


class ModelThread:
    """A model at work; its methods may be called from anywhere."""

    def __init__(self, loaded: LoadedModel, engine: Engine) -> None:
        self.lock = threading.Lock()  # of the next two, and of what they let in
        self.held = 0  # texts that are taken in and not over
        self.called = 0  # calls, likewise
        self.texts = self.tokens = self.failures = 0  # taken in, written and ended by a fault, in all
        self.seconds = 1.0  # that a text takes, lately
        self.ended: Future[None] = Future()
        self._loaded, self._engine = loaded, engine
        self._inbox: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._live: dict[int, tuple[GenerationJob, int]] = {}  # the engine's number -> whose text, and its place
        self._calls: deque[ModelCall] = deque()
        self._telling: dict[asyncio.AbstractEventLoop, list[tuple[GenerationJob, Told]]] = {}
        self._is_closing = self._is_cut_off = False
        threading.Thread(target=self._serve, name=f"{THREAD_NAME} {loaded.source}", daemon=True).start()

    def write(self, job: GenerationJob) -> None:
        """Write the texts of a job."""
        self._inbox.put(partial(self._begin, job))

    def leave(self, job: GenerationJob) -> None:
        """Give a job up, at once where it runs."""
        self._inbox.put(partial(self._drop, job))

    def call(self, call: ModelCall) -> None:
        """Do other work."""
        self._inbox.put(partial(self._calls.append, call))

    def close(self) -> None:
        """End once all is done that was asked until now."""
        self._inbox.put(self._close)

    def cut_off(self) -> None:
        """Give up all that is under way."""
        self._is_cut_off = True
        self._inbox.put(self._give_up)

    def _serve(self) -> None:
        is_open = True
        while is_open:
            try:
                is_open = self._look_into_the_inbox()
                if self._calls:
                    self._do(self._calls.popleft())
                if not self._engine.is_idle:
                    self._step()
            except Exception as error:
                self._fail_all(error)
            self._hand_over()
        self._engine.abandon()
        self.ended.set_result(None)

    def _look_into_the_inbox(self) -> bool:
        """Do what came in, and wait for it where there is nothing else to do; whether there will be more."""
        while True:
            if self._inbox.empty():
                if self._calls or not self._engine.is_idle:
                    return True
                if self._is_closing:
                    return False
            self._inbox.get()()
            self._hand_over()

    def _close(self) -> None:
        self._is_closing = True

    def _begin(self, job: GenerationJob) -> None:
        self.texts += len(job.requests)
        if not job.requests:
            self._end(job)
        for place, request in enumerate(job.requests):
            try:
                self._live[self._engine.submit(request)] = job, place
            except Exception as error:
                self._fail(job, error)
                return

    def _step(self) -> None:
        for event in self._engine.step():
            if isinstance(event, BeamStep) or event.request not in self._live:
                continue
            job, place = self._live[event.request]
            try:
                if isinstance(event, Failed):
                    raise event.error
                self._grow(job, place, event)
            except Exception as error:
                self._fail(job, error)

    def _grow(self, job: GenerationJob, place: int, event: GeneratedToken | Finish) -> None:
        """Tell of a further bit of a text, or of its end."""
        number, text = event.request, job.texts[place]
        if isinstance(event, Finish):
            self._tell(job, text.end(_at(place, event)))
            self._finish(job, number)
        elif not text.is_stopped:
            self.tokens += 1
            self._tell(job, text.grow(replace(event, request=place)))
            if text.is_stopped:
                self._engine.cancel(number)

    def _finish(self, job: GenerationJob, number: int) -> None:
        """A text is over."""
        job.left.discard(self._live.pop(number)[1])
        self.seconds += 0.1 * (time.monotonic() - job.begun - self.seconds)
        self._release(1)
        if not job.left:
            self._end(job)

    def _end(self, job: GenerationJob) -> None:
        job.is_over = True
        self._tell(job, None)

    def _fail_all(self, error: Exception) -> None:
        """End all jobs by a fault, and let the engine go on empty."""
        jobs = {job: None for job, _ in self._live.values()}
        self._live.clear()
        self._engine.abandon()
        for job in jobs:
            self._fail(job, error)

    def _fail(self, job: GenerationJob, error: Exception) -> None:
        """End a job by a fault."""
        if job.is_over:
            return
        self.failures += len(job.left)
        if not isinstance(error, PennaError):
            _LOG.error("Writing failed", exc_info=error)
            error = InternalError(
                f"The model failed while it was writing ({type(error).__name__}).",
                "A whole text; the fault is ours, and the server's log has it.",
                "Try again, or ask for less at once.",
            )
        self._tell(job, error)
        self._drop(job)

    def _drop(self, job: GenerationJob) -> None:
        """End a job, and free what it holds."""
        if job.is_over:
            return
        for number in [number for number, (whose, _) in self._live.items() if whose is job]:
            del self._live[number]
            self._engine.cancel(number)
        self._release(len(job.left))
        job.is_over = True

    def _release(self, texts: int) -> None:
        with self.lock:
            self.held -= texts

    def _do(self, call: ModelCall) -> None:
        if call.future.set_running_or_notify_cancel():
            try:
                with self._stopped_once_left(call):
                    result = call.function(self._loaded)
            except Exception as error:
                self._called_back()
                call.future.set_exception(error)
            else:
                self._called_back()
                call.future.set_result(result)
        else:
            self._called_back()

    @contextmanager
    def _stopped_once_left(self, call: ModelCall) -> Generator[None]:
        """Let no layer of the model be read for a call that is left, or cut off."""

        def check(*_: object) -> None:
            if call.is_left:
                raise CancelledError
            if self._is_cut_off:
                raise server_stopping()

        blocks = (module for module in self._loaded.model.modules() if isinstance(module, Block))
        hooks = [block.register_forward_pre_hook(check) for block in blocks]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _called_back(self) -> None:
        with self.lock:
            self.called -= 1

    def _give_up(self) -> None:
        error = server_stopping()
        for job in {job: None for job, _ in self._live.values()}:
            self._tell(job, error)
            self._drop(job)
        for call in self._calls:
            self._called_back()
            if call.future.set_running_or_notify_cancel():
                call.future.set_exception(error)
        self._calls.clear()
        self._engine.abandon()

    def _tell(self, job: GenerationJob, told: Told) -> None:
        self._telling.setdefault(job.loop, []).append((job, told))

    def _hand_over(self) -> None:
        """Tell the clients what there is to tell."""
        telling, self._telling = self._telling, {}
        for loop, told in telling.items():
            try:
                loop.call_soon_threadsafe(_put_all, told)
            except RuntimeError:  # the loop is closed, and nobody there any more
                for job, _ in told:
                    self._drop(job)


def _put_all(told: Sequence[tuple[GenerationJob, Told]]) -> None:
    for job, each in told:
        job.told.put_nowait(each)


def _at(place: int, told: Finish) -> Finish:
    """The end of a text as whoever asked for it counts texts."""
    hypotheses = tuple(
        replace(each, tokens=tuple(replace(token, request=place) for token in each.tokens)) for each in told.hypotheses
    )
    return replace(told, request=place, hypotheses=hypotheses)
