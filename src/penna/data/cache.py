"""Where Penna keeps what it can make again: prepared text, tokenizers learned on the way, what was piped in."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """$PENNA_CACHE, or penna under the user's cache folder."""
    if given := os.environ.get("PENNA_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "penna"
