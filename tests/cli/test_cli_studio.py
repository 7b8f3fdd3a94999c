"""``penna studio``: invalid options are refused at once."""

import socket
from pathlib import Path

import pytest

from penna.cli.main import run
from penna.cli.parser import UsageError
from penna.errors import DataError, DeviceError, RecipeError


def started(*words: str) -> None:
    run(["studio", "--no-browser", *words, "--debug"])


def test_a_port_in_use_is_reported_and_leaves_nothing_behind(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(DeviceError, match=f"port {port}: another program listens there") as caught:
            started("--port", str(port), "--runs-dir", str(tmp_path / "runs"))
    assert caught.value.expected
    assert "--port" in caught.value.advice
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "error", "said"),
    [
        (("--host", "0.0.0.0"), RecipeError, "can be reached from other machines"),
        (("--port", "words"), RecipeError, "port"),
        (("--data-dir", "/nowhere/at/all"), DataError, "is not a folder"),
        (("--memory-limit", "much"), UsageError, "must be a size"),
        (("--api-key-file", "/nowhere/key"), DataError, "cannot be read"),
    ],
)
def test_invalid_options_are_refused(words: tuple[str, ...], error: type[Exception], said: str):
    with pytest.raises(error, match=said):
        started(*words)
