"""The thread that runs a model: only it touches the engine and the model.

Each turn processes the inbox, runs one waiting call and one engine step, and hands the results to the clients' event
loops, one callback per loop. A call that nobody waits for is interrupted. A request that fails ends alone. If the
engine's step itself fails, all running texts end with an error and the engine starts empty.
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
from penna.serve.generation_job import GenerationJob, InternalError, JobEvent, ModelCall, server_stopping

_LOG = logging.getLogger("penna.serve")
THREAD_NAME = "penna model"  # followed by the model's source


def model_threads_running() -> bool:
    """Whether a model thread of this process is still alive."""
    return any(thread.name.startswith(THREAD_NAME) for thread in threading.enumerate())


class ModelThread:
    """A model's thread. Its public methods are thread-safe."""

    def __init__(self, loaded: LoadedModel, engine: Engine) -> None:
        self.lock = threading.Lock()  # guards the next two and the order of the inbox
        self.open_texts = 0  # accepted and not ended
        self.open_calls = 0  # likewise
        self.texts = self.tokens = self.failures = 0  # totals
        self.seconds_per_text = 1.0  # moving average
        self.ended: Future[None] = Future()
        self._loaded, self._engine = loaded, engine
        self._inbox: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._running: dict[int, tuple[GenerationJob, int]] = {}  # the engine's number -> job, index of its text
        self._calls: deque[ModelCall] = deque()
        self._outbox: dict[asyncio.AbstractEventLoop, list[tuple[GenerationJob, JobEvent]]] = {}
        self._is_closing = self._is_aborted = False
        threading.Thread(target=self._run, name=f"{THREAD_NAME} {loaded.source}", daemon=True).start()

    def start_job(self, job: GenerationJob) -> None:
        """Generate the texts of a job."""
        self._inbox.put(partial(self._start_job, job))

    def cancel_job(self, job: GenerationJob) -> None:
        """Cancel a job before the next step."""
        self._inbox.put(partial(self._end_job, job))

    def start_call(self, call: ModelCall) -> None:
        """Run a call when it is its turn."""
        self._inbox.put(partial(self._calls.append, call))

    def close(self) -> None:
        """End the thread once all accepted work is done."""
        self._inbox.put(self._close)

    def abort(self) -> None:
        """Abort all running and waiting work."""
        self._is_aborted = True
        self._inbox.put(self._abort_all)

    def _run(self) -> None:
        is_open = True
        while is_open:
            try:
                is_open = self._process_inbox()
                if self._calls:
                    self._run_call(self._calls.popleft())
                if not self._engine.is_idle:
                    self._step()
            except Exception as error:
                self._fail_all(error)
            self._deliver()
        self._engine.abandon()
        self.ended.set_result(None)

    def _process_inbox(self) -> bool:
        """Process all messages, or wait for one if there is no other work; False if the thread should end."""
        while True:
            if self._inbox.empty():
                if self._calls or not self._engine.is_idle:
                    return True
                if self._is_closing:
                    return False
            self._inbox.get()()
            self._deliver()

    def _close(self) -> None:
        self._is_closing = True

    def _start_job(self, job: GenerationJob) -> None:
        self.texts += len(job.requests)
        if not job.requests:
            self._complete_job(job)
        for index, request in enumerate(job.requests):
            try:
                self._running[self._engine.submit(request)] = job, index
            except Exception as error:
                self._fail_job(job, error)
                return

    def _step(self) -> None:
        for event in self._engine.step():
            if isinstance(event, BeamStep) or event.request not in self._running:
                continue
            job, index = self._running[event.request]
            try:
                if isinstance(event, Failed):
                    raise event.error
                self._extend_text(job, index, event)
            except Exception as error:
                self._fail_job(job, error)

    def _extend_text(self, job: GenerationJob, index: int, event: GeneratedToken | Finish) -> None:
        number, stream = event.request, job.streams[index]
        if isinstance(event, Finish):
            self._send(job, stream.finish(_renumbered(event, index)))
            self._end_text(job, number)
        elif not stream.is_stopped:
            self.tokens += 1
            self._send(job, stream.push(replace(event, request=index)))
            if stream.is_stopped:
                self._engine.cancel(number)

    def _end_text(self, job: GenerationJob, number: int) -> None:
        job.unfinished.discard(self._running.pop(number)[1])
        self.seconds_per_text += 0.1 * (time.monotonic() - job.started - self.seconds_per_text)
        self._release_texts(1)
        if not job.unfinished:
            self._complete_job(job)

    def _complete_job(self, job: GenerationJob) -> None:
        job.is_over = True
        self._send(job, None)

    def _fail_all(self, error: Exception) -> None:
        """End all jobs with an error and empty the engine."""
        jobs = {job: None for job, _ in self._running.values()}
        self._running.clear()
        self._engine.abandon()
        for job in jobs:
            self._fail_job(job, error)

    def _fail_job(self, job: GenerationJob, error: Exception) -> None:
        if job.is_over:
            return
        self.failures += len(job.unfinished)
        if not isinstance(error, PennaError):
            _LOG.error("Generation failed", exc_info=error)
            error = InternalError(
                f"Generation failed ({type(error).__name__}).",
                "This is a bug in Penna, not in your input; the server's log has the details.",
                "Try again, or request less at once.",
            )
        self._send(job, error)
        self._end_job(job)

    def _end_job(self, job: GenerationJob) -> None:
        """End a job and free its slots."""
        if job.is_over:
            return
        for number in [number for number, (other, _) in self._running.items() if other is job]:
            del self._running[number]
            self._engine.cancel(number)
        self._release_texts(len(job.unfinished))
        job.is_over = True

    def _release_texts(self, count: int) -> None:
        with self.lock:
            self.open_texts -= count

    def _release_call(self) -> None:
        with self.lock:
            self.open_calls -= 1

    def _run_call(self, call: ModelCall) -> None:
        if not call.future.set_running_or_notify_cancel():
            self._release_call()
            return
        try:
            with self._interruptible(call):
                result = call.function(self._loaded)
        except Exception as error:
            self._release_call()
            call.future.set_exception(error)
        else:
            self._release_call()
            call.future.set_result(result)

    @contextmanager
    def _interruptible(self, call: ModelCall) -> Generator[None]:
        """Stop before the model's next layer once the call is abandoned or the thread is aborted."""

        def check(*_: object) -> None:
            if call.is_abandoned:
                raise CancelledError
            if self._is_aborted:
                raise server_stopping()

        blocks = (module for module in self._loaded.model.modules() if isinstance(module, Block))
        hooks = [block.register_forward_pre_hook(check) for block in blocks]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _abort_all(self) -> None:
        error = server_stopping()
        for job in {job: None for job, _ in self._running.values()}:
            self._send(job, error)
            self._end_job(job)
        for call in self._calls:
            self._release_call()
            if call.future.set_running_or_notify_cancel():
                call.future.set_exception(error)
        self._calls.clear()
        self._engine.abandon()

    def _send(self, job: GenerationJob, event: JobEvent) -> None:
        self._outbox.setdefault(job.loop, []).append((job, event))

    def _deliver(self) -> None:
        """Hand the events to the clients' event loops."""
        outbox, self._outbox = self._outbox, {}
        for loop, events in outbox.items():
            try:
                loop.call_soon_threadsafe(_put_all, events)
            except RuntimeError:  # the loop is closed
                for job, _ in events:
                    self._end_job(job)


def _put_all(events: Sequence[tuple[GenerationJob, JobEvent]]) -> None:
    for job, event in events:
        job.events.put_nowait(event)


def _renumbered(finish: Finish, index: int) -> Finish:
    """A finish with the job's index in place of the engine's number."""
    hypotheses = tuple(
        replace(each, tokens=tuple(replace(token, request=index) for token in each.tokens))
        for each in finish.hypotheses
    )
    return replace(finish, request=index, hypotheses=hypotheses)
