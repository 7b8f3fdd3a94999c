"""The HTTP server: uvicorn, with time limits for slow clients and an orderly shutdown.

uvicorn has no time limit for a request's headers or for a client that reads no response; a few thousand such clients
would occupy all connections ("slow loris"). ``PatientProtocol`` closes them, so that Penna is safe without a reverse
proxy. uvicorn starts the application's shutdown only after all responses have ended; here it starts at once, so
that the application can end them itself and say why.
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

_MAX_CONNECTIONS = 512  # beyond it, uvicorn responds 503
_BACKLOG = 1024  # connections not accepted yet
_MAX_HEADER_BYTES = 32 * 1024  # request line and headers together
_ABORT_SECONDS = 6  # after the drain, for error responses to unfinished requests
_MAX_MESSAGE_BYTES = 4 << 20  # of a web socket


class PatientProtocol(H11Protocol):
    """HTTP/1.1 that waits ``patience`` seconds for a request's headers, and for the client to read some response."""

    patience: ClassVar[float]
    _header_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - as uvicorn's
        """Wait for the first request."""
        super().connection_made(transport)
        self._start_header_timer()

    def data_received(self, data: bytes) -> None:
        """Process data; keep waiting until the headers are complete."""
        self._start_header_timer()
        super().data_received(data)
        if self._is_responding:
            self._stop_header_timer()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hand the connection over; a web socket may be silent for long."""
        self._stop_header_timer()
        super().handle_websocket_upgrade(event)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all timers."""
        self._stop_header_timer()
        self._stop_write_timer()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client reads too slowly: check later that it reads at all."""
        super().pause_writing()
        self._start_write_timer(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """The client has caught up."""
        super().resume_writing()
        self._stop_write_timer()

    def _start_write_timer(self, unsent: int) -> None:
        self._write_timer = self.loop.call_later(self.patience, self._check_progress, unsent)

    def _check_progress(self, unsent: int) -> None:
        left = self.transport.get_write_buffer_size()
        if left < unsent:
            self._start_write_timer(left)
        else:
            self.transport.abort()

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _start_header_timer(self) -> None:
        if self._header_timer is None:
            self._header_timer = self.loop.call_later(self.patience, self._close_if_waiting)

    def _stop_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _close_if_waiting(self) -> None:
        self._header_timer = None
        if not self._is_responding:
            self.transport.close()

    @property
    def _is_responding(self) -> bool:
        return bool(self.cycle) and not self.cycle.response_complete


class GracefulServer(Server):
    """uvicorn that starts the application's shutdown as soon as it accepts no more connections."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Shut down; the application's shutdown, which uvicorn leaves for last, comes first."""
        ending = asyncio.ensure_future(self.lifespan.shutdown())
        await super().shutdown(sockets)
        if not self.force_exit:
            await ending


def create_server(app: FastAPI, settings: ServeSettings, *, web_sockets: bool = False) -> Server:
    """uvicorn with these limits. On SIGTERM running requests get ``drain_seconds`` to end."""
    protocol = type("Protocol", (PatientProtocol,), {"patience": settings.body_timeout})
    config = Config(
        app,
        http=protocol,
        ws="websockets-sansio" if web_sockets else "none",
        ws_max_size=_MAX_MESSAGE_BYTES,
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_MAX_CONNECTIONS,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=math.ceil(settings.drain_seconds) + _ABORT_SECONDS,
        h11_max_incomplete_event_size=_MAX_HEADER_BYTES,
    )
    return GracefulServer(config)


def open_socket(settings: ServeSettings) -> socket.socket:
    """A socket that listens at the settings' address. Raises DeviceError if it is not available."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        reason = (
            "another program listens there"
            if error.errno == errno.EADDRINUSE
            else "ports below 1024 need administrator rights"
            if isinstance(error, PermissionError)
            else error.strerror or str(error)
        )
        raise DeviceError(
            f"The server cannot listen at {settings.host}, port {settings.port}: {reason}.",
            "The port must be free, at an address of this machine.",
            "Choose another port, such as --port 8001, or 0 for any free one.",
        ) from error
