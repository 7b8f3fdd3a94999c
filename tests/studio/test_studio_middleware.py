"""The middleware rejects other sites and host names, requires the key, and allows nothing from other servers."""

import asyncio
from typing import Any

import pytest
from fastapi import FastAPI, Request, WebSocket
from starlette.testclient import TestClient, WebSocketDenialResponse
from tiny_studio_models import run_async

from penna.serve.settings import ServeSettings
from penna.studio.middleware import add_middleware
from penna.studio.text_files import PART

LOCAL = "http://127.0.0.1:8080"


def app_with_middleware(**settings: Any) -> FastAPI:
    app, api = FastAPI(), FastAPI()

    @app.get("/")
    def page() -> str:
        return "page"

    @app.websocket("/ws")
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("open")

    @app.put("/studio/uploads/key")
    async def upload(request: Request) -> int:
        return len(await request.body())

    @api.get("/v1/models")
    def models() -> str:
        return "models"

    add_middleware(app, api, ServeSettings(**settings))
    return app


def test_pages_allow_nothing_from_other_servers_and_the_api_has_its_own_paths():
    client = TestClient(app_with_middleware(), base_url=LOCAL)
    answer = client.get("/")
    assert answer.json() == "page"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy and "*" not in policy
    assert client.get("/v1/models").json() == "models"


@pytest.mark.parametrize(
    "headers",
    [{"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Host": "127.0.0.1.evil"}],
)
def test_other_host_names_and_origins_are_rejected_for_pages_and_sockets(headers: dict[str, str]):
    client = TestClient(app_with_middleware(), base_url=LOCAL)
    assert client.get("/", headers=headers).status_code in (403, 421)
    with pytest.raises(WebSocketDenialResponse), client.websocket_connect("/ws", headers=headers):
        pass
    with client.websocket_connect("/ws", headers={"Origin": LOCAL, "Host": "127.0.0.1:8080"}) as opened:
        assert opened.receive_text() == "open"


def test_the_key_is_required_once_and_is_not_in_the_cookie():
    client = TestClient(app_with_middleware(api_key="secret-word"), base_url=LOCAL)
    refused = client.get("/")
    assert refused.status_code == 401
    assert "secret-word" not in refused.text
    assert client.get("/?key=wrong").status_code == 401
    with pytest.raises(WebSocketDenialResponse), client.websocket_connect("/ws"):
        pass
    answer = client.get("/?key=secret-word", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert "secret-word" not in answer.headers["set-cookie"]
    assert "HttpOnly" in answer.headers["set-cookie"]
    assert client.get("/").json() == "page"
    other = TestClient(app_with_middleware(api_key="secret-word"), base_url=LOCAL, cookies={"penna_key": "f" * 64})
    assert other.get("/").status_code == 401


def test_a_body_that_is_too_large_or_too_slow_is_rejected():
    app = app_with_middleware(body_timeout=0.05)
    client = TestClient(app, base_url=LOCAL)
    assert client.put("/studio/uploads/key", content=b"a" * PART).json() == PART
    assert client.put("/studio/uploads/key", content=b"a" * (2 * PART + 1)).status_code == 413
    assert run_async(half_sent(app)) == 408


async def half_sent(app: FastAPI) -> int:
    """The status of the response to a client that sends two of five bytes and then nothing."""
    sent = iter([{"type": "http.request", "body": b"12", "more_body": True}])
    messages: list[Any] = []
    headers = [(b"host", b"127.0.0.1:8080"), (b"content-length", b"5")]
    scope = {"type": "http", "method": "PUT", "path": "/studio/uploads/key", "headers": headers, "query_string": b""}

    async def receive() -> Any:
        message = next(sent, None)
        return message or await asyncio.Event().wait()

    async def send(message: Any) -> None:
        messages.append(message)

    await app({**scope, "raw_path": b"", "root_path": "", "scheme": "http", "http_version": "1.1"}, receive, send)
    return messages[0]["status"]
