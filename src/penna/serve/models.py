"""GET /v1/models: what is served, by name."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from penna.serve.answers import ModelList, ModelRow
from penna.serve.errors import Json, Refused
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
    cards = {card.name: card for card in serving.registry.cards()}
    if model not in cards:
        raise Refused(
            f"There is no model {model[:60]!r}.",
            f"One of {', '.join(cards)}.",
            "/v1/models lists them.",
            param="model",
            code="model_not_found",
            status=404,
        )
    return Json(_row(cards[model]))


def _row(card: Card) -> dict[str, Any]:
    return ModelRow(
        id=card.name,
        created=card.created,
        task=card.task,
        block_size=card.block_size,
        parameters=card.parameters,
        state=card.state,
    ).model_dump()
