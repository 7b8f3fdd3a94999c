"""What goes wrong with a request, as HTTP tells it: an exception in, a status and a body for OpenAI's clients out.

A fault of ours says nothing of where it happened; the log does. What a client may be told is what `penna.errors` says:
what happened, what was expected, what to do. Nothing that was sent comes back at length.
"""

from __future__ import annotations

import asyncio
import logging
import math
import reprlib
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from penna.errors import DeviceError, PennaError
from penna.loading import LoadedModel
from penna.serve.job import server_stopping
from penna.serve.json_body import JsonResponse
from penna.serve.registry import UnknownModel
from penna.serve.worker import Busy, InternalError

_LOG = logging.getLogger(__name__)
_SHOWN = 60  # characters of a value that was sent
_LONGEST = 800  # characters of a part of a message
_NAMED = 4  # faults told at once
_BRIEFLY = reprlib.Repr()
_BRIEFLY.maxstring = _BRIEFLY.maxother = _BRIEFLY.maxlong = 2 * _SHOWN
Kind = Literal["invalid_request_error", "authentication_error", "rate_limit_error", "server_error"]


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str
    type: Kind
    param: str | None
    code: str | None


class ErrorResponse(BaseModel):
    """The body of every answer that is none, as OpenAI's API has it."""

    error: ErrorDetail


class RequestRejected(PennaError):  # noqa: N818 - told to the client, and nobody's fault
    """A request that is not served as it stands."""

    def __init__(
        self,
        happened: str,
        expected: str,
        todo: str,
        *,
        param: str | None = None,
        code: str | None = None,
        status: int = 400,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(happened, expected, todo)
        self.param, self.code, self.status, self.headers = param, code, status, dict(headers or {})


class ClientDisconnected(Exception):  # noqa: N818 - no error: nobody is there to be told
    """The client closed its connection before it was answered."""


def error_response(error: PennaError) -> Response:
    """The answer that tells of an error."""
    status, detail, headers = _told(error)
    return JsonResponse({"error": detail.model_dump()}, status, headers)


def error_event(error: Exception) -> dict[str, Any]:
    """An error in the middle of a stream, whose status was told long ago."""
    detail = _told(error)[1] if isinstance(error, PennaError) else _OURS
    return {"error": detail.model_dump()}


def _told(error: PennaError) -> tuple[int, ErrorDetail, dict[str, str]]:
    message = " ".join(_cut(part) for part in (error.happened, error.expected, error.advice) if part)
    if isinstance(error, Busy):
        wait = str(max(1, math.ceil(error.retry_after)))
        return (
            429,
            ErrorDetail(message=message, type="rate_limit_error", param=None, code="busy"),
            {"Retry-After": wait},
        )
    if isinstance(error, UnknownModel):
        detail = ErrorDetail(message=message, type="invalid_request_error", param="model", code="model_not_found")
        return 404, detail, {}
    if isinstance(error, RequestRejected):
        kinds: dict[int, Kind] = {401: "authentication_error", 429: "rate_limit_error"}
        kind = "server_error" if error.status >= 500 else kinds.get(error.status, "invalid_request_error")
        detail = ErrorDetail(message=message, type=kind, param=error.param, code=error.code)
        return error.status, detail, error.headers
    if isinstance(error, InternalError):
        return 500, _OURS, {}
    if isinstance(error, DeviceError) or error.exit_code != PennaError.exit_code:
        return 503, ErrorDetail(message=message, type="server_error", param=None, code=None), {}
    return 400, ErrorDetail(message=message, type="invalid_request_error", param=None, code=None), {}


def _cut(part: str) -> str:
    """A part of a message on one line, without the middle where a value in it is told at length."""
    line = " ".join(part.split("\n"))
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST // 2]} … {line[-_LONGEST // 2 :]}"


_OURS = ErrorDetail(
    message="Something went wrong inside Penna. This is a fault of ours, not of what you asked for. "
    "The server's log says where; report it.",
    type="server_error",
    param=None,
    code=None,
)


@contextmanager
def hide_model_path(loaded: LoadedModel, name: str) -> Generator[None]:
    """Errors raised inside call the model by the name it is served under, and not by its place on this machine."""
    try:
        yield
    except RequestRejected:
        raise
    except PennaError as error:
        parts = (error.happened, error.expected, error.advice)
        error.happened, error.expected, error.advice = (part.replace(str(loaded.source), name) for part in parts)
        error.args = ("\n".join(part for part in (error.happened, error.expected, error.advice) if part),)
        raise


class ErrorMiddleware:
    """ASGI: answers what nobody caught, a fault of ours, and lets the log have it; and what the server could not wait
    for when it ended."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on; answer in its place where it fails before it has begun to."""
        has_begun = False

        async def watched(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except asyncio.CancelledError:  # by the server, which has waited for long enough
            if not has_begun and scope["type"] == "http":
                await error_response(server_stopping())(scope, receive, send)
        except Exception:
            if has_begun:
                raise
            _LOG.exception("a request failed")
            await JsonResponse({"error": _OURS.model_dump()}, 500)(scope, receive, send)


def add_error_handlers(app: FastAPI) -> None:
    """Let the application answer every exception that is told to a client in this form."""

    async def on_penna_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, PennaError)
        return error_response(error)

    async def on_invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return error_response(_invalid(error.errors()))

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return error_response(_http(request, error))

    async def on_left(request: Request, error: Exception) -> Response:
        return Response(status_code=499)

    app.add_exception_handler(PennaError, on_penna_error)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(ClientDisconnected, on_left)


def _invalid(faults: Sequence[Any]) -> RequestRejected:
    """The faults of a body as one error, those of one field together."""
    by_field: dict[str, list[Any]] = {}
    for fault in faults:
        place = [str(part) for part in fault["loc"] if part not in ("body", "query", "path")]
        by_field.setdefault(place[0] if place else "", []).append(fault)
    first = next(iter(by_field))
    kind = by_field[first][0]["type"]
    if kind == "json_invalid":
        return RequestRejected(
            f"The body is no JSON: {by_field[first][0]['ctx']['error']} at character {first}.",
            "One JSON object, in UTF-8.",
            "Check quotes, commas and braces.",
            code="invalid_json",
        )
    if not first or first == "body":
        return RequestRejected(
            "The body is missing or no JSON object.",
            "One JSON object, sent with the header Content-Type: application/json.",
            "Check body and header.",
            code="invalid_json",
        )
    happened = [_fault(name, own) for name, own in list(by_field.items())[:_NAMED]]
    more = len(by_field) - _NAMED
    return RequestRejected(
        " ".join(happened) + (f" And {more} fields more." if more > 0 else ""),
        " ".join(dict.fromkeys(_expected(own) for own in list(by_field.values())[:_NAMED])),
        "Change or leave out what is named; /openapi.json describes every field.",
        param=first,
    )


def _fault(name: str, own: Sequence[Any]) -> str:
    name = _shown(name)
    if own[0]["type"] == "extra_forbidden":
        return f"There is no field {name}."
    if own[0]["type"] == "missing":
        return f"{name} is missing."
    at = ".".join(str(part) for part in own[0]["loc"] if part != "body" and isinstance(part, int | str))
    place = name if len(own) > 1 or len(own[0]["loc"]) < 3 else _shown(at)
    return f"{place} = {_shown(_BRIEFLY.repr(own[0].get('input')))} cannot be."


def _expected(own: Sequence[Any]) -> str:
    if own[0]["type"] == "extra_forbidden":
        return "Fields of OpenAI's API, and Penna's own settings of writing."
    said = dict.fromkeys(str(fault["msg"]).removeprefix("Value error, ") for fault in own)
    return "; or ".join(said)[: 4 * _SHOWN] + "."


def _shown(text: str) -> str:
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    flat = "".join(letter if letter.isprintable() else "·" for letter in text[: _SHOWN + 1])
    return flat if len(flat) <= _SHOWN else flat[:_SHOWN] + "…"


def _http(request: Request, error: HTTPException) -> RequestRejected:
    path, headers = _shown(request.url.path), dict(error.headers or {})
    if error.status_code == 404:
        return RequestRejected(
            f"There is nothing at {path}.",
            "A route such as /v1/completions.",
            "/openapi.json lists all of them.",
            status=404,
            headers=headers,
        )
    if error.status_code == 405:
        return RequestRejected(
            f"{request.method} is not for {path}.",
            f"{headers.get('Allow', 'Another method')}.",
            "/openapi.json says which method each route takes.",
            status=405,
            headers=headers,
        )
    return RequestRejected(
        f"{error.detail}.".replace("..", "."),
        "One JSON object, in UTF-8." if error.status_code == 400 else "",
        "Check what is sent.",
        status=error.status_code,
        headers=headers,
    )
