"""The studio's server: uvicorn as ``penna serve`` has it, with web sockets, by which pages are kept up to date."""

from __future__ import annotations

import h11
from fastapi import FastAPI
from uvicorn import Config, Server

from penna.serve.connections import PatientProtocol
from penna.serve.settings import ServeSettings

_CONNECTIONS = 512
_HEADERS = 32 * 1024  # bytes of the first line and headers together
_MESSAGE = 4 << 20  # bytes of one message from a page


class _PageProtocol(PatientProtocol):
    """HTTP/1.1 whose connections may become web sockets, which may be quiet for long."""

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hand the connection over."""
        self._stop_waiting()
        super().handle_websocket_upgrade(event)


def server_of(app: FastAPI, settings: ServeSettings) -> Server:
    """uvicorn with the API's limits."""
    protocol = type("Protocol", (_PageProtocol,), {"header_timeout": settings.body_timeout})
    config = Config(
        app,
        http=protocol,
        ws="websockets-sansio",
        ws_max_size=_MESSAGE,
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=max(1, round(settings.drain_seconds)),
        h11_max_incomplete_event_size=_HEADERS,
    )
    return Server(config)
