"""Whether the server is well: /health (it answers), /ready (it takes requests), /metrics (for Prometheus)."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from penna.serve.dependencies import Served
from penna.serve.json_body import Json
from penna.serve.registry import Card
from penna.serve.response_schemas import ModelList, ModelRow, State

router = APIRouter()


@router.get("/health", response_model=State)
async def health() -> Response:
    """Tell that the server answers; open to everyone."""
    return Json({"status": "ok"})


@router.get("/ready", response_model=State)
async def ready(serving: Served) -> Response:
    """Tell that requests are taken: not while the server goes down, nor where no model is left."""
    if serving.is_closing:
        return Json({"status": "going down"}, 503)
    if all(card.state == "gone" for card in serving.registry.cards()):
        return Json({"status": "every run that was served is gone"}, 503)
    return Json({"status": "ready"})


@router.get("/metrics", responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}})
async def metrics(serving: Served) -> Response:
    """Tell counts and durations as Prometheus reads them."""
    content, media_type = serving.metrics.exposition()
    return Response(content, media_type=media_type)


# MERGED serve.models: GET /v1/models: what is served, by name.


@router.get("/v1/models", response_model=ModelList)
async def models(serving: Served) -> Response:
    """List all models that are served."""
    return Json({"object": "list", "data": [_row(card) for card in serving.registry.cards()]})


@router.get("/v1/models/{model}", response_model=ModelRow)
async def model(model: str, serving: Served) -> Response:
    """Tell of one."""
    return Json(_row(serving.registry.card(model)))


def _row(card: Card) -> dict[str, Any]:
    return ModelRow(
        id=card.name,
        created=card.created,
        task=card.task,
        block_size=card.block_size,
        parameters=card.parameters,
        state=card.state,
    ).model_dump()
