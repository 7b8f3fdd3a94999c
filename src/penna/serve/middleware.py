"""What stands between the network and the routes: four ASGI layers, none of which knows a route but /health.

A page in a browser may send requests to any address, this machine's own among them. So the Host must be a name of this
server (against DNS rebinding), and an Origin, which a browser always tells of another page's request, must be the
server's own or allowed. Bodies are read here, whole, within their size and time, before anything else sees them.
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

PUBLIC_PATHS = frozenset({"/health"})  # answered without a key
SECURITY_HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


class SecurityHeadersMiddleware:
    """Puts headers on every answer that tell a browser to do nothing with it; a route's own headers stay."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, with these headers on the answer."""

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, guarded if scope["type"] == "http" else send)


class HostOriginMiddleware:
    """Lets in what names this server, and no page of another one."""

    def __init__(self, app: ASGIApp, settings: ServeSettings) -> None:
        self._app = app
        self._names = {*_THIS_MACHINE, settings.host.lower(), *(name.lower() for name in settings.allowed_hosts)}
        self._origins = {origin.lower().rstrip("/") for origin in settings.allowed_origins}
        self._is_open = not settings.is_local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or refuse."""
        refused = self._refused(scope) if scope["type"] in ("http", "websocket") else None
        if refused is None:
            await self._app(scope, receive, send)
        else:
            await error_response(refused)(scope, receive, send)

    def _refused(self, scope: Scope) -> RequestRejected | None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_known(_name_of(hosts[0])):
            return RequestRejected(
                f"The request is for {', '.join(host[:60] for host in hosts) or 'no host'}, which this server is not.",
                "A Host header with one of the server's names.",
                "Call it by the address it told when it started, or start it with --allowed-host NAME.",
                code="unknown_host",
                status=421,
            )
        origins = {origin.lower() for origin in headers.getlist("origin")}
        if origins - self._origins - {f"{scheme}://{hosts[0].lower()}" for scheme in ("http", "https")}:
            return RequestRejected(
                "The request comes from a page of another site.",
                "One of the server's own pages, or a program that is no browser.",
                "To let that page in, start the server with --allowed-origin ORIGIN.",
                code="unknown_origin",
                status=403,
            )
        return None

    def _is_known(self, name: str) -> bool:
        # No name server can point an address elsewhere.
        return name in self._names or "*" in self._names or (self._is_open and _is_address(name))


class ApiKeyMiddleware:
    """Asks for the key on every route but /health. How long the check takes tells nothing of the key."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app, self._digest = app, _digest(key.encode("utf-8"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or refuse."""
        if scope["type"] in ("http", "websocket") and scope["path"] not in PUBLIC_PATHS:
            scheme, _, given = Headers(scope=scope).get("authorization", "").partition(" ")
            is_right = hmac.compare_digest(_digest(given.strip().encode("latin-1")), self._digest)
            if not (scheme.lower() == "bearer" and is_right):
                refused = RequestRejected(
                    "The request has no API key, or another one.",
                    "The header Authorization: Bearer KEY, with the key the server was started with.",
                    "Give the client that key.",
                    code="invalid_api_key",
                    status=401,
                    headers={"WWW-Authenticate": "Bearer"},
                )
                await error_response(refused)(scope, receive, send)
                return
        await self._app(scope, receive, send)


class BodyLimitMiddleware:
    """Reads a body of at most ``most`` bytes within ``seconds``, whatever length was told, and passes it on whole."""

    def __init__(self, app: ASGIApp, max_bytes: int, seconds: float) -> None:
        self._app, self._most, self._seconds = app, max_bytes, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read, then pass on; or refuse, and close the connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            body = await self._read(Headers(scope=scope), receive)
        except RequestRejected as refused:
            await error_response(refused)(scope, receive, send)
            return
        if body is None:
            return
        is_told = False

        async def again() -> Message:
            nonlocal is_told
            if is_told:
                return await receive()
            is_told = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, again, send)

    async def _read(self, headers: Headers, receive: Receive) -> bytes | None:
        """The body, or None where the client left."""
        told = headers.get("content-length", "")
        if told.isascii() and told.isdigit() and (len(told) > 15 or int(told) > self._most):
            raise self._too_large()
        body = bytearray()
        try:
            async with asyncio.timeout(self._seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    body += message.get("body", b"")
                    if len(body) > self._most:
                        raise self._too_large()
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError:
            raise RequestRejected(
                f"The body was not whole after {self._seconds:g} seconds.",
                "All of it within that time.",
                "Send it faster, or less of it.",
                code="slow_body",
                status=408,
                headers={"Connection": "close"},
            ) from None

    def _too_large(self) -> RequestRejected:
        return RequestRejected(
            f"The body is larger than {self._most:,} bytes.",
            "At most that much in one request.",
            "Send it in parts.",
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


def _name_of(host: str) -> str:
    """A Host header without its port: "[::1]:8000" is "::1"."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
