"""What is answered as JSON: any content in, text in UTF-8 out, whatever numbers and characters it holds."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from starlette.responses import Response


class JsonResponse(Response):
    """JSON for any content: what no JSON can say, a number that is none, is null."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The content as bytes."""
        return dump_json(content).encode("utf-8")


class LargeJsonResponse(JsonResponse):
    """JSON of what may be megabytes, to be made in a thread; others have their turn meanwhile."""

    def render(self, content: Any) -> bytes:
        """The content as bytes."""
        return dump_json(content, _dumped_by_turns).encode("utf-8")


def dump_json(content: Any, dumped: Callable[..., str] = json.dumps) -> str:
    """JSON on one line; numbers that are none are null, and what has no UTF-8 form is escaped."""
    how: dict[str, Any] = {"ensure_ascii": False, "allow_nan": False, "separators": (",", ":")}
    try:
        text = dumped(content, **how)
    except ValueError:
        text = dumped(_finite(content), **how)
    return text if _is_unicode(text) else json.dumps(json.loads(text), separators=(",", ":"))


def _dumped_by_turns(content: Any, **how: Any) -> str:
    """As ``json.dumps``, which keeps all other threads waiting until it is done."""
    return "".join(json.JSONEncoder(**how).iterencode(content))


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _finite(content: Any) -> Any:
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, Mapping):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return content
