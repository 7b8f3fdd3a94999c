"""Errors as HTTP responses in the format of OpenAI's API.

Clients see the three parts of a ``PennaError``. A bug is reported without details; the log has them. Values from the
request are shortened.
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
from penna.serve.generation_job import InternalError, server_stopping
from penna.serve.json_body import JsonResponse
from penna.serve.registry import UnknownModel
from penna.serve.worker import Busy

_LOG = logging.getLogger(__name__)
_MAX_VALUE = 60  # characters of a value from the request
_MAX_PART = 800  # characters of a part of a message
_MAX_FIELDS = 4  # invalid fields in one message
_SHORT_REPR = reprlib.Repr()
_SHORT_REPR.maxstring = _SHORT_REPR.maxother = _SHORT_REPR.maxlong = 2 * _MAX_VALUE
ErrorType = Literal["invalid_request_error", "authentication_error", "rate_limit_error", "server_error"]


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str
    type: ErrorType
    param: str | None
    code: str | None


class ErrorResponse(BaseModel):
    """Body of every error response."""

    error: ErrorDetail


_BUG = ErrorDetail(
    message="Something went wrong inside Penna. This is a bug in Penna, not in your input. "
    "The server's log has the details; please report it.",
    type="server_error",
    param=None,
    code=None,
)


class RequestRejected(PennaError):  # noqa: N818 - the client's error, not the server's
    """A request is invalid, exceeds a limit or is not allowed."""

    def __init__(
        self,
        happened: str,
        expected: str,
        advice: str,
        *,
        param: str | None = None,
        code: str | None = None,
        status: int = 400,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(happened, expected, advice)
        self.param, self.code, self.status, self.headers = param, code, status, dict(headers or {})


class ClientDisconnected(Exception):  # noqa: N818 - an expected event
    """The client closed its connection before the response."""


def error_response(error: PennaError) -> Response:
    """The response for an error."""
    status, detail, headers = _describe(error)
    return JsonResponse({"error": detail.model_dump()}, status, headers)


def error_event(error: Exception) -> dict[str, Any]:
    """The last event of a stream that fails after its status was sent."""
    detail = _describe(error)[1] if isinstance(error, PennaError) else _BUG
    return {"error": detail.model_dump()}


def _describe(error: PennaError) -> tuple[int, ErrorDetail, dict[str, str]]:
    """Status, body and headers."""
    message = " ".join(_shorten(part) for part in (error.happened, error.expected, error.advice) if part)

    def detail(kind: ErrorType, param: str | None = None, code: str | None = None) -> ErrorDetail:
        return ErrorDetail(message=message, type=kind, param=param, code=code)

    if isinstance(error, Busy):
        return 429, detail("rate_limit_error", code="busy"), {"Retry-After": str(max(1, math.ceil(error.retry_after)))}
    if isinstance(error, UnknownModel):
        return 404, detail("invalid_request_error", "model", "model_not_found"), {}
    if isinstance(error, RequestRejected):
        kinds: dict[int, ErrorType] = {401: "authentication_error", 429: "rate_limit_error"}
        kind = "server_error" if error.status >= 500 else kinds.get(error.status, "invalid_request_error")
        return error.status, detail(kind, error.param, error.code), error.headers
    if isinstance(error, InternalError):
        return 500, _BUG, {}
    if isinstance(error, DeviceError) or error.exit_code != PennaError.exit_code:
        return 503, detail("server_error"), {}
    return 400, detail("invalid_request_error"), {}


def _shorten(part: str) -> str:
    """A part of a message on one line, without the middle of a long one."""
    line = " ".join(part.split("\n"))
    return line if len(line) <= _MAX_PART else f"{line[: _MAX_PART // 2]} … {line[-_MAX_PART // 2 :]}"


@contextmanager
def hide_model_path(loaded: LoadedModel, name: str) -> Generator[None]:
    """Replace the model's path in errors by the name it is served under."""
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
    """ASGI middleware that answers uncaught exceptions, and requests that are cancelled by a stopping server."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the application; respond if it fails before its response starts."""
        has_started = False

        async def send_and_note(message: Message) -> None:
            nonlocal has_started
            has_started = True
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        except asyncio.CancelledError:  # by the server, at the end of its grace period
            if not has_started and scope["type"] == "http":
                await error_response(server_stopping())(scope, receive, send)
        except Exception:
            if has_started:
                raise
            _LOG.exception("A request failed")
            await JsonResponse({"error": _BUG.model_dump()}, 500)(scope, receive, send)


def add_error_handlers(app: FastAPI) -> None:
    """Let the application answer all expected exceptions in this format."""

    async def on_penna_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, PennaError)
        return error_response(error)

    async def on_validation_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return error_response(_validation_error(error.errors()))

    async def on_http_exception(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return error_response(_http_error(request, error))

    async def on_disconnect(request: Request, error: Exception) -> Response:
        return Response(status_code=499)

    app.add_exception_handler(PennaError, on_penna_error)
    app.add_exception_handler(RequestValidationError, on_validation_error)
    app.add_exception_handler(HTTPException, on_http_exception)
    app.add_exception_handler(ClientDisconnected, on_disconnect)


def _validation_error(errors: Sequence[Any]) -> RequestRejected:
    """All validation errors of a body as one error, grouped by field."""
    by_field: dict[str, list[Any]] = {}
    for error in errors:
        place = [str(part) for part in error["loc"] if part not in ("body", "query", "path")]
        by_field.setdefault(place[0] if place else "", []).append(error)
    first = next(iter(by_field))
    kind = by_field[first][0]["type"]
    if kind == "json_invalid":
        return RequestRejected(
            f"The body is not valid JSON: {by_field[first][0]['ctx']['error']} at character {first}.",
            "The body must be one JSON object in UTF-8.",
            "Check quotes, commas and braces.",
            code="invalid_json",
        )
    if not first or first == "body":
        return RequestRejected(
            "The body is missing or not a JSON object.",
            "The body must be one JSON object, sent with the header Content-Type: application/json.",
            "Check the body and the header.",
            code="invalid_json",
        )
    happened = [_what_is_wrong(name, errors) for name, errors in list(by_field.items())[:_MAX_FIELDS]]
    more = len(by_field) - _MAX_FIELDS
    return RequestRejected(
        " ".join(happened) + (f" {more} more fields are invalid." if more > 0 else ""),
        " ".join(dict.fromkeys(_what_is_valid(errors) for errors in list(by_field.values())[:_MAX_FIELDS])),
        "Change or drop these fields; /openapi.json describes every field.",
        param=first,
    )


def _what_is_wrong(name: str, errors: Sequence[Any]) -> str:
    name = _printable(name)
    first = errors[0]
    if first["type"] == "extra_forbidden":
        return f"There is no field {name}."
    if first["type"] == "missing":
        return f"{name} is missing."
    path = ".".join(str(part) for part in first["loc"] if part != "body" and isinstance(part, int | str))
    place = name if len(errors) > 1 or len(first["loc"]) < 3 else _printable(path)
    return f"{place} = {_printable(_SHORT_REPR.repr(first.get('input')))} is invalid."


def _what_is_valid(errors: Sequence[Any]) -> str:
    if errors[0]["type"] == "extra_forbidden":
        return "Fields are those of OpenAI's API and Penna's generation settings."
    messages = dict.fromkeys(str(error["msg"]).removeprefix("Value error, ") for error in errors)
    return "; or ".join(messages)[: 4 * _MAX_VALUE] + "."


def _printable(text: str) -> str:
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    line = "".join(letter if letter.isprintable() else "·" for letter in text[: _MAX_VALUE + 1])
    return line if len(line) <= _MAX_VALUE else line[:_MAX_VALUE] + "…"


def _http_error(request: Request, error: HTTPException) -> RequestRejected:
    path, headers = _printable(request.url.path), dict(error.headers or {})
    if error.status_code == 404:
        return RequestRejected(
            f"There is no route {path}.",
            "A route is, for example, /v1/completions.",
            "/openapi.json lists all routes.",
            status=404,
            headers=headers,
        )
    if error.status_code == 405:
        return RequestRejected(
            f"{path} does not accept {request.method}.",
            f"It accepts {headers['Allow']}." if "Allow" in headers else "It accepts another method.",
            "/openapi.json lists the methods of each route.",
            status=405,
            headers=headers,
        )
    return RequestRejected(
        f"{error.detail}.".replace("..", "."),
        "The body must be one JSON object in UTF-8." if error.status_code == 400 else "",
        "Check the request.",
        status=error.status_code,
        headers=headers,
    )
