"""POST /v1/explain: a text in, which of its words moved the model's answer out, by each method that is asked."""

from __future__ import annotations

from typing import Any, cast

from fastapi import APIRouter, Request
from starlette.responses import Response

from penna.api.explain import DEFAULT_METHODS, ExplainSettings
from penna.api.explain import explain as explanation_of
from penna.api.explain_query import LONGEST, ExplainQuery
from penna.explain.explanation import Method
from penna.serve.dependencies import ServerState, ServerStateDep
from penna.serve.errors import RequestRejected, hide_model_path
from penna.serve.json_body import LargeJsonResponse
from penna.serve.limits import check_explanation
from penna.serve.request_schemas import ExplainRequest
from penna.serve.streaming import run_until_disconnect
from penna.storage import to_json

router = APIRouter()


@router.post("/v1/explain", response_model=dict[str, Any])
async def explain(asked: ExplainRequest, request: Request, serving: ServerStateDep) -> Response:
    """Tell what moved the answer; the answer is that of `penna explain --json`."""
    return await run_until_disconnect(request, _answer(asked, serving), serving.settings.request_timeout)


async def _answer(asked: ExplainRequest, serving: ServerState) -> Response:
    settings = _settings(asked)
    worker = await serving.registry.worker(asked.model)
    with hide_model_path(worker.loaded, asked.model):
        await serving.thread_pool.run(check_explanation, worker.loaded, asked.input, settings, serving.settings)
        found = await worker.call(lambda loaded: to_json(explanation_of(loaded, asked.input, settings)))
    return await serving.thread_pool.run(LargeJsonResponse, {**found, "model": asked.model})


def _settings(asked: ExplainRequest) -> ExplainSettings:
    """What is asked. Raises RecipeError for what cannot be or go together."""
    methods = DEFAULT_METHODS if asked.methods is None else cast(tuple[Method, ...], tuple(asked.methods))
    if asked.longest is not None and asked.longest > LONGEST:
        raise RequestRejected(
            f"longest = {asked.longest:,} tokens are to be explained.",
            f"At most {LONGEST:,} here.",
            "Ask about fewer.",
            param="longest",
        )
    return ExplainSettings(
        ExplainQuery(
            continuation=asked.continuation,
            generate=asked.generate or 0,
            label=asked.label,
            against=asked.against,
            next_token=bool(asked.next_token),
            pair=asked.pair,
            start_token=bool(asked.start_token),
            longest=asked.longest or LONGEST,
        ),
        methods=methods,
        layer=asked.layer,
        attention=bool(asked.attention),
        lens=bool(asked.lens),
        heads=bool(asked.heads),
        layers=bool(asked.layers),
        without=tuple((layer, head) for layer, head in asked.without or ()),
        seed=asked.seed or 0,
    )
