"""JSON responses for any content: infinity and NaN become null, and text that is not valid UTF-8 is escaped."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from starlette.responses import Response

from penna.storage import to_json


class JsonResponse(Response):
    """A JSON response."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The content in UTF-8."""
        return dump_json(content).encode("utf-8")


class LargeJsonResponse(JsonResponse):
    """A JSON response of megabytes, to be built in a thread pool: other threads run while it is encoded."""

    def render(self, content: Any) -> bytes:
        """The content in UTF-8."""
        return dump_json(content, _dump_in_steps).encode("utf-8")


def dump_json(content: Any, dump: Callable[..., str] = json.dumps) -> str:
    """JSON on one line."""
    options: dict[str, Any] = {"ensure_ascii": False, "allow_nan": False, "separators": (",", ":")}
    try:
        text = dump(content, **options)
    except ValueError:
        text = dump(to_json(content), **options)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(json.loads(text), separators=(",", ":"))
    return text


def _dump_in_steps(content: Any, **options: Any) -> str:
    """Like ``json.dumps``, which holds the interpreter lock until it is done."""
    return "".join(json.JSONEncoder(**options).iterencode(content))
