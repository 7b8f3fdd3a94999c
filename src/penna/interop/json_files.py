"""JSON files of a foreign folder: an object in, or an ``ExchangeError`` that names the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from penna.errors import InteropError


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file."""
    try:
        value: Any = json.loads(path.read_text(encoding="utf-8"))
        problem = f"it holds {type(value).__name__}, not an object"
    except (ValueError, OSError, RecursionError) as error:
        value, problem = None, str(error)
    if not isinstance(value, dict):
        raise InteropError(
            f"{path} cannot be read: {problem}.",
            "Expected a JSON object in UTF-8.",
            "Download or copy the file again.",
        )
    return cast(dict[str, Any], value)


def write_object(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON object as transformers lays it out: two spaces, sorted keys, a newline at the end."""
    path.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
