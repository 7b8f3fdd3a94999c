"""Connections: uvicorn's HTTP/1.1, which lets go of a client that takes too long, and a server that ends in good order.

uvicorn waits forever for the end of a request's first line and headers; a few thousand such clients would use up what
connections there are ("slow loris"). Here a connection that has not said all of its headers within a time is closed, as
is one that takes nothing of its answer for as long.
And uvicorn tells the application that it ends only when all answers are given or cancelled; here it tells it at once,
so that the application can end them itself, and say why.
"""

from __future__ import annotations

import asyncio
import errno
import math
import socket
from typing import ClassVar

import h11
from fastapi import FastAPI
from uvicorn import Config, Server
from uvicorn.protocols.http.h11_impl import H11Protocol

from penna.errors import DeviceError
from penna.serve.settings import ServeSettings

_CONNECTIONS = 512  # open at once, above which uvicorn answers 503
_BACKLOG = 1024  # connections that wait to be taken
_HEADERS = 32 * 1024  # bytes of the first line and headers together
_TO_SAY_SO = 6  # seconds behind the drain, in which the application tells what it did not end; then it is cancelled
_MESSAGE = 4 << 20  # bytes of one message of a web socket


class PatientProtocol(H11Protocol):
    """HTTP/1.1 that waits ``patience`` seconds for the headers of a request, and for some of an answer to be taken."""

    patience: ClassVar[float]
    _waiting: asyncio.TimerHandle | None = None
    _sending: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - as uvicorn's
        """Begin to wait for a first request."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Take bytes in; wait on where a request has begun and its headers are not whole."""
        self._wait()
        super().data_received(data)
        if self._is_answering:
            self._stop_waiting()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hand the connection over; a web socket may be quiet for long."""
        self._stop_waiting()
        super().handle_websocket_upgrade(event)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go."""
        self._stop_waiting()
        self._stop_sending()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Hold back, as the client takes less than there is; and look whether it takes anything."""
        super().pause_writing()
        self._look_again(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """Go on."""
        super().resume_writing()
        self._stop_sending()

    def _look_again(self, unsent: int) -> None:
        self._sending = self.loop.call_later(self.patience, self._give_up_sending, unsent)

    def _give_up_sending(self, unsent: int) -> None:
        left = self.transport.get_write_buffer_size()
        if left < unsent:
            self._look_again(left)
        else:
            self.transport.abort()

    def _stop_sending(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None

    def _wait(self) -> None:
        if self._waiting is None:
            self._waiting = self.loop.call_later(self.patience, self._give_up)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _give_up(self) -> None:
        self._waiting = None
        if not self._is_answering:
            self.transport.close()

    @property
    def _is_answering(self) -> bool:
        return bool(self.cycle) and not self.cycle.response_complete


class GracefulServer(Server):
    """uvicorn that lets the application begin to end as soon as it takes nothing new."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End. What uvicorn does last, to wait for the application's end, is begun first."""
        ending = asyncio.ensure_future(self.lifespan.shutdown())
        await super().shutdown(sockets)
        if not self.force_exit:
            await ending


def create_server(app: FastAPI, settings: ServeSettings, *, web_sockets: bool = False) -> Server:
    """uvicorn with these limits; on SIGTERM it takes nothing new and gives what it has begun ``drain_seconds``."""
    protocol = type("Protocol", (PatientProtocol,), {"patience": settings.body_timeout})
    config = Config(
        app,
        http=protocol,
        ws="websockets-sansio" if web_sockets else "none",
        ws_max_size=_MESSAGE,
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=math.ceil(settings.drain_seconds) + _TO_SAY_SO,
        h11_max_incomplete_event_size=_HEADERS,
    )
    return GracefulServer(config)


def open_socket(settings: ServeSettings) -> socket.socket:
    """A socket that listens at the settings' address. Raises DeviceError where there is none to be had."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        why = (
            "another program listens there"
            if error.errno == errno.EADDRINUSE
            else "ports below 1024 are the system's"
            if isinstance(error, PermissionError)
            else error.strerror or str(error)
        )
        raise DeviceError(
            f"The server cannot listen at {settings.host}, port {settings.port}: {why}.",
            "A port that is free, at an address of this machine.",
            "Choose another port, such as --port 8001, or 0 for any that is free.",
        ) from error
