"""Routes that analyze texts: /v1/embeddings, /v1/classify, /v1/score and /v1/explain."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, cast

from fastapi import APIRouter, Request
from starlette.responses import Response

from penna.api.classify import classify as classify_texts
from penna.api.embed import embed_ids
from penna.api.explain import DEFAULT_METHODS, ExplainSettings
from penna.api.explain import explain as explain_text
from penna.api.explain_query import LONGEST, ExplainQuery
from penna.api.score import score as score_texts
from penna.api.score import score_after
from penna.explain.explanation import Method
from penna.loading import LoadedModel
from penna.serve.completions import as_list
from penna.serve.dependencies import ServerState, ServerStateDep
from penna.serve.errors import RequestRejected, hide_model_path
from penna.serve.json_body import JsonResponse, LargeJsonResponse
from penna.serve.limits import check_count, check_explanation, encode_within_limit
from penna.serve.request_schemas import ClassifyRequest, EmbeddingsRequest, ExplainRequest, ScoreRequest
from penna.serve.response_schemas import Classification, Embeddings, ScoredTexts
from penna.serve.settings import ServeSettings
from penna.serve.streaming import run_until_disconnect
from penna.storage import to_json

router = APIRouter()
_TOP = 10  # likeliest next tokens


@router.post("/v1/embeddings", response_model=Embeddings)
async def embeddings(body: EmbeddingsRequest, request: Request, state: ServerStateDep) -> Response:
    """Return a vector for each text: the mean of the model's last hidden states."""
    return JsonResponse(await run_until_disconnect(request, _embed(body, state), state.settings.request_timeout))


async def _embed(body: EmbeddingsRequest, state: ServerState) -> dict[str, Any]:
    worker = await state.registry.worker(body.model)
    with hide_model_path(worker.loaded, body.model):
        rows = await state.thread_pool.run(_embedding_ids, worker.loaded, body, state.settings)
        embedded = await worker.call(lambda loaded: embed_ids(loaded, rows))
    vectors = [
        base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")
        if body.encoding_format == "base64"
        else vector.tolist()
        for vector in embedded.vectors
    ]
    tokens = sum(embedded.tokens)
    return {
        "object": "list",
        "model": body.model,
        "data": [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _embedding_ids(loaded: LoadedModel, body: EmbeddingsRequest, limits: ServeSettings) -> list[Sequence[int]]:
    width = loaded.model.config.n_embd
    if body.dimensions not in (None, width):
        raise RequestRejected(
            f"dimensions must be {width:,}, the width of this model (got {body.dimensions:,}).",
            "Vectors cannot be shortened.",
            "Drop dimensions.",
            param="dimensions",
        )
    texts = as_list(body.input)
    check_count(len(texts), limits, "input")
    tokenizer, block = loaded.require_tokenizer(), loaded.model.config.block_size
    return [encode_within_limit(tokenizer, text, limits, block, "input") for text in texts]


@router.post("/v1/classify", response_model=Classification)
async def classify(body: ClassifyRequest, request: Request, state: ServerStateDep) -> Response:
    """Return the class probabilities of each text; texts beyond the context are truncated as in training."""
    return JsonResponse(await run_until_disconnect(request, _classify(body, state), state.settings.request_timeout))


async def _classify(body: ClassifyRequest, state: ServerState) -> dict[str, Any]:
    texts = [body.input] if isinstance(body.input, str) else body.input
    pairs = [body.pairs] if isinstance(body.pairs, str) else body.pairs
    check_count(len(texts), state.settings, "input")
    worker = await state.registry.worker(body.model)
    with hide_model_path(worker.loaded, body.model):
        found = await worker.call(lambda loaded: classify_texts(loaded, texts, pairs))
    rows = [
        {
            "index": index,
            "label": label,
            "probability": probability,
            "probabilities": dict(zip(found.labels, row.tolist(), strict=True)),
        }
        for index, ((label, probability), row) in enumerate(zip(found.predictions, found.probabilities, strict=True))
    ]
    return {"object": "list", "model": body.model, "data": rows}


@router.post("/v1/score", response_model=ScoredTexts)
async def score(body: ScoreRequest, request: Request, state: ServerStateDep) -> Response:
    """Return the probabilities of texts, or of words after a context."""
    return JsonResponse(await run_until_disconnect(request, _score(body, state), state.settings.request_timeout))


async def _score(body: ScoreRequest, state: ServerState) -> dict[str, Any]:
    _check_score_fields(body)
    worker = await state.registry.worker(body.model)
    with hide_model_path(worker.loaded, body.model):
        await state.thread_pool.run(_check_score_texts, worker.loaded, body, state.settings)
        rows = await worker.call(lambda loaded: _score_rows(loaded, body))
    return {"object": "list" if body.context is None else "words", "model": body.model, "data": rows}


def _score_rows(loaded: LoadedModel, body: ScoreRequest) -> list[dict[str, Any]]:
    start_token = bool(body.start_token)
    if body.context is None:
        return [to_json(found) for found in score_texts(loaded, _score_inputs(body), start_token)]
    top, space = _TOP if body.top is None else body.top, body.space is not False
    found = score_after(loaded, body.context, body.words or (), top, start_token=start_token, space=space)
    return [to_json(found)]


def _score_inputs(body: ScoreRequest) -> list[str]:
    return [body.input] if isinstance(body.input, str) else list(body.input or ())


def _check_score_fields(body: ScoreRequest) -> None:
    if (body.input is None) == (body.context is None):
        raise RequestRejected(
            "Neither input nor context is set." if body.input is None else "Both input and context are set.",
            "input holds texts to score; context precedes words to score.",
            "Set one of the two.",
            param="input",
        )
    for name, value in {"words": body.words, "top": body.top, "space": body.space}.items():
        if body.context is None and value is not None:
            raise RequestRejected(f"{name} requires context.", "", "Set context, or drop the field.", param=name)


def _check_score_texts(loaded: LoadedModel, body: ScoreRequest, limits: ServeSettings) -> None:
    texts = _score_inputs(body)
    parts = [(text, "input") for text in texts] + [(word, "words") for word in body.words or ()]
    if body.context is not None:
        parts.append((body.context, "context"))
    check_count(len(texts), limits, "input")
    check_count(len(body.words or ()), limits, "words")
    for text, param in parts:
        encode_within_limit(loaded.require_tokenizer(), text, limits, loaded.model.config.block_size, param)


@router.post("/v1/explain", response_model=dict[str, Any])
async def explain(body: ExplainRequest, request: Request, state: ServerStateDep) -> Response:
    """Explain a prediction; the response has the fields of `penna explain --json`."""
    return await run_until_disconnect(request, _explain(body, state), state.settings.request_timeout)


async def _explain(body: ExplainRequest, state: ServerState) -> Response:
    settings = _explain_settings(body)
    worker = await state.registry.worker(body.model)
    with hide_model_path(worker.loaded, body.model):
        await state.thread_pool.run(check_explanation, worker.loaded, body.input, settings, state.settings)
        found = await worker.call(lambda loaded: to_json(explain_text(loaded, body.input, settings)))
    return await state.thread_pool.run(LargeJsonResponse, {**found, "model": body.model})


def _explain_settings(body: ExplainRequest) -> ExplainSettings:
    """The settings of an explanation. Raises RecipeError for invalid or contradictory ones."""
    methods = DEFAULT_METHODS if body.methods is None else cast(tuple[Method, ...], tuple(body.methods))
    if body.longest is not None and body.longest > LONGEST:
        raise RequestRejected(
            f"longest = {body.longest:,} exceeds the limit.",
            f"At most {LONGEST:,} tokens can be explained.",
            "Reduce longest.",
            param="longest",
        )
    return ExplainSettings(
        ExplainQuery(
            continuation=body.continuation,
            generate=body.generate or 0,
            label=body.label,
            against=body.against,
            next_token=bool(body.next_token),
            pair=body.pair,
            start_token=bool(body.start_token),
            longest=body.longest or LONGEST,
        ),
        methods=methods,
        layer=body.layer,
        attention=bool(body.attention),
        lens=bool(body.lens),
        heads=bool(body.heads),
        layers=bool(body.layers),
        without=tuple((layer, head) for layer, head in body.without or ()),
        seed=body.seed or 0,
    )
