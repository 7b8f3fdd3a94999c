"""Penna's own routes return the results of the Python API, within their limits."""

from collections.abc import Iterator

import httpx
import pytest
from served import BLOCK, Running, made_runs, running

from penna.api.classify import classify
from penna.api.explain import ExplainSettings, explain
from penna.api.explain_query import ExplainQuery
from penna.api.score import score, score_after
from penna.serve.json_body import JsonResponse, LargeJsonResponse
from penna.storage import to_json
from penna.tokenizer.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(made_runs(tmp_path_factory.mktemp("runs")), max_explain_steps=2048) as found:
        yield found


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[httpx.Client]:
    with server.client() as found:
        yield found


def same(found: object, expected: object) -> bool:
    """Whether two JSON values are the same but for the last digits of numbers."""
    if isinstance(expected, float) and isinstance(found, float):
        return found == pytest.approx(expected, abs=1e-4, rel=1e-4)
    if isinstance(expected, dict) and isinstance(found, dict):
        return expected.keys() == found.keys() and all(same(found[key], expected[key]) for key in expected)
    if isinstance(expected, list | tuple) and isinstance(found, list | tuple):
        return len(expected) == len(found) and all(map(same, found, expected))
    return found == expected


def test_classes_match_the_classifier(client: httpx.Client, server: Running):
    texts = ["the rain", "a", "plain " * 40]
    found = client.post("/v1/classify", json={"model": "teller", "input": texts}).json()["data"]
    expected = classify(server.loaded("teller"), texts)
    assert [row["label"] for row in found] == [label for label, _ in expected.predictions]
    for row, probabilities in zip(found, expected.probabilities, strict=True):
        assert list(row["probabilities"]) == ["bad", "good", "so so"]
        assert list(row["probabilities"].values()) == pytest.approx(probabilities.tolist(), abs=1e-5)
        assert row["probability"] == max(row["probabilities"].values())


def test_scores_match_the_model(client: httpx.Client, server: Running):
    texts = ["the rain", "plain"]
    found = client.post("/v1/score", json={"model": "words", "input": texts, "start_token": True}).json()
    assert found["object"] == "list"
    assert same(found["data"], [to_json(each) for each in score(server.loaded("words"), texts, start_token=True)])
    after = {"model": "words", "context": "the rain in", "words": ["Spain", "plain"], "top": 3}
    found = client.post("/v1/score", json=after).json()
    assert found["object"] == "words"
    assert same(found["data"], [to_json(score_after(server.loaded("words"), "the rain in", ["Spain", "plain"], 3))])


@pytest.mark.parametrize("name", ["writer", "teller"])
def test_explanations_match_the_api(client: httpx.Client, server: Running, name: str):
    asked = {"methods": ["gradient-x-input", "occlusion"], "lens": True, "heads": True, "attention": True}
    found = client.post("/v1/explain", json={"model": name, "input": "the rain", **asked}).json()
    settings = ExplainSettings(
        ExplainQuery(), methods=("gradient-x-input", "occlusion"), lens=True, heads=True, attention=True
    )
    expected = {**to_json(explain(server.loaded(name), "the rain", settings)), "model": name}
    assert same(found, expected)


def test_continuations_and_generated_tokens_can_be_explained(client: httpx.Client):
    result = client.post(
        "/v1/explain", json={"model": "writer", "input": "the", "generate": 3, "methods": ["gradient-x-input"]}
    ).json()
    assert result["kind"] == "generated"
    assert len(result["answers"]) == 3
    result = client.post("/v1/explain", json={"model": "writer", "input": "the", "continuation": "a"}).json()
    assert [each["method"] for each in result["answers"][0]["attributions"]] == ["occlusion", "integrated-gradients"]


@pytest.mark.parametrize(
    ("route", "body", "message"),
    [
        ("classify", {"model": "writer", "input": "a"}, "writer is not a classifier"),
        ("classify", {"model": "teller", "input": ["a"] * 33}, "33 texts"),
        ("classify", {"model": "teller", "input": ["a", "b"], "pairs": ["c"]}, "1 second text"),
        ("score", {"model": "writer"}, "Neither input nor context"),
        ("score", {"model": "writer", "input": "a", "context": "b"}, "Both input and context"),
        ("score", {"model": "writer", "input": "a", "words": ["b"]}, "words requires context"),
        ("score", {"model": "writer", "input": ["a", ""]}, "Text 2 of 2 is empty"),
        ("score", {"model": "writer", "input": "a" * (BLOCK + 1)}, "49 tokens"),
        ("embeddings", {"model": "writer", "input": ""}, "no token"),
        ("embeddings", {"model": "writer", "input": "a", "dimensions": 4}, "dimensions must be"),
        ("explain", {"model": "writer", "input": "ab", "methods": ["magic"]}, "no method 'magic'"),
        ("explain", {"model": "writer", "input": "ab", "layer": 9}, "no layer 9"),
        ("explain", {"model": "writer", "input": "ab", "without": [[7, 0]]}, "There is no"),
        ("explain", {"model": "writer", "input": "ab", "longest": 999}, "longest = 999"),
        ("explain", {"model": "writer", "input": "ab", "generate": 99_999}, "forward passes"),
        ("explain", {"model": "teller", "input": "ab", "label": "worse"}, "no class 'worse'"),
        (
            "chat/completions",
            {"model": "writer", "messages": [{"role": "user", "content": "a"}]},
            "not trained on dialogues",
        ),
    ],
)
def test_errors_contain_no_path(client: httpx.Client, server: Running, route: str, body: dict, message: str):
    answer = client.post(f"/v1/{route}", json=body)
    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]
    assert str(server.runs) not in answer.text


@pytest.mark.parametrize(
    ("route", "body", "param"),
    [
        ("completions", {"prompt": "a" * 10_000}, "prompt"),
        ("embeddings", {"input": ["a", "a" * 10_000]}, "input"),
        ("score", {"input": "a" * 10_000}, "input"),
        ("score", {"context": "a", "words": ["a" * 10_000]}, "words"),
        ("explain", {"input": "a", "continuation": "a" * 10_000}, "continuation"),
    ],
)
def test_a_far_too_long_text_is_rejected_before_it_is_tokenized(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch, route: str, body: dict, param: str
):
    read, encode = [], Tokenizer.encode
    monkeypatch.setattr(Tokenizer, "encode", lambda self, text: read.append(len(text)) or encode(self, text))
    error = client.post(f"/v1/{route}", json={"model": "writer", **body}).json()["error"]
    assert error["message"].startswith(f"A text in {param} has 10,000 characters. At most {BLOCK} tokens")
    assert (error["param"], error["code"]) == (param, "context_length_exceeded")
    assert max(read, default=0) < 10


@pytest.mark.parametrize(
    "body",
    [
        {"model": "writer", "pair": "é" * 100_000},
        {"model": "writer", "against": "é" * 1000},
        {"model": "writer", "against": "é" * 100_000},
        {"model": "teller", "label": "é" * 1000},
        {"model": "teller", "label": "é" * 100_000},
        {"model": "writer", "methods": ["é" * 100_000]},
        {"model": "é" * 200},
        {"model": "é" * 100_000},
    ],
)
def test_errors_shorten_values_of_the_request(client: httpx.Client, body: dict):
    answer = client.post("/v1/explain", json={"input": "ab", **body})
    assert answer.status_code in (400, 404)
    assert answer.json()["error"]["message"]
    assert len(answer.text) < 2500


def test_a_document_that_may_be_truncated_can_have_any_length(client: httpx.Client):
    text = "the rain in spain " * 1000
    turns = [{"role": role, "content": text} for role in ("user", "assistant")] + [{"role": "user", "content": "a"}]
    for route, body in (
        ("completions", {"model": "summer", "prompt": text, "max_tokens": 1}),
        ("classify", {"model": "teller", "input": text}),
        ("explain", {"model": "writer", "input": text, "methods": ["gradient-x-input"]}),
        ("chat/completions", {"model": "talker", "messages": turns, "max_tokens": 1}),
    ):
        answer = client.post(f"/v1/{route}", json=body)
        assert answer.status_code == 200, answer.text
    assert answer.json()["forgotten"] == 2


@pytest.mark.parametrize("content", [{"a": [1.5, "é", None, float("nan")]}, ["\ud800", {"b": True}], {}])
def test_long_json_is_the_same_json(content: object):
    assert LargeJsonResponse(content).body == JsonResponse(content).body


def test_health_ready_and_metrics_describe_the_server(client: httpx.Client):
    assert client.get("/health").json() == {"status": "ok"}
    assert client.get("/ready").json() == {"status": "ready"}
    client.post("/v1/completions", json={"model": "writer", "prompt": "a", "max_tokens": 3})
    client.get("/v1/models/writer")
    client.get("/v1/some/secret/path")
    result = client.get("/metrics")
    assert result.headers["content-type"].startswith("text/plain")
    assert 'penna_requests_total{route="/v1/completions",status="200"}' in result.text
    assert 'penna_requests_total{route="/v1/models/{model}",status="200"}' in result.text
    assert 'penna_requests_total{route="none",status="404"}' in result.text
    assert "secret" not in result.text
    for gauge in ("running", "waiting", "calls", "texts_total", "tokens_total", "failures_total"):
        assert f'penna_{gauge}{{model="writer"}} ' in result.text


def test_ready_fails_when_no_model_is_left(tmp_path_factory: pytest.TempPathFactory):
    import shutil

    runs = made_runs(tmp_path_factory.mktemp("runs"))
    with running(runs, ("writer",)) as server, server.client() as client:
        assert client.get("/ready").status_code == 200
        shutil.rmtree(runs / "writer")
        assert client.get("/ready").status_code == 503
        gone = client.post("/v1/completions", json={"model": "writer", "prompt": "a"})
        assert gone.status_code == 404
        assert "gone" in gone.json()["error"]["message"]


def test_bugs_are_reported_in_the_same_format_without_details(
    server: Running, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
):
    def broken(*_: object) -> None:
        raise ZeroDivisionError("secret insides")

    monkeypatch.setattr("penna.serve.analysis.classify_texts", broken)
    answer = client.post("/v1/classify", json={"model": "teller", "input": "a"})
    assert answer.status_code == 500
    assert answer.json()["error"]["type"] == "server_error"
    assert "secret" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert client.get("/health").status_code == 200
