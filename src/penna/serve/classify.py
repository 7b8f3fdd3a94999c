"""POST /v1/classify: texts in, the probabilities of the classes the model learned out."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from penna.api.classify import classify as classes_of
from penna.serve.dependencies import ServerState, ServerStateDep
from penna.serve.errors import hide_model_path
from penna.serve.json_body import JsonResponse
from penna.serve.limits import check_count
from penna.serve.request_schemas import ClassifyRequest
from penna.serve.response_schemas import Classification
from penna.serve.streaming import run_until_disconnect

router = APIRouter()


@router.post("/v1/classify", response_model=Classification)
async def classify(asked: ClassifyRequest, request: Request, serving: ServerStateDep) -> Response:
    """Tell the class of each text; one that is longer than the model reads is cut as it learned to."""
    return JsonResponse(await run_until_disconnect(request, _answer(asked, serving), serving.settings.request_timeout))


async def _answer(asked: ClassifyRequest, serving: ServerState) -> dict[str, Any]:
    texts = [asked.input] if isinstance(asked.input, str) else asked.input
    pairs = [asked.pairs] if isinstance(asked.pairs, str) else asked.pairs
    check_count(len(texts), serving.settings, "input")
    worker = await serving.registry.worker(asked.model)
    with hide_model_path(worker.loaded, asked.model):
        found = await worker.call(lambda loaded: classes_of(loaded, texts, pairs))
    rows = [
        {
            "index": index,
            "label": label,
            "probability": probability,
            "probabilities": dict(zip(found.labels, row.tolist(), strict=True)),
        }
        for index, ((label, probability), row) in enumerate(zip(found.predictions, found.probabilities, strict=True))
    ]
    return {"object": "list", "model": asked.model, "data": rows}
