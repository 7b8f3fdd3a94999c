"""Routes that describe the server: /health, /ready, /metrics and /v1/models."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from penna.serve.dependencies import ServerStateDep
from penna.serve.json_body import JsonResponse
from penna.serve.registry import ModelInfo
from penna.serve.response_schemas import Health, ModelList, ModelRow

router = APIRouter()


@router.get("/health", response_model=Health)
async def health() -> Response:
    """Return 200 while the server responds; no API key is needed."""
    return JsonResponse({"status": "ok"})


@router.get("/ready", response_model=Health)
async def ready(state: ServerStateDep) -> Response:
    """Return 200 while requests are accepted; 503 while the server stops, or if no model is left."""
    if state.is_closing:
        return JsonResponse({"status": "stopping"}, 503)
    if all(model.state == "gone" for model in state.registry.list_models()):
        return JsonResponse({"status": "the files of all models were deleted"}, 503)
    return JsonResponse({"status": "ready"})


@router.get("/metrics", responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}})
async def metrics(state: ServerStateDep) -> Response:
    """Return counters and durations in the format of Prometheus."""
    content, media_type = state.metrics.exposition()
    return Response(content, media_type=media_type)


@router.get("/v1/models", response_model=ModelList)
async def models(state: ServerStateDep) -> Response:
    """List the served models."""
    return JsonResponse({"object": "list", "data": [_row(model) for model in state.registry.list_models()]})


@router.get("/v1/models/{model}", response_model=ModelRow)
async def model(model: str, state: ServerStateDep) -> Response:
    """Describe a model."""
    return JsonResponse(_row(state.registry.model_info(model)))


def _row(model: ModelInfo) -> dict[str, Any]:
    return ModelRow(
        id=model.name,
        created=model.created,
        task=model.task,
        block_size=model.block_size,
        parameters=model.parameters,
        state=model.state,
    ).model_dump()
