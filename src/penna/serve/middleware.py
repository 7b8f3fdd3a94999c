"""ASGI middleware: security headers, the Host and Origin check, the API key and the body limit.

Any web page can make a browser send requests to this machine. So the Host must be a name of this server (against DNS
rebinding), and the Origin, which browsers add to requests of other pages, must be the server's own or allowed.
Starlette's TrustedHostMiddleware is not used: it cannot allow all IP addresses, and its errors are plain text.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from penna.serve.errors import RequestRejected, error_response
from penna.serve.settings import ServeSettings

PUBLIC_PATHS = frozenset({"/health"})  # no API key needed
SECURITY_HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


class SecurityHeadersMiddleware:
    """Adds headers that keep browsers from caching, framing or interpreting responses; a route's own headers win."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the application and add the headers."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)


class HostOriginMiddleware:
    """Rejects requests for other hosts and requests from pages of other sites."""

    def __init__(self, app: ASGIApp, settings: ServeSettings) -> None:
        self._app = app
        self._names = {*_LOCAL_NAMES, settings.host.lower(), *(name.lower() for name in settings.allowed_hosts)}
        self._origins = {origin.lower().rstrip("/") for origin in settings.allowed_origins}
        self._is_public = not settings.is_local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the application, or reject the request."""
        error = self._check(Headers(scope=scope)) if scope["type"] in ("http", "websocket") else None
        if error is None:
            await self._app(scope, receive, send)
        else:
            await error_response(error)(scope, receive, send)

    def _check(self, headers: Headers) -> RequestRejected | None:
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_known(_host_name(hosts[0])):
            return RequestRejected(
                f"The request is for {', '.join(host[:60] for host in hosts) or 'no host'}, not for this server.",
                "The Host header must be one of the server's names.",
                "Use the address that the server printed, or start it with --allowed-host NAME.",
                code="unknown_host",
                status=421,
            )
        origins = {origin.lower() for origin in headers.getlist("origin")}
        if origins - self._origins - {f"{scheme}://{hosts[0].lower()}" for scheme in ("http", "https")}:
            return RequestRejected(
                "The request comes from a page of another site.",
                "Only the server's own pages, and programs that are no browsers, are allowed.",
                "To allow that site, start the server with --allowed-origin ORIGIN.",
                code="unknown_origin",
                status=403,
            )
        return None

    def _is_known(self, name: str) -> bool:
        # DNS rebinding needs a name; an IP address is safe.
        return name in self._names or "*" in self._names or (self._is_public and _is_address(name))


class ApiKeyMiddleware:
    """Requires the API key on every route but /health. The comparison takes the same time for every key."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app, self._digest = app, _digest(key.encode("utf-8"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the application, or reject the request."""
        if scope["type"] in ("http", "websocket") and scope["path"] not in PUBLIC_PATHS:
            scheme, _, key = Headers(scope=scope).get("authorization", "").partition(" ")
            is_right = hmac.compare_digest(_digest(key.strip().encode("latin-1")), self._digest)
            if not (scheme.lower() == "bearer" and is_right):
                error = RequestRejected(
                    "The API key is missing or wrong.",
                    "Requests need the header Authorization: Bearer KEY, with the server's key.",
                    "Configure the client with that key.",
                    code="invalid_api_key",
                    status=401,
                    headers={"WWW-Authenticate": "Bearer"},
                )
                await error_response(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)


class BodyLimitMiddleware:
    """Reads a body of at most ``max_bytes`` within ``seconds``, whatever its declared length."""

    def __init__(self, app: ASGIApp, max_bytes: int, seconds: float) -> None:
        self._app, self._max_bytes, self._seconds = app, max_bytes, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body and call the application, or reject the request and close the connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            body = await self._read(Headers(scope=scope), receive)
        except RequestRejected as error:
            await error_response(error)(scope, receive, send)
            return
        if body is None:
            return
        is_passed_on = False

        async def receive_body() -> Message:
            nonlocal is_passed_on
            if is_passed_on:
                return await receive()
            is_passed_on = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, receive_body, send)

    async def _read(self, headers: Headers, receive: Receive) -> bytes | None:
        """The body; None if the client disconnected."""
        declared = headers.get("content-length", "")
        if declared.isascii() and declared.isdigit() and (len(declared) > 15 or int(declared) > self._max_bytes):
            raise self._too_large()
        body = bytearray()
        try:
            async with asyncio.timeout(self._seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    body += message.get("body", b"")
                    if len(body) > self._max_bytes:
                        raise self._too_large()
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError:
            raise RequestRejected(
                f"The body was incomplete after {self._seconds:g} seconds.",
                "It must arrive within that time.",
                "Send it faster, or send less.",
                code="slow_body",
                status=408,
                headers={"Connection": "close"},
            ) from None

    def _too_large(self) -> RequestRejected:
        return RequestRejected(
            f"The body is larger than {self._max_bytes:,} bytes.",
            "That is the limit for one request.",
            "Split it into several requests.",
            code="body_too_large",
            status=413,
            headers={"Connection": "close"},
        )


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _host_name(host: str) -> str:
    """A Host header without its port: "[::1]:8000" is "::1"."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
