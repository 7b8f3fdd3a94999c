"""Answers that take their time: streams of events, whole answers, and what ends both before they are done.

A client that leaves is noticed at once, and what was made for it is cancelled; so is what takes longer than a request
may. Streams end in ``data: [DONE]``; an error in the middle of one is its last event.
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
_TO_TAKE_IT = 5.0  # seconds a slow reader has for what was made within the time


class StreamLimit:
    """How many streams are open, and how many may be."""

    def __init__(self, most: int) -> None:
        self.open, self._most = 0, most

    @contextmanager
    def one(self) -> Generator[None]:
        """Hold one open. Raises RequestRejected where there are as many as may be."""
        if self.open >= self._most:
            raise RequestRejected(
                f"{self.open:,} streams are open.",
                f"At most {self._most:,} at once.",
                "Ask again in a second, or without a stream.",
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
    """What ``work`` comes to; it is cancelled where the client leaves or the time is over."""
    doing = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(request.receive))
    try:
        done, _ = await asyncio.wait({doing, leaving}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if doing in done:
            return doing.result()
        if leaving in done:
            raise ClientDisconnected
        raise _too_long(seconds)
    finally:
        await _cancelled(doing, leaving)


async def event_stream(
    request: Request, chunks: AsyncGenerator[Any], streams: StreamLimit, seconds: float
) -> EventStream:
    """An answer in events. Whatever is raised before the first of them is raised here, and can be told by a status."""
    end = asyncio.get_running_loop().time() + seconds
    events = _events(chunks, streams, end, seconds)
    try:
        first = await run_until_disconnect(request, anext(events), seconds)
    except BaseException:
        await events.aclose()
        raise
    return EventStream(first, events, end + _TO_TAKE_IT)


class EventStream(Response):
    """Server-sent events; where the client leaves, or reads too slowly, what makes them is closed."""

    media_type = "text/event-stream"

    def __init__(self, first: str, events: AsyncGenerator[str], end: float) -> None:
        """``first`` and then ``events``, until the loop's time is ``end``."""
        super().__init__()
        del self.headers["content-length"]
        self._first, self._events, self._end = first, events, end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them all."""
        sending, leaving = asyncio.ensure_future(self._send(send)), asyncio.ensure_future(_left(receive))
        try:
            left = self._end - asyncio.get_running_loop().time()
            done, _ = await asyncio.wait({sending, leaving}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if sending in done:
                sending.result()
        finally:
            await _cancelled(sending, leaving)
            await self._events.aclose()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self._first.encode("utf-8"), "more_body": True})
        async for event in self._events:
            await send({"type": "http.response.body", "body": event.encode("utf-8"), "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _events(chunks: AsyncGenerator[Any], streams: StreamLimit, end: float, seconds: float) -> AsyncGenerator[str]:
    """Each chunk as an event, and the end."""
    has_begun = False
    async with aclosing(chunks):
        with streams.one():
            try:
                while True:
                    try:
                        async with asyncio.timeout_at(end):
                            chunk = await anext(chunks, None)
                    except TimeoutError:
                        raise _too_long(seconds) from None
                    if chunk is None:
                        break
                    has_begun = True
                    yield _event(chunk)
                yield "data: [DONE]\n\n"
            except Exception as error:
                if not has_begun:
                    raise
                if not isinstance(error, PennaError):
                    _LOG.exception("a stream broke off")
                yield _event(error_event(error))


def _event(content: Any) -> str:
    return f"data: {dump_json(content)}\n\n"


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _cancelled(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks and let them end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _too_long(seconds: float) -> RequestRejected:
    return RequestRejected(
        f"The request took longer than {seconds:g} seconds.",
        "An answer within that time.",
        "Ask for fewer tokens or texts, or again when the server is less busy.",
        code="timeout",
        status=504,
    )
