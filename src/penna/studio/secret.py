"""What signs the cookies of browsers: made once for a folder of runs and kept there, so that they are known again."""

from __future__ import annotations

import secrets
from pathlib import Path

from penna.storage import friendly_disk_errors, write_atomically


def kept_secret(file: Path) -> str:
    """The secret in a file that its owner alone may read, made where there is none in it."""
    with friendly_disk_errors(file):
        if not (file.is_file() and file.read_text().strip()):
            write_atomically(file, secrets.token_urlsafe(32), mode=0o600)
        return file.read_text()
