"""``penna serve``: serve models through an OpenAI-compatible HTTP API, until a signal stops it."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penna.cli.arguments import add_device_arguments
from penna.cli.console import note
from penna.cli.parser import UsageError, Verbs
from penna.errors import DataError, RecipeError

if TYPE_CHECKING:
    from socket import socket

    from uvicorn import Server

    from penna.serve.registry import ModelInfo
    from penna.serve.settings import ServeSettings

KEY_VARIABLE = "PENNA_API_KEY"
_UNITS = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}
_SIZES = ("memory_limit", "max_body_bytes")
_REPEATED = {"allowed_hosts": "--allowed-host", "allowed_origins": "--allowed-origin"}
_METAVARS = {
    "host": "ADDRESS",
    "port": "PORT",
    "memory_limit": "SIZE",
    "max_body_bytes": "SIZE",
    "allowed_hosts": "NAME",
    "allowed_origins": "ORIGIN",
}
_EXAMPLES = {
    "chat": ("chat/completions", {"messages": [{"role": "user", "content": "Hello!"}]}),
    "classify": ("classify", {"input": "A text to classify."}),
}
_EXAMPLE = ("completions", {"prompt": "Once upon a time"})  # for other tasks


def add(verbs: Verbs) -> None:
    """Add the verb."""
    summary = "serve models through an OpenAI-compatible HTTP API"
    verbs.add("serve", summary, "RUN [RUN ...] [options]", _add_arguments, run)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a flag for every field of ServeSettings."""
    from penna.serve.settings import ServeSettings

    parser.add_argument(
        "run", nargs="+", metavar="RUN", help="a run, a checkpoint or a Hugging Face folder, optionally as NAME=RUN"
    )
    add_key_argument(parser)
    for name, field in ServeSettings.model_fields.items():
        if name == "api_key":
            continue
        description = (field.description or "").rstrip(".").replace("%", "%%")
        default = "" if field.default is None or name in _REPEATED else f" (default: {field.default})"
        parser.add_argument(
            _REPEATED.get(name, f"--{name.replace('_', '-')}"),
            dest=name,
            action="append" if name in _REPEATED else "store",
            metavar=_METAVARS.get(name, "SECONDS" if field.annotation is float else "N"),
            help=description[:1].lower() + description[1:] + ("; repeatable" if name in _REPEATED else default),
        )
    add_device_arguments(parser)


def add_key_argument(parser: argparse.ArgumentParser) -> None:
    """``--api-key-file``."""
    parser.add_argument(
        "--api-key-file", metavar="FILE", help=f"a file with the API key (default: the variable {KEY_VARIABLE})"
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal; exit code 130 or 143, depending on the signal."""
    settings = _settings(arguments)
    from penna.serve.app import create_app
    from penna.serve.registry import Registry
    from penna.serve.server import create_server, open_socket

    with open_socket(settings) as listener:
        registry = Registry(
            arguments.run,
            settings,
            runs_dir=Path(arguments.runs_dir),
            device=arguments.device,
            dtype=arguments.dtype,
        )
        server = create_server(create_app(registry, settings), settings)
        note(_greeting(registry.list_models(), settings, listener.getsockname()[1]))
        return run_until_signal(server, listener, "Stopped.")


def _settings(arguments: argparse.Namespace) -> ServeSettings:
    """The settings from flags, the key file and the environment."""
    from penna.serve.settings import ServeSettings, serve_settings

    names = [name for name in ServeSettings.model_fields if name != "api_key"]
    settings: dict[str, Any] = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    for name in _SIZES:
        if name in settings:
            settings[name] = parse_size(name, settings[name])
    key = read_key(arguments.api_key_file)
    return serve_settings(settings if key is None else {**settings, "api_key": key})


def _greeting(models: Sequence[ModelInfo], settings: ServeSettings, port: int) -> str:
    """The address, the models, and an example request."""
    address = server_address(settings, port)
    path, body = _EXAMPLES.get(models[0].task, _EXAMPLE)
    key = f' -H "Authorization: Bearer ${KEY_VARIABLE}"' if settings.api_key is not None else ""
    content = shlex.quote(json.dumps({"model": models[0].name, **body}, ensure_ascii=False))
    return "\n".join(
        (
            f"Listening at {address}/v1",
            *(f"  {model.name} ({model.task}, {model.parameters:,} parameters)" for model in models),
            f"Try it: curl {address}/v1/{path} -H 'Content-Type: application/json'{key} -d {content}",
            f"Ctrl-C stops the server; requests in progress get {settings.drain_seconds:g} seconds to finish.",
        )
    )


def read_key(file: str | None) -> str | None:
    """The key in a file, else that of the environment, else None.

    Raises DataError for an unreadable file, RecipeError for a key that no HTTP header can contain.
    """
    key = os.environ.get(KEY_VARIABLE) if file is None else _read_key_file(Path(file).expanduser())
    if key is not None and not re.fullmatch(r"[!-~]+", key):
        raise RecipeError(  # without the key
            f"The API key of {file or '$' + KEY_VARIABLE} is empty or contains characters that no HTTP header allows.",
            "A key is one word of ASCII letters, digits and punctuation.",
            "Create one: python -c 'import secrets; print(secrets.token_urlsafe(32))'",
        )
    return key


def _read_key_file(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"The key file {file} cannot be read: {getattr(error, 'strerror', None) or 'it is not text'}.",
            "A file with one line, the key, is needed.",
            "Check the path: --api-key-file FILE.",
        ) from error


def parse_size(name: str, text: str) -> int:
    """``4GB`` or ``512MiB`` as bytes."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip().lower())
    if found is None or found[2] not in _UNITS:
        raise UsageError(
            f"--{name.replace('_', '-')} must be a size (got {text!r}).",
            "A size is a number of bytes, or a number with kB, MB, GB, KiB, MiB or GiB.",
            "For example 4GB.",
        )
    return int(float(found[1]) * _UNITS[found[2]])


def server_address(settings: ServeSettings, port: int) -> str:
    """The URL of a server that listens at ``port``."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{host}:{port}"


def run_until_signal(server: Server, listener: socket, farewell: str) -> int:
    """Serve until SIGINT or SIGTERM, then print ``farewell``; return 130 or 143, or 1 if the server ended by itself.

    If a model is still busy and cannot be interrupted, the process exits here: Python would abort, because threads
    cannot be stopped inside torch.
    """
    from penna.serve.model_thread import model_threads_running

    received: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):  # uvicorn sends itself another signal at the end
        signal.signal(number, lambda number, frame: received.append(number))
    server.run(sockets=[listener])
    note(farewell)
    code = 128 + received[0] if received else 1
    if model_threads_running():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code
