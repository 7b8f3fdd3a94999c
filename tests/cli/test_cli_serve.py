"""``penna serve``: its greeting, its errors and how it stops."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from penna.cli.main import run
from penna.cli.parser import UsageError
from penna.cli.serve import parse_size, run_until_signal
from penna.config.sections import ModelConfig, TokenizerConfig
from penna.interop.hf_folder import write_hf
from penna.model.gpt import GPT
from penna.tokenizer.train import train_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face folder of a small model."""
    tokenizer = train_tokenizer(TokenizerConfig(kind="char"), ["all roads lead to rome. "])
    model = GPT(ModelConfig(n_layer=1, n_head=2, n_embd=16, block_size=32, vocab_size=tokenizer.vocab_size))
    model.init_weights(1)
    place = tmp_path_factory.mktemp("serve") / "small"
    write_hf(model.config, model.state_dict(), place, tokenizer=tokenizer)
    return place


@contextmanager
def served(*words: str, **environment: str) -> Generator[tuple[subprocess.Popen[str], str, str]]:
    """The process, its address and its greeting."""
    process = subprocess.Popen(
        [sys.executable, "-m", "penna", "serve", *words, "--port", "0", "--device", "cpu"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )
    assert process.stderr is not None
    try:
        said = ""
        while "Ctrl-C stops the server" not in said:
            line = process.stderr.readline()
            assert line, said
            said += line
        found = re.search(r"http://127\.0\.0\.1:\d+", said)
        assert found
        yield process, found[0], said
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_lets_running_requests_finish(folder: Path, number: signal.Signals, code: int):
    body = json.dumps(
        {"model": "it", "prompt": "all", "max_tokens": 600, "min_new_tokens": 600, "stream": True}
    ).encode()
    asked = {"Content-Type": "application/json", "Authorization": "Bearer secret-of-this-test"}
    with served(f"it={folder}", PENNA_API_KEY="secret-of-this-test") as (process, address, said):
        assert "it (pretrain, " in said
        assert '-H "Authorization: Bearer $PENNA_API_KEY"' in said
        assert "secret-of-this-test" not in said
        with urllib.request.urlopen(urllib.request.Request(f"{address}/v1/completions", body, asked)) as answer:
            first = answer.readline()
            process.send_signal(number)
            rest = answer.read()
        assert first.startswith(b"data: {")
        assert rest.endswith(b"data: [DONE]\n\n")
        assert b'"finish_reason":"length"' in rest
        assert process.wait(60) == code
        assert process.stderr is not None
        assert process.stderr.read() == "Stopped.\n"


LONG = {"model": "it", "prompt": "all", "max_tokens": 10**7, "min_new_tokens": 10**7}


def asked(address: str, path: str, **body: object) -> tuple[int, str]:
    """Status and body of a response, also of an error."""
    request = urllib.request.Request(
        f"{address}/v1/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def until_running(address: str, texts: int) -> None:
    """Wait until this number of texts is being generated."""
    for _ in range(5000):
        with urllib.request.urlopen(f"{address}/metrics") as answer:
            if f'penna_running{{model="it"}} {texts}.0' in answer.read().decode():
                return
    raise AssertionError("they never were")


def test_requests_that_outlast_the_drain_time_get_an_error(folder: Path):
    limits = ("--drain-seconds", "1", "--max-new-tokens", str(10**7))
    with served(f"it={folder}", *limits) as (process, address, _), ThreadPoolExecutor(2) as pool:
        whole, stream = (pool.submit(asked, address, "completions", **LONG, stream=stream) for stream in (False, True))
        until_running(address, 2)
        process.send_signal(signal.SIGTERM)
        status, said = whole.result(60)
        assert status == 503
        error = json.loads(said)["error"]
        assert error["message"].startswith("The server is stopping.")
        assert error["type"] == "server_error"
        status, said = stream.result(60)
        assert status == 200
        assert json.loads(said.split("data: ")[-1])["error"] == error
        assert process.wait(60) == 143
        assert process.stderr is not None
        assert process.stderr.read() == "Stopped.\n"


def test_a_second_signal_stops_the_server_at_once(folder: Path):
    limits = ("--drain-seconds", "600", "--max-new-tokens", str(10**7))
    with served(f"it={folder}", *limits) as (process, address, _), ThreadPoolExecutor(1) as pool:
        whole = pool.submit(asked, address, "completions", **LONG)
        until_running(address, 1)
        process.send_signal(signal.SIGINT)
        until_refused(address)
        process.send_signal(signal.SIGINT)
        status, said = whole.result(60)
        assert status == 503
        assert "The server is stopping." in said
        assert process.wait(60) == 130
        assert process.stderr is not None
        assert process.stderr.read() == "Stopped.\n"


def until_refused(address: str) -> None:
    """Wait until new requests are refused."""
    port = int(address.rpartition(":")[2])
    for _ in range(5000):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except ConnectionError:
            return
    raise AssertionError("it never was")


@pytest.mark.parametrize("is_at_work", [True, False])
def test_the_process_exits_although_a_model_is_busy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, is_at_work: bool
):
    """Python's own shutdown would abort while a thread is inside torch."""
    ended, held = [], threading.Event()
    monkeypatch.setattr(os, "_exit", ended.append)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    thread = threading.Thread(target=held.wait, name="penna model it" if is_at_work else "another", daemon=True)
    thread.start()
    try:
        assert run_until_signal(SimpleNamespace(run=lambda sockets: None), None, "Bye.") == 1
    finally:
        held.set()
        thread.join()
    assert ended == ([1] if is_at_work else [])
    assert capsys.readouterr().err == "Bye.\n"


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert run(["serve", *words]) == 2
    return capsys.readouterr().err


def test_a_port_in_use_is_reported_in_three_parts(folder: Path, capsys: pytest.CaptureFixture[str]):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused(capsys, str(folder), "--port", str(port))
    assert f"cannot listen at 127.0.0.1, port {port}: another program listens there." in said
    assert "such as --port 8001" in said


def test_another_address_needs_a_key(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.delenv("PENNA_API_KEY", raising=False)
    said = refused(capsys, str(folder), "--host", "0.0.0.0")
    assert "'0.0.0.0' can be reached from other machines, and there is no API key" in said
    assert "--api-key-file FILE, or PENNA_API_KEY" in said
    (tmp_path / "key").write_text("two words\n")
    said = refused(capsys, str(folder), "--host", "0.0.0.0", "--api-key-file", str(tmp_path / "key"))
    assert "characters that no HTTP header allows" in said
    assert "two words" not in said
    assert "cannot be read" in refused(capsys, str(folder), "--api-key-file", str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--slots", "0"], "slots = '0' is invalid"),
        (["--port", "99999"], "port = '99999' is invalid"),
        (["--memory-limit", "much"], "--memory-limit must be a size (got 'much')"),
        (["--memory-limit", "1kB"], "alone takes"),
        (["--request-timeout", "nan"], "request_timeout"),
    ],
)
def test_invalid_settings_are_refused(folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str):
    assert told in refused(capsys, str(folder), "--port", "0", *words)


def test_a_missing_run_and_duplicate_names_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert "nowhere" in refused(capsys, "nowhere", "--port", "0")
    assert "Two models would be served as 'small'" in refused(capsys, str(folder), str(folder), "--port", "0")


@pytest.mark.parametrize(("word", "size"), [("4GB", 4 * 10**9), ("1.5 MiB", 3 << 19), ("512", 512), ("2kB", 2000)])
def test_sizes_are_parsed(word: str, size: int):
    assert parse_size("memory_limit", word) == size


@pytest.mark.parametrize("word", ["", "GB", "4TBs", "-1GB", "1e3"])
def test_invalid_sizes_are_refused(word: str):
    with pytest.raises(UsageError, match="must be a size"):
        parse_size("memory_limit", word)
