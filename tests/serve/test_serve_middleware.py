"""Access checks and limits before the routes, on real connections."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from served import Running, events, made_runs, running

from penna.errors import RecipeError
from penna.loading import LoadedModel
from penna.serve.settings import serve_settings

KEY = "a-key-of-this-test"
LONG = {"max_tokens": 100_000, "min_new_tokens": 100_000}
SHORT = {"max_tokens": 1, "min_new_tokens": 0}
HEADERS = {"Authorization": f"Bearer {KEY}"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_runs(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def server(runs: Path) -> Iterator[Running]:
    with running(
        runs,
        ("writer",),
        api_key=KEY,
        max_body_bytes=2000,
        body_timeout=0.5,
        max_streams=2,
        max_new_tokens=100_000,
        allowed_hosts=("box.example",),
        allowed_origins=("https://page.example",),
    ) as found:
        yield found


def received(connection: socket.socket) -> bytes:
    """All that comes until the server closes the connection."""
    return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize("path", ["/v1/models", "/v1/completions", "/metrics", "/ready", "/openapi.json", "/nothing"])
@pytest.mark.parametrize(
    "given", [None, "Bearer", "Bearer wrong", f"Basic {KEY}", f"Bearer {KEY}x", f"Bearer {KEY[:-1]}", "Bearer é"]
)
def test_every_route_but_health_requires_the_key(server: Running, path: str, given: str | None):
    headers = {} if given is None else {"Authorization": given.encode("utf-8")}
    with server.client() as client:
        answer = client.get(path, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["error"]["type"] == "authentication_error"
        assert KEY not in answer.text
        assert client.get("/health", headers=headers).json() == {"status": "ok"}
        assert client.get("/v1/models", headers=HEADERS).status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("", 421),
        ("8.8.8.8", 421),
        ("localhost:99999999", 200),
        ("LOCALHOST", 200),
        ("127.0.0.1:80", 200),
        ("[::1]:80", 200),
        ("box.example", 200),
        ("[::1", 421),
    ],
)
def test_only_requests_for_the_servers_names_are_answered(server: Running, host: str, status: int):
    with server.client() as client:
        assert client.get("/health", headers={"Host": host}).status_code == status


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://evil.example", 403),
        ("null", 403),
        ("http://127.0.0.1:1", 403),
        ("https://page.example.evil.example", 403),
        ("https://page.example", 200),
        (None, 200),
    ],
)
def test_only_requests_of_own_and_allowed_pages_are_answered(server: Running, origin: str | None, status: int):
    with server.client() as client:
        answer = client.get("/v1/models", headers=HEADERS | ({} if origin is None else {"Origin": origin}))
        assert answer.status_code == status
        own = client.get("/v1/models", headers={**HEADERS, "Origin": server.url})
        assert own.status_code == 200
        allowed = answer.headers.get("access-control-allow-origin")
        assert allowed == (origin if origin == "https://page.example" else None)


def test_a_page_that_is_not_allowed_gets_no_preflight(server: Running):
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    with server.client() as client:
        assert client.options("/v1/completions", headers={"Origin": "https://page.example", **asked}).status_code == 200
        refused = client.options("/v1/completions", headers={"Origin": "https://evil.example", **asked})
        assert refused.status_code == 403
        assert "access-control-allow-origin" not in refused.headers


def test_every_response_has_the_security_headers(server: Running):
    with server.client() as client:
        for path, status in (("/health", 200), ("/v1/models", 401), ("/health?a", 200)):
            answer = client.get(path)
            assert answer.status_code == status
            assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["cache-control"] == "no-store"
            assert "server" not in answer.headers


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_too_large_body_is_rejected_before_it_is_read(server: Running, is_chunked: bool):
    length = "Transfer-Encoding: chunked" if is_chunked else "Content-Length: 1000000000"
    head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n{length}\r\n\r\n"
    with server.raw() as connection:
        connection.sendall(head.encode())
        if is_chunked:
            connection.sendall(b"fff\r\n" + b" " * 0xFFF + b"\r\n")  # and never the end
        answer = received(connection)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"larger than 2,000 bytes" in answer


@pytest.mark.parametrize("sent", [b"", b"GET /health HT", b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Slow: "])
def test_a_client_that_never_completes_its_headers_is_disconnected(server: Running, sent: bytes):
    with server.raw() as connection:
        connection.sendall(sent)
        assert received(connection) == b""


def test_an_incomplete_second_request_is_disconnected(server: Running):
    with server.raw() as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        connection.sendall(b"GET /hea")
        assert b"HTTP/1.1" not in received(connection)


def test_an_incomplete_body_is_rejected(server: Running):
    head = (
        f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\nContent-Length: 50\r\n\r\n"
    )
    with server.raw() as connection:
        connection.sendall(head.encode() + b'{"model":')
        answer = received(connection)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"slow_body" in answer


def test_endless_headers_are_rejected(server: Running):
    with server.raw() as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nX: " + b"a" * 70_000)
        assert received(connection).startswith(b"HTTP/1.1 400 ")


def until(server: Running, gauge: str, value: float) -> None:
    """Ask /metrics until a gauge has this value."""
    with server.client(headers=HEADERS) as client:
        for _ in range(2000):
            lines = client.get("/metrics").text.splitlines()
            if f"{gauge} {value}" in lines:
                return
    raise AssertionError(f"{gauge} never was {value}")


@pytest.mark.parametrize("takes", [False, True])
def test_a_client_that_reads_nothing_is_disconnected_and_a_slow_one_is_not(
    runs: Path, monkeypatch: pytest.MonkeyPatch, *, takes: bool
):
    size = 24 << 20  # more than the system keeps for a connection
    monkeypatch.setattr("penna.serve.analysis.explain_text", lambda *_: {"long": "a" * size})
    body = json.dumps({"model": "writer", "input": "ab"}).encode()
    head = (
        "POST /v1/explain HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    patience = 0.5
    with running(runs, ("writer",), body_timeout=patience) as server, server.raw() as connection:
        connection.sendall(head.encode() + body)
        connections = server.server.server_state.connections
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
        if not takes:
            deadline = time.monotonic() + 30
            while connections and time.monotonic() < deadline:
                time.sleep(0.01)
            assert not connections
            return
        taken, started = 0, time.monotonic()
        while part := connection.recv(1 << 20):
            taken += len(part)
            if time.monotonic() < started + 3 * patience:
                time.sleep(patience / 10)
        assert taken > size


def test_open_streams_are_limited_and_a_disconnect_frees_one(server: Running):
    asked = {"model": "writer", "prompt": "a", **LONG, "stream": True}
    with server.client(headers=HEADERS) as client:
        first = client.send(client.build_request("POST", "/v1/completions", json=asked), stream=True)
        second = client.send(client.build_request("POST", "/v1/completions", json=asked), stream=True)
        assert first.status_code == second.status_code == 200
        third = client.post("/v1/completions", json=asked)
        assert third.status_code == 429
        assert int(third.headers["retry-after"]) >= 1
        assert third.json()["error"]["type"] == "rate_limit_error"
        first.close()
        second.close()
        until(server, "penna_streams", 0.0)
        until(server, 'penna_running{model="writer"}', 0.0)
        with client.stream("POST", "/v1/completions", json={**asked, **SHORT}) as again:
            assert events(again.iter_lines())[-1] == "[DONE]"


def test_disconnecting_from_a_plain_request_frees_its_slot(server: Running):
    body = json.dumps({"model": "writer", "prompt": "a", **LONG}).encode()
    head = (
        f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with server.raw() as connection:
        connection.sendall(head.encode() + body)
        until(server, 'penna_running{model="writer"}', 1.0)
    until(server, 'penna_running{model="writer"}', 0.0)


def test_a_request_beyond_its_time_limit_is_ended(runs: Path):
    asked: dict[str, Any] = {"model": "writer", "prompt": "a", **LONG}
    with running(runs, ("writer",), request_timeout=0.3, max_new_tokens=100_000) as server, server.client() as client:
        client.post("/v1/completions", json={**asked, **SHORT})  # loads it, or does not within the time
        while client.post("/v1/completions", json={**asked, **SHORT}).status_code != 200:
            pass
        whole = client.post("/v1/completions", json=asked)
        assert whole.status_code == 504
        assert whole.json()["error"]["code"] == "timeout"
        with client.stream("POST", "/v1/completions", json={**asked, "stream": True}) as streamed:
            result = events(streamed.iter_lines())
        assert json.loads(result[-1])["error"]["code"] == "timeout"
        assert client.post("/v1/completions", json={**asked, **SHORT}).status_code == 200


@pytest.mark.parametrize("how", ["leaves", "takes too long"])
def test_an_abandoned_explanation_does_not_block_the_model(runs: Path, monkeypatch: pytest.MonkeyPatch, how: str):
    started = threading.Event()

    def endless(loaded: LoadedModel, *_: object) -> None:
        while True:
            loaded.model.hidden(torch.zeros(1, 4, dtype=torch.long))
            started.set()

    monkeypatch.setattr("penna.serve.analysis.explain_text", endless)
    asked = {"model": "writer", "input": "ab"}
    with running(runs, ("writer",), request_timeout=2) as server, server.client() as client:
        while client.post("/v1/score", json=asked).status_code != 200:  # until it is loaded
            pass
        if how == "leaves":
            body = json.dumps(asked).encode()
            head = (
                "POST /v1/explain HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n\r\n"
            )
            with server.raw() as connection:
                connection.sendall(head.encode() + body)
                assert started.wait(20)
        else:
            answer = client.post("/v1/explain", json=asked)
            assert answer.status_code == 504
            assert answer.json()["error"]["code"] == "timeout"
        assert client.post("/v1/score", json=asked).status_code == 200
        assert client.post("/v1/completions", json={"model": "writer", "prompt": "a", **SHORT}).status_code == 200


def test_a_full_queue_rejects_requests_with_retry_after(runs: Path):
    asked = {"model": "writer", "prompt": "a", **LONG, "stream": True}
    limits = {"slots": 1, "max_waiting": 0, "max_new_tokens": 100_000}
    with running(runs, ("writer",), **limits) as server, server.client() as client:
        first = client.send(client.build_request("POST", "/v1/completions", json=asked), stream=True)
        assert first.status_code == 200
        for stream in (True, False):
            busy = client.post("/v1/completions", json={**asked, "stream": stream})
            assert busy.status_code == 429
            assert int(busy.headers["retry-after"]) >= 1
            assert busy.json()["error"]["code"] == "busy"
        first.close()


def test_a_public_server_needs_a_key():
    with pytest.raises(RecipeError, match="no API key"):
        serve_settings({"host": "0.0.0.0"})
    assert serve_settings({"host": "0.0.0.0", "api_key": KEY}).api_key == KEY


def test_any_host_is_allowed_only_with_a_key(runs: Path):
    from starlette.testclient import TestClient

    from penna.serve.app import create_app
    from penna.serve.registry import Registry

    with pytest.raises(RecipeError, match="no API key") as caught:
        serve_settings({"allowed_hosts": ("box.example", "*")})
    assert "--api-key-file" in caught.value.advice
    limits = serve_settings({"allowed_hosts": ("*",), "api_key": KEY})
    app = create_app(Registry(("writer",), limits, runs_dir=runs, device="cpu"), limits)
    client = TestClient(app, base_url="http://evil.example")
    assert client.get("/v1/models").status_code == 401
    assert client.get("/v1/models", headers=HEADERS).status_code == 200


def test_a_public_server_accepts_any_address_but_no_other_name(runs: Path):
    from starlette.testclient import TestClient

    from penna.serve.app import create_app
    from penna.serve.registry import Registry

    limits = serve_settings({"host": "0.0.0.0", "api_key": KEY})
    app = create_app(Registry(("writer",), limits, runs_dir=runs, device="cpu"), limits)
    for host, status in (("192.168.1.5:8000", 200), ("[fe80::1]", 200), ("evil.example", 421)):
        assert TestClient(app, base_url="http://localhost").get("/health", headers={"Host": host}).status_code == status
