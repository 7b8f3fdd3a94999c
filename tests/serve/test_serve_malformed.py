"""Two hundred malformed requests: each is rejected, none crashes, and no memory leaks."""

import gc
import json
import random
import threading
import time
import tracemalloc
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from pydantic import ValidationError
from served import Running, made_runs, running

from penna.serve import request_schemas as schemas
from penna.serve.errors import RequestRejected

ROUTES = ("completions", "chat/completions", "embeddings", "classify", "score", "explain")
GOOD: dict[str, dict[str, Any]] = {
    "completions": {"model": "writer", "prompt": "a", "max_tokens": 1},
    "chat/completions": {"model": "talker", "messages": [{"role": "user", "content": "a"}], "max_tokens": 1},
    "embeddings": {"model": "writer", "input": "a"},
    "classify": {"model": "teller", "input": "a"},
    "score": {"model": "writer", "input": "ab"},
    "explain": {"model": "writer", "input": "ab", "methods": ["gradient-x-input"]},
}
SCHEMAS: dict[str, type[schemas.RequestBody]] = {
    "completions": schemas.CompletionRequest,
    "chat/completions": schemas.ChatRequest,
    "embeddings": schemas.EmbeddingsRequest,
    "classify": schemas.ClassifyRequest,
    "score": schemas.ScoreRequest,
    "explain": schemas.ExplainRequest,
}
WRONG: tuple[Any, ...] = (
    None, True, -1, 0.5, 10**30, "", "x" * 5000, [], {}, [[]], [None], {"a": [1]}, ["\ud800"], "\ud800\udfff\ud800", "\0",
)  # fmt: skip
RAW: tuple[bytes, ...] = (
    b"", b"null", b"[]", b"0", b'"x"', b"{", b"}", b'{"model"', b"\xff\xfe", b"\xef\xbb\xbf{}", b"{}" * 9, b"NaN",
    b"[" * 100_000, b'{"model": "writer", "prompt": ' + b"[" * 900 + b"]" * 900 + b"}", b'{"model": 1e999}',
    b'{"model": ' + b"9" * 6000 + b"}", '{"model": "writer"}'.encode("utf-16"), b'{"model": "writer", "model": 1}',
    b"\x00" * 100, b"a=b&c=d",
)  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(made_runs(tmp_path_factory.mktemp("runs")), body_timeout=0.3) as found:
        yield found


def malformed() -> Iterator[tuple[str, bytes, dict[str, str]]]:
    """(route, body, headers) of each request; the same ones every time."""
    source, json_headers = random.Random(0), {"Content-Type": "application/json"}
    for route in ROUTES:
        for body in source.sample(RAW, 8):
            yield route, body, json_headers
        fields = [*GOOD[route], "seed", "n", "temperature", "stop", "logprobs", "stream", "surprise"]
        for _ in range(24):
            field, value = source.choice(fields), source.choice(WRONG)
            if value is None:
                continue
            yield route, json.dumps({**GOOD[route], field: value}).encode(), json_headers
        whole = json.dumps(GOOD[route]).encode()
        yield route, whole, {"Content-Type": "text/plain"}
        yield route, whole, {}
        yield route, whole, {"Content-Type": "application/json; charset=utf-16"}
        yield route, whole, {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        yield route, whole[:-1], json_headers
        yield route, b"x" * (1 << 20) + b"x", json_headers


def send(server: Running, every: int = 1) -> list[httpx.Response]:
    """The answers to all of them, or to one in so many."""
    with server.client() as client:
        return [
            client.post(f"/v1/{route}", content=body, headers=headers)
            for route, body, headers in list(malformed())[::every]
        ]


def test_two_hundred_malformed_requests_are_rejected_and_the_server_keeps_running(server: Running):
    answers = send(server)
    assert len(answers) >= 200
    assert {answer.status_code for answer in answers} <= {200, 400, 404, 408, 413, 415}
    refused = [answer for answer in answers if answer.status_code != 200]
    assert len(refused) > 180
    for answer in refused:
        error = answer.json()["error"]
        assert error["message"]
        assert len(error["message"]) < 2000
        assert error["type"] == "invalid_request_error"
        assert str(server.runs) not in answer.text
    with server.client() as client:
        for route, body in GOOD.items():
            assert client.post(f"/v1/{route}", json=body).status_code == 200, route


LARGE: tuple[tuple[str, dict[str, Any]], ...] = (  # bodies of nearly 1 MiB that are wrong in every place
    ("completions", {"prompt": [1.5] * 200_000}),
    ("completions", {"prompt": [[-1]] * 180_000}),
    ("completions", {"prompt": "a", "stop": [0] * 300_000}),
    ("completions", {"prompt": "a", **{f"field{n}": n for n in range(50_000)}}),
    ("chat/completions", {"messages": [1] * 300_000}),
    ("chat/completions", {"messages": [{"role": "user", "content": [0] * 300_000}]}),
    ("embeddings", {"input": [-1] * 200_000}),
    ("classify", {"input": [1] * 300_000, "pairs": [1] * 20_000}),
    ("score", {"context": "a", "words": [1] * 300_000}),
    ("explain", {"input": "a", "without": [[-1]] * 150_000}),
    ("explain", {"input": "a", "methods": [1] * 300_000}),
)


def test_other_requests_are_answered_while_large_bodies_are_rejected(server: Running):
    longest, ended = [0.0], threading.Event()
    with server.client() as client:
        started = time.monotonic()
        for _ in range(10):
            client.get("/health")
        usual = (time.monotonic() - started) / 10

    def look() -> None:
        with server.client() as client:
            while not ended.is_set():
                started = time.monotonic()
                assert client.get("/health").status_code == 200
                longest[0] = max(longest[0], time.monotonic() - started)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        with server.client() as client:
            for route, body in LARGE:
                answer = client.post(f"/v1/{route}", json={"model": GOOD[route]["model"], **body})
                assert answer.status_code == 400, route
                assert len(answer.text) < 3000
    finally:
        ended.set()
        looking.join()
    assert longest[0] < 2.5 + 20 * usual  # seconds; one error for every item takes at least 3


@pytest.mark.parametrize(("route", "body"), LARGE)
def test_validation_of_a_list_stops_at_its_first_error(route: str, body: dict[str, Any]):
    schema = SCHEMAS[route]
    with pytest.raises((ValidationError, RequestRejected)) as caught:
        schema.model_validate({"model": "one", **body})
    if isinstance(caught.value, ValidationError):
        assert caught.value.error_count() <= 6  # one for each form that the field may have


def test_truncated_requests_leave_nothing_running(server: Running):
    body = json.dumps(GOOD["completions"]).encode()
    whole = (
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body)
    ) + body
    for length in range(0, len(whole), 7):
        with server.raw() as connection:
            connection.sendall(whole[:length])
    for nonsense in (
        b"\x16\x03\x01\x02\x00",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\r\n" * 50,
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    ):
        with server.raw() as connection:
            connection.sendall(nonsense)
            connection.shutdown(1)
            connection.recv(65536)
    with server.client() as client:
        assert client.post("/v1/completions", json=GOOD["completions"]).status_code == 200
        metrics = client.get("/metrics").text
    assert 'penna_running{model="writer"} 0.0' in metrics
    assert 'status="500"' not in metrics
    assert 'status="499"' in metrics


def test_malformed_requests_leak_no_memory(server: Running):
    send(server, every=7)  # what is made once, such as compiled patterns, is made
    gc.collect()
    tracemalloc.start()
    try:
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        send(server, every=7)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 200_000  # bytes; one body that was kept would be more
