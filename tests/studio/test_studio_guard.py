"""What stands around the pages: other sites and names are kept out, the key is asked for, nothing is loaded from elsewhere."""

import asyncio
from typing import Any

import pytest
from fastapi import FastAPI, Request, WebSocket
from starlette.testclient import TestClient, WebSocketDenialResponse
from tiny_writers import in_time

from penna.serve.settings import ServeSettings
from penna.studio.guard import guarded
from penna.studio.uploads import PART

LOCAL = "http://127.0.0.1:8080"


def guarded_app(**settings: Any) -> FastAPI:
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

    guarded(app, api, ServeSettings(**settings))
    return app


def test_a_page_lets_nothing_be_loaded_from_elsewhere_and_the_api_has_its_own_paths():
    client = TestClient(guarded_app(), base_url=LOCAL)
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
def test_other_names_and_pages_of_other_sites_are_kept_out_of_pages_and_sockets(headers: dict[str, str]):
    client = TestClient(guarded_app(), base_url=LOCAL)
    assert client.get("/", headers=headers).status_code in (403, 421)
    with pytest.raises(WebSocketDenialResponse), client.websocket_connect("/ws", headers=headers):
        pass
    with client.websocket_connect("/ws", headers={"Origin": LOCAL, "Host": "127.0.0.1:8080"}) as opened:
        assert opened.receive_text() == "open"


def test_a_key_is_asked_for_once_and_never_stands_in_the_cookie():
    client = TestClient(guarded_app(api_key="secret-word"), base_url=LOCAL)
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
    other = TestClient(guarded_app(api_key="secret-word"), base_url=LOCAL, cookies={"penna_key": "f" * 64})
    assert other.get("/").status_code == 401


def test_a_body_is_read_whole_and_one_that_is_too_large_or_does_not_come_is_let_go():
    app = guarded_app(body_timeout=0.05)
    client = TestClient(app, base_url=LOCAL)
    assert client.put("/studio/uploads/key", content=b"a" * PART).json() == PART
    assert client.put("/studio/uploads/key", content=b"a" * (2 * PART + 1)).status_code == 413
    assert in_time(half_sent(app)) == 408


async def half_sent(app: FastAPI) -> int:
    """The status that a client is told which sends two of five bytes, and never the others."""
    sent = iter([{"type": "http.request", "body": b"12", "more_body": True}])
    told: list[Any] = []
    headers = [(b"host", b"127.0.0.1:8080"), (b"content-length", b"5")]
    scope = {"type": "http", "method": "PUT", "path": "/studio/uploads/key", "headers": headers, "query_string": b""}

    async def receive() -> Any:
        message = next(sent, None)
        return message or await asyncio.Event().wait()

    async def send(message: Any) -> None:
        told.append(message)

    await app({**scope, "raw_path": b"", "root_path": "", "scheme": "http", "http_version": "1.1"}, receive, send)
    return told[0]["status"]
