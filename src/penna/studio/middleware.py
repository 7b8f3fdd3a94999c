"""ASGI middleware around the pages: API routing, Host and Origin checks, the API key, browser policy, body limits.

Host and Origin are checked as for the API, for web sockets too, so no page of another site reaches a studio. The policy
allows nothing from other servers. NiceGUI's pages need inline scripts and ``eval``.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from fastapi import FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from penna.serve.middleware import BodyLimitMiddleware, HostOriginMiddleware
from penna.serve.settings import ServeSettings

_API_PATHS = ("/v1/", "/health", "/ready", "/metrics", "/openapi.json")
_COOKIE = "penna_key"
_MAX_BODY = 1 << 20  # bytes: two upload parts, and more than socket.io posts without web sockets
PAGE_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; "
        "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def add_middleware(app: FastAPI, api: ASGIApp, settings: ServeSettings) -> None:
    """Add all middleware to the pages of ``app``. ``api`` gets the API's requests and has middleware of its own."""
    app.add_middleware(BodyLimitMiddleware, max_bytes=_MAX_BODY, seconds=settings.body_timeout)
    app.add_middleware(PageHeaders)
    if settings.api_key is not None:
        app.add_middleware(PageKey, key=settings.api_key)
    app.add_middleware(HostOriginMiddleware, settings=settings)
    app.add_middleware(ApiRouter, api=api)


class ApiRouter:
    """Sends requests for API paths to the API."""

    def __init__(self, app: ASGIApp, api: ASGIApp) -> None:
        self._app, self._api = app, api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the API or the pages."""
        is_api = scope["type"] == "http" and scope["path"].startswith(_API_PATHS)
        await (self._api if is_api else self._app)(scope, receive, send)


class PageHeaders:
    """Adds PAGE_HEADERS to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the application; headers that it sets itself stay."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in PAGE_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)


class PageKey:
    """Requires the key once per browser: ``/?key=KEY`` sets a cookie with a token derived from the key."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app, self._key = app, key.encode("utf-8")
        self._token = hmac.new(self._key, b"penna studio", hashlib.sha256).hexdigest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the application, set the cookie, or respond with 401."""
        if scope["type"] not in ("http", "websocket") or self._has_cookie(scope):
            await self._app(scope, receive, send)
            return
        key = parse_qs(scope["query_string"].decode("latin-1")).get("key", [""])[0]
        if scope["type"] == "http" and hmac.compare_digest(key.encode("utf-8"), self._key):
            response = RedirectResponse(scope["path"], status_code=303)
            response.set_cookie(_COOKIE, self._token, httponly=True, samesite="strict")
        else:
            response = PlainTextResponse(
                "This studio requires a key.\nOpen /?key=KEY once in this browser.\n"
                "The person who started the studio knows the key.",
                status_code=401,
            )
        await response(scope, receive, send)

    def _has_cookie(self, scope: Scope) -> bool:
        try:
            cookies = SimpleCookie(Headers(scope=scope).get("cookie", ""))
        except CookieError:
            return False
        cookie = cookies.get(_COOKIE)
        return cookie is not None and hmac.compare_digest(cookie.value.encode("utf-8"), self._token.encode("utf-8"))
