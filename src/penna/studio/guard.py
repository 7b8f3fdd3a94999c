"""What stands between the network and the pages: the API's own way, a policy for browsers, the key, whole bodies.

Host and Origin are checked as those of the API are, on web sockets too: no page of another site reaches a studio. The
policy lets nothing be loaded from elsewhere; scripts within a page and ``eval`` are how NiceGUI's pages work.
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

_API = ("/v1/", "/health", "/ready", "/metrics", "/openapi.json")
_COOKIE = "penna_key"
_BODY = 1 << 20  # bytes: twice a part of an upload, and all that socket.io posts where there are no web sockets
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


def guarded(app: FastAPI, api: ASGIApp, settings: ServeSettings) -> None:
    """Put all of it around the pages of ``app``; what the API answers goes to ``api``, which has guards of its own."""
    app.add_middleware(BodyLimitMiddleware, max_bytes=_BODY, seconds=settings.body_timeout)
    app.add_middleware(PageHeaders)
    if settings.api_key is not None:
        app.add_middleware(PageKey, key=settings.api_key)
    app.add_middleware(HostOriginMiddleware, settings=settings)
    app.add_middleware(Beside, api=api)


class Beside:
    """Hands the paths of the API to it."""

    def __init__(self, app: ASGIApp, api: ASGIApp) -> None:
        self._app, self._api = app, api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, here or there."""
        is_api = scope["type"] == "http" and scope["path"].startswith(_API)
        await (self._api if is_api else self._app)(scope, receive, send)


class PageHeaders:
    """Puts the policy on every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, with these headers on the answer."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in PAGE_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, with_headers if scope["type"] == "http" else send)


class PageKey:
    """Asks browsers for the key once: ``/?key=KEY`` leaves a cookie that stands for it, and is forgotten."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app, self._key = app, key.encode("utf-8")
        self._token = hmac.new(self._key, b"penna studio", hashlib.sha256).hexdigest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, leave the cookie, or refuse."""
        if scope["type"] not in ("http", "websocket") or self._has_cookie(scope):
            await self._app(scope, receive, send)
            return
        given = parse_qs(scope["query_string"].decode("latin-1")).get("key", [""])[0]
        if scope["type"] == "http" and hmac.compare_digest(given.encode("utf-8"), self._key):
            answer = RedirectResponse(scope["path"], status_code=303)
            answer.set_cookie(_COOKIE, self._token, httponly=True, samesite="strict")
        else:
            answer = PlainTextResponse(
                "This studio asks for a key.\nIt was started with one; open it as /?key=KEY once in this browser.\n"
                "Whoever started it knows the key.",
                status_code=401,
            )
        await answer(scope, receive, send)

    def _has_cookie(self, scope: Scope) -> bool:
        try:
            cookies = SimpleCookie(Headers(scope=scope).get("cookie", ""))
        except CookieError:
            return False
        found = cookies.get(_COOKIE)
        return found is not None and hmac.compare_digest(found.value.encode("utf-8"), self._token.encode("utf-8"))
