"""The verb ``penna serve``: runs in, an HTTP API that OpenAI's clients can use, until a signal ends it."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penna.cli.loading import add_device_arguments
from penna.cli.serving import KEY, address_of, bytes_of, key_of, run_until_signal

if TYPE_CHECKING:
    from penna.serve.registry import ModelInfo
    from penna.serve.settings import ServeSettings

Overrides = Sequence[tuple[str, str]]
_IN_BYTES = ("memory_limit", "max_body_bytes")
_REPEATED = {"allowed_hosts": "--allowed-host", "allowed_origins": "--allowed-origin"}
_METAVARS = {
    "host": "ADDRESS",
    "port": "PORT",
    "memory_limit": "SIZE",
    "max_body_bytes": "SIZE",
    "allowed_hosts": "NAME",
    "allowed_origins": "ORIGIN",
}
_TRIALS = {
    "chat": ("chat/completions", {"messages": [{"role": "user", "content": "Hello!"}]}),
    "classify": ("classify", {"input": "A text to tell the class of."}),
}
_TRIAL = ("completions", {"prompt": "Once upon a time"})  # of other tasks


def add_serve_arguments(parser: argparse.ArgumentParser) -> None:
    """The words of ``penna serve``; a flag for every setting of a server."""
    from penna.serve.settings import ServeSettings

    parser.usage = "%(prog)s RUN [RUN ...] [options]"
    parser.add_argument(
        "run", nargs="+", metavar="RUN", help="a run, a checkpoint or a Hugging Face folder, also as NAME=RUN"
    )
    parser.add_argument(
        "--api-key-file", metavar="FILE", help=f"a file that holds the API key; without it, ${KEY} is taken"
    )
    for name, field in ServeSettings.model_fields.items():
        if name == "api_key":
            continue
        described = (field.description or "").rstrip(".").replace("%", "%%")
        usual = "" if field.default is None or name in _REPEATED else f" ({field.default})"
        parser.add_argument(
            _REPEATED.get(name, f"--{name.replace('_', '-')}"),
            dest=name,
            action="append" if name in _REPEATED else "store",
            metavar=_METAVARS.get(name, "SECONDS" if field.annotation is float else "N"),
            help=described[:1].lower() + described[1:] + ("; repeatable" if name in _REPEATED else usual),
        )
    add_device_arguments(parser)


def run(arguments: argparse.Namespace, overrides: Overrides) -> int:
    """Serve until a signal comes; 130 or 143, which say which."""
    settings = _settings(arguments)
    from penna.cli.screen import say
    from penna.serve.app import create_app
    from penna.serve.registry import Registry
    from penna.serve.server import create_server, open_socket

    with open_socket(settings) as socket:
        registry = Registry(
            arguments.run,
            settings,
            runs_dir=Path(arguments.runs_dir),
            device=arguments.device,
            dtype=arguments.dtype,
        )
        server = create_server(create_app(registry, settings), settings)
        say(_greeting(registry.models(), settings, socket.getsockname()[1]))
        return run_until_signal(server, socket, "Stopped.")


def _settings(arguments: argparse.Namespace) -> ServeSettings:
    """The settings that flags, file and environment give. Raises RecipeError for those that cannot be."""
    from penna.serve.settings import ServeSettings, serve_settings

    names = [name for name in ServeSettings.model_fields if name != "api_key"]
    given: dict[str, Any] = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    for name in _IN_BYTES:
        if name in given:
            given[name] = bytes_of(name, given[name])
    key = key_of(arguments.api_key_file)
    if key is not None:
        given["api_key"] = key
    return serve_settings(given)


def _greeting(cards: Sequence[ModelInfo], settings: ServeSettings, port: int) -> str:
    """Where the server listens, what it serves, and a request to try it with."""
    address = address_of(settings, port)
    path, body = _TRIALS.get(cards[0].task, _TRIAL)
    key = f' -H "Authorization: Bearer ${KEY}"' if settings.api_key is not None else ""
    content = shlex.quote(json.dumps({"model": cards[0].name, **body}, ensure_ascii=False))
    return "\n".join(
        (
            f"Listening at {address}/v1",
            *(f"  {card.name} ({card.task}, {card.parameters:,} parameters)" for card in cards),
            f"Try it: curl {address}/v1/{path} -H 'Content-Type: application/json'{key} -d {content}",
            f"Ctrl-C stops it; what is under way gets {settings.drain_seconds:g} seconds to end.",
        )
    )
