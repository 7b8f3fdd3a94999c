"""GET /v1/models: what is served, by name."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from penna.serve.answers import ModelList, ModelRow
from penna.serve.json_body import Json
from penna.serve.registry import Card
from penna.serve.state import Served

router = APIRouter()


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
