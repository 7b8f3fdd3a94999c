"""The OpenAPI description compared with actual responses."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)
from served import Running, made_runs, running

from penna.config.generation import GenerationConfig

MODELS = {
    "/v1/chat/completions": "talker",
    "/v1/classify": "teller",
}
ROUTES = (
    "GET /v1/models",
    "GET /v1/models/{model}",
    "POST /v1/completions",
    "POST /v1/chat/completions",
    "POST /v1/embeddings",
    "POST /v1/classify",
    "POST /v1/score",
    "POST /v1/explain",
    "GET /health",
    "GET /ready",
    "GET /metrics",
)
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    unsupported_method,
]
QUIET = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(made_runs(tmp_path_factory.mktemp("runs")), max_new_tokens=4, max_explain_steps=64) as found:
        yield found


def check(server: Running, route: str, examples: int, **more: Any) -> None:
    """Send requests made of the description, all for a model that is served, and hold the answers against it."""
    method, path = route.split()
    operation = schemathesis.openapi.from_url(f"{server.url}/openapi.json")[path][method]

    @given(case=operation.as_strategy())
    @settings(max_examples=examples, **QUIET, **more)
    def answers_are_as_described(case: Any) -> None:
        if isinstance(case.body, dict) and isinstance(case.body.get("model"), str):
            case.body["model"] = MODELS.get(path, "writer")
        case.call_and_validate(checks=CHECKS)

    answers_are_as_described()


@pytest.mark.parametrize("route", ROUTES)
def test_responses_match_the_openapi_schema(server: Running, route: str):
    check(server, route, 8, derandomize=True)


@pytest.mark.slow
@pytest.mark.parametrize("route", ROUTES)
def test_more_responses_match_the_openapi_schema(server: Running, route: str):
    check(server, route, 300)


def test_every_route_is_tested_against_the_schema(server: Running):
    described = httpx.get(f"{server.url}/openapi.json").json()["paths"]
    assert {f"{method.upper()} {path}" for path, methods in described.items() for method in methods} == set(ROUTES)


def test_the_schema_has_every_generation_setting_with_its_bounds(server: Running):
    described = httpx.get(f"{server.url}/openapi.json").json()
    fields = described["components"]["schemas"]["CompletionRequest"]["properties"]
    assert set(GenerationConfig.model_fields) <= set(fields)
    bounds = next(kind for kind in fields["top_p"]["anyOf"] if kind["type"] == "number")
    assert (bounds["exclusiveMinimum"], bounds["maximum"]) == (0, 1)
    for path, methods in described["paths"].items():
        for operation in methods.values():
            assert "422" not in operation["responses"], path
            assert operation["responses"]["4XX"]["content"]["application/json"]["schema"]
