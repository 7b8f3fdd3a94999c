"""Whether the server is well: /health (it answers), /ready (it takes requests), /metrics (for Prometheus)."""

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
    """Tell that the server answers; open to everyone."""
    return JsonResponse({"status": "ok"})


@router.get("/ready", response_model=Health)
async def ready(serving: ServerStateDep) -> Response:
    """Tell that requests are taken: not while the server goes down, nor where no model is left."""
    if serving.is_closing:
        return JsonResponse({"status": "going down"}, 503)
    if all(card.state == "gone" for card in serving.registry.models()):
        return JsonResponse({"status": "every run that was served is gone"}, 503)
    return JsonResponse({"status": "ready"})


@router.get("/metrics", responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}})
async def metrics(serving: ServerStateDep) -> Response:
    """Tell counts and durations as Prometheus reads them."""
    content, media_type = serving.metrics.exposition()
    return Response(content, media_type=media_type)


# MERGED serve.models: GET /v1/models: what is served, by name.


@router.get("/v1/models", response_model=ModelList)
async def models(serving: ServerStateDep) -> Response:
    """List all models that are served."""
    return JsonResponse({"object": "list", "data": [_row(card) for card in serving.registry.models()]})


@router.get("/v1/models/{model}", response_model=ModelRow)
async def model(model: str, serving: ServerStateDep) -> Response:
    """Tell of one."""
    return JsonResponse(_row(serving.registry.model(model)))


def _row(card: ModelInfo) -> dict[str, Any]:
    return ModelRow(
        id=card.name,
        created=card.created,
        task=card.task,
        block_size=card.block_size,
        parameters=card.parameters,
        state=card.state,
    ).model_dump()
