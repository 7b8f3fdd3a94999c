"""The verb ``penna studio``: a folder of runs in, pages in a browser, until a signal ends it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penna.cli.serving import KEY, address_of, bytes_of, key_of, run_until_signal
from penna.errors import DataError

if TYPE_CHECKING:
    from penna.serve.settings import ServeSettings

Overrides = Sequence[tuple[str, str]]
PORT = 8080


def add_studio_arguments(parser: argparse.ArgumentParser) -> None:
    """The words of ``penna studio``."""
    parser.add_argument("--data-dir", metavar="FOLDER", help="a folder whose texts can be chosen for a new run")
    parser.add_argument("--port", default=PORT, metavar="PORT", help=f"port to listen at; 0 takes a free one ({PORT})")
    parser.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="address to listen at; any other asks for a key"
    )
    parser.add_argument(
        "--api-key-file", metavar="FILE", help=f"a file that holds the key; without it, ${KEY} is taken"
    )
    parser.add_argument(
        "--allowed-host", action="append", default=[], metavar="NAME", help="another name that it is opened by"
    )
    parser.add_argument("--memory-limit", metavar="SIZE", help="what all loaded models may take together, such as 4GB")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--no-browser", action="store_true", help="open no browser")


def run(arguments: argparse.Namespace, overrides: Overrides) -> int:
    """Show the studio until a signal comes; 130 or 143, which say which."""
    settings = _settings(arguments)
    data_dir = _data_dir(arguments.data_dir)
    from penna.cli.screen import say
    from penna.serve.server import create_server, open_socket

    with open_socket(settings) as socket:
        from penna.studio.app import create_studio  # takes seconds: a port in use is told before

        app = create_studio(
            Path(arguments.runs_dir).expanduser(), data_dir=data_dir, settings=settings, device=arguments.device
        )
        server = create_server(app, settings, web_sockets=True)
        address = address_of(settings, socket.getsockname()[1])
        say(_greeting(address, settings, Path(arguments.runs_dir)))
        if not arguments.no_browser:
            _open_browser(address)
        return run_until_signal(server, socket, "Stopped. Trainings that were begun from it go on.")


def _settings(arguments: argparse.Namespace) -> ServeSettings:
    """What flags and environment give. Raises RecipeError for an address that needs a key, and has none."""
    from penna.serve.settings import serve_settings

    given: dict[str, Any] = {
        "host": arguments.host,
        "port": arguments.port,
        "allowed_hosts": tuple(arguments.allowed_host),
        "drain_seconds": 3,
    }
    if arguments.memory_limit is not None:
        given["memory_limit"] = bytes_of("memory_limit", arguments.memory_limit)
    key = key_of(arguments.api_key_file)
    if key is not None:
        given["api_key"] = key
    return serve_settings(given)


def _data_dir(word: str | None) -> Path | None:
    """The folder of texts. Raises DataError where it is none."""
    if word is None:
        return None
    folder = Path(word).expanduser()
    if not folder.is_dir():
        raise DataError(
            f"--data-dir {word} is no folder.",
            "A folder; the files in it can be chosen for a new run, and nothing outside it.",
            "Check the path, or leave it out: texts can be uploaded too.",
        )
    return folder


def _greeting(address: str, settings: ServeSettings, runs_dir: Path) -> str:
    """Where it is, whose runs it shows, and how it is ended."""
    asked = "" if settings.api_key is None else "\nA browser asks once for the key: open it as /?key=KEY."
    return (
        f"The studio is at {address}{asked}\nIt shows the runs in {runs_dir}; programs ask the same models at "
        f"{address}/v1\nCtrl-C stops it; trainings that were begun from it go on."
    )


def _open_browser(address: str) -> None:
    """Open the address a moment later, when the server answers."""
    import threading
    import webbrowser

    timer = threading.Timer(1.0, webbrowser.open, (address,))
    timer.daemon = True
    timer.start()
