"""Whether the server is well: /health (it answers), /ready (it takes requests), /metrics (for Prometheus)."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from penna.serve.answers import State
from penna.serve.json_body import Json
from penna.serve.state import Served

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
