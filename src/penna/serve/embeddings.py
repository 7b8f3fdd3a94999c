"""POST /v1/embeddings: texts in, the mean of the model's last hidden states for each out."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from penna.api.embed import embed_ids
from penna.loading import LoadedModel
from penna.serve.completions import texts_or_ids
from penna.serve.dependencies import ServerState, ServerStateDep
from penna.serve.errors import RequestRejected, hide_model_path
from penna.serve.json_body import JsonResponse
from penna.serve.limits import check_count, encode_within_limit
from penna.serve.request_schemas import EmbeddingsRequest
from penna.serve.response_schemas import Embeddings
from penna.serve.settings import ServeSettings
from penna.serve.streaming import run_until_disconnect

router = APIRouter()


@router.post("/v1/embeddings", response_model=Embeddings)
async def embeddings(asked: EmbeddingsRequest, request: Request, serving: ServerStateDep) -> Response:
    """Tell the vector of each text."""
    return JsonResponse(await run_until_disconnect(request, _answer(asked, serving), serving.settings.request_timeout))


async def _answer(asked: EmbeddingsRequest, serving: ServerState) -> dict[str, Any]:
    worker = await serving.registry.worker(asked.model)
    with hide_model_path(worker.loaded, asked.model):
        rows = await serving.thread_pool.run(_rows, worker.loaded, asked, serving.settings)
        found = await worker.call(lambda loaded: embed_ids(loaded, rows))
    told = [
        base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")
        if asked.encoding_format == "base64"
        else vector.tolist()
        for vector in found.vectors
    ]
    read = sum(found.tokens)
    return {
        "object": "list",
        "model": asked.model,
        "data": [{"object": "embedding", "index": index, "embedding": each} for index, each in enumerate(told)],
        "usage": {"prompt_tokens": read, "total_tokens": read},
    }


def _rows(loaded: LoadedModel, asked: EmbeddingsRequest, limits: ServeSettings) -> list[Sequence[int]]:
    width = loaded.model.config.n_embd
    if asked.dimensions not in (None, width):
        raise RequestRejected(
            f"dimensions = {asked.dimensions:,} cannot be.",
            f"{width:,}, the width of this model: vectors are not shortened.",
            "Leave it out.",
            param="dimensions",
        )
    texts = texts_or_ids(asked.input)
    check_count(len(texts), limits, "input")
    tokenizer, block = loaded.require_tokenizer(), loaded.model.config.block_size
    return [encode_within_limit(tokenizer, text, limits, block, "input") for text in texts]
