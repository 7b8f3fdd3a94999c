"""What ``penna serve`` and ``penna studio`` have in common: the key, sizes in bytes, the address, how they end."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from penna.errors import DataError, RecipeError

if TYPE_CHECKING:
    from socket import socket

    from uvicorn import Server

    from penna.serve.settings import ServeSettings

KEY = "PENNA_API_KEY"  # the environment variable
_SIZES = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}


def key_of(file: str | None) -> str | None:
    """The key in a file, else that of the environment, else None.

    Raises DataError for a file that cannot be read, RecipeError for a key that no header can hold.
    """
    key = os.environ.get(KEY) if file is None else _content(Path(file).expanduser())
    return None if key is None else _checked(key, file or f"${KEY}")


def address_of(settings: ServeSettings, port: int) -> str:
    """Where a browser finds a server that listens at ``port``."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{host}:{port}"


def run_until_signal(server: Server, listener: socket, farewell: str) -> int:
    """Serve until SIGINT or SIGTERM, and say so; 130 or 143, which say which, or 1 where it ended by itself.

    Where a model is at work still that could not be cut off, the process ends here: Python would abort, as its threads
    cannot be ended in the middle of torch.
    """
    from penna.cli.screen import say
    from penna.serve.model_thread import model_threads_running

    received: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):  # uvicorn sends itself another when all is over
        signal.signal(number, lambda number, frame: received.append(number))
    server.run(sockets=[listener])
    say(farewell)
    code = 128 + received[0] if received else 1
    if model_threads_running():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def bytes_of(name: str, word: str) -> int:
    """``4GB`` or ``512MiB`` as bytes."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", word.strip().lower())
    if found is None or found[2] not in _SIZES:
        raise RecipeError(
            f"--{name.replace('_', '-')} {word} is no size.",
            "A number with kB, MB, GB, KiB, MiB or GiB, or of bytes.",
            "Such as 4GB.",
        )
    return int(float(found[1]) * _SIZES[found[2]])


def _content(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"The key file {file} cannot be read: {getattr(error, 'strerror', None) or 'it is not text'}.",
            "A file with one line, the key.",
            "Check the path: --api-key-file FILE.",
        ) from error


def _checked(key: str, source: str) -> str:
    """The key. Raises RecipeError, which does not repeat it, for one that no header can hold."""
    if not re.fullmatch(r"[!-~]+", key):
        raise RecipeError(
            f"The API key of {source} is empty or has characters that no header can hold.",
            "One word of ASCII letters, digits and signs.",
            "Make one: python -c 'import secrets; print(secrets.token_urlsafe(32))'",
        )
    return key
