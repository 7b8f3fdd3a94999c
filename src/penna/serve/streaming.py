"""Long responses: event streams, whole responses, and what ends both early.

If the client disconnects or the request takes too long, the work is cancelled. A stream ends with ``data: [DONE]``; an
error after its start is its last event. sse-starlette is not used: it limits the time of single sends but not of the
whole response, and it replaces uvicorn's shutdown, which must give streams ``drain_seconds`` to finish.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Generator
from contextlib import aclosing, contextmanager
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from penna.errors import PennaError
from penna.serve.errors import ClientDisconnected, RequestRejected, error_event
from penna.serve.json_body import dump_json

T = TypeVar("T")
_LOG = logging.getLogger(__name__)
_SEND_SECONDS = 5.0  # after the request's time limit, for a slow client to receive what is ready


class StreamLimit:
    """Counts open streams and limits their number."""

    def __init__(self, maximum: int) -> None:
        self.open, self._maximum = 0, maximum

    @contextmanager
    def slot(self) -> Generator[None]:
        """Count one stream while it is open. Raises RequestRejected at the limit."""
        if self.open >= self._maximum:
            raise RequestRejected(
                f"{self.open:,} streams are open.",
                f"This server allows at most {self._maximum:,}.",
                "Try again in a second, or without stream.",
                code="busy",
                status=429,
                headers={"Retry-After": "1"},
            )
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1


async def run_until_disconnect(request: Request, work: Awaitable[T], seconds: float) -> T:
    """The result of ``work``. It is cancelled if the client disconnects (ClientDisconnected) or the time is up."""
    working = asyncio.ensure_future(work)
    disconnect = asyncio.ensure_future(_disconnected(request.receive))
    try:
        done, _ = await asyncio.wait({working, disconnect}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if working in done:
            return working.result()
        if disconnect in done:
            raise ClientDisconnected
        raise _timed_out(seconds)
    finally:
        await _cancel(working, disconnect)


async def event_stream(
    request: Request, chunks: AsyncGenerator[Any], streams: StreamLimit, seconds: float
) -> EventStream:
    """A stream of events. An error before the first event is raised, so that it becomes an error response."""
    end = asyncio.get_running_loop().time() + seconds
    events = _events(chunks, streams, end, seconds)
    try:
        first = await run_until_disconnect(request, anext(events), seconds)
    except BaseException:
        await events.aclose()
        raise
    return EventStream(first, events, end + _SEND_SECONDS)


class EventStream(Response):
    """Server-sent events. If the client disconnects or reads too slowly, their source is closed."""

    media_type = "text/event-stream"

    def __init__(self, first: str, events: AsyncGenerator[str], end: float) -> None:
        """Send ``first`` and then ``events``, until the event loop's time is ``end``."""
        super().__init__()
        del self.headers["content-length"]
        self._first, self._events, self._end = first, events, end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all events."""
        sending, disconnect = asyncio.ensure_future(self._send(send)), asyncio.ensure_future(_disconnected(receive))
        try:
            left = self._end - asyncio.get_running_loop().time()
            done, _ = await asyncio.wait({sending, disconnect}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if sending in done:
                sending.result()
        finally:
            await _cancel(sending, disconnect)
            await self._events.aclose()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self._first.encode("utf-8"), "more_body": True})
        async for event in self._events:
            await send({"type": "http.response.body", "body": event.encode("utf-8"), "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _events(chunks: AsyncGenerator[Any], streams: StreamLimit, end: float, seconds: float) -> AsyncGenerator[str]:
    """Each chunk as an event, then the end marker."""
    has_started = False
    async with aclosing(chunks):
        with streams.slot():
            try:
                while True:
                    try:
                        async with asyncio.timeout_at(end):
                            chunk = await anext(chunks, None)
                    except TimeoutError:
                        raise _timed_out(seconds) from None
                    if chunk is None:
                        break
                    has_started = True
                    yield _event(chunk)
                yield "data: [DONE]\n\n"
            except Exception as error:
                if not has_started:
                    raise
                if not isinstance(error, PennaError):
                    _LOG.exception("A stream failed")
                yield _event(error_event(error))


def _event(content: Any) -> str:
    return f"data: {dump_json(content)}\n\n"


async def _disconnected(receive: Receive) -> None:
    """Return when the client disconnects."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _cancel(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks and wait for their end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _timed_out(seconds: float) -> RequestRejected:
    return RequestRejected(
        f"The request took longer than {seconds:g} seconds.",
        "A request must end within that time.",
        "Request fewer tokens or texts, or try again when the server is less busy.",
        code="timeout",
        status=504,
    )
