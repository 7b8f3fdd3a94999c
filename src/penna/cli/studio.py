"""``penna studio``: the web pages for a folder of runs, until a signal stops them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penna.cli.arguments import add_device_argument
from penna.cli.console import note
from penna.cli.parser import Verbs
from penna.cli.serve import add_key_argument, parse_size, read_key, run_until_signal, server_address
from penna.errors import DataError

if TYPE_CHECKING:
    from penna.serve.settings import ServeSettings

PORT = 8080


def add(verbs: Verbs) -> None:
    """Add the verb."""
    verbs.add("studio", "open the studio, a local web application for your runs", "[options]", _add_arguments, run)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data-dir", metavar="FOLDER", help="a folder of texts to choose from for new runs")
    parser.add_argument(
        "--port", default=PORT, metavar="PORT", help=f"port to listen at; 0 chooses a free one (default: {PORT})"
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen at; any other than the default 127.0.0.1 needs an API key",
    )
    add_key_argument(parser)
    parser.add_argument(
        "--allowed-host",
        action="append",
        default=[],
        metavar="NAME",
        help="another host name of this machine; repeatable",
    )
    parser.add_argument("--memory-limit", metavar="SIZE", help="memory limit of all loaded models, such as 4GB")
    add_device_argument(parser)
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser")


def run(arguments: argparse.Namespace) -> int:
    """Serve the studio until a signal; exit code 130 or 143, depending on the signal."""
    settings = _settings(arguments)
    data_dir = _data_dir(arguments.data_dir)
    from penna.serve.server import create_server, open_socket

    with open_socket(settings) as listener:
        from penna.studio.app import create_studio  # takes seconds: a port in use is reported before

        app = create_studio(
            Path(arguments.runs_dir).expanduser(), data_dir=data_dir, settings=settings, device=arguments.device
        )
        server = create_server(app, settings, web_sockets=True)
        address = server_address(settings, listener.getsockname()[1])
        note(_greeting(address, settings, Path(arguments.runs_dir)))
        if not arguments.no_browser:
            _open_browser(address)
        return run_until_signal(server, listener, "Stopped. Training that was started in the studio continues.")


def _settings(arguments: argparse.Namespace) -> ServeSettings:
    """The settings from flags, the key file and the environment."""
    from penna.serve.settings import serve_settings

    settings: dict[str, Any] = {
        "host": arguments.host,
        "port": arguments.port,
        "allowed_hosts": tuple(arguments.allowed_host),
        "drain_seconds": 3,
    }
    if arguments.memory_limit is not None:
        settings["memory_limit"] = parse_size("memory_limit", arguments.memory_limit)
    key = read_key(arguments.api_key_file)
    return serve_settings(settings if key is None else {**settings, "api_key": key})


def _data_dir(name: str | None) -> Path | None:
    """The folder of texts. Raises DataError if it is not a folder."""
    if name is None:
        return None
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise DataError(
            f"--data-dir {name} is not a folder.",
            "A folder is needed; new runs can use the files in it, and nothing outside it.",
            "Check the path, or leave it out: texts can also be uploaded.",
        )
    return folder


def _greeting(address: str, settings: ServeSettings, runs_dir: Path) -> str:
    key = "" if settings.api_key is None else "\nA browser needs the key once: open the address with /?key=KEY."
    return (
        f"The studio is at {address}{key}\nIt shows the runs in {runs_dir}. Programs can use the same models at "
        f"{address}/v1\nCtrl-C stops the studio; training that was started in it continues."
    )


def _open_browser(address: str) -> None:
    """Open the address in a second, when the server is ready."""
    import threading
    import webbrowser

    timer = threading.Timer(1.0, webbrowser.open, (address,))
    timer.daemon = True
    timer.start()
