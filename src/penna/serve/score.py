"""POST /v1/score: texts in, how likely the model finds each of their tokens out; or a context and words in, how likely
each of them is behind it."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from penna.api.score import score as score_texts
from penna.api.score import score_after
from penna.loading import LoadedModel
from penna.serve.dependencies import ServerState, ServerStateDep
from penna.serve.errors import RequestRejected, hide_model_path
from penna.serve.json_body import JsonResponse
from penna.serve.limits import check_count, encode_within_limit
from penna.serve.request_schemas import ScoreRequest
from penna.serve.response_schemas import ScoredTexts
from penna.serve.settings import ServeSettings
from penna.serve.streaming import run_until_disconnect
from penna.storage import to_json

router = APIRouter()
_TOP = 10  # likeliest next tokens


@router.post("/v1/score", response_model=ScoredTexts)
async def score(asked: ScoreRequest, request: Request, serving: ServerStateDep) -> Response:
    """Tell how likely texts are, or words behind a context."""
    return JsonResponse(await run_until_disconnect(request, _answer(asked, serving), serving.settings.request_timeout))


async def _answer(asked: ScoreRequest, serving: ServerState) -> dict[str, Any]:
    _check_one_question(asked)
    worker = await serving.registry.worker(asked.model)
    with hide_model_path(worker.loaded, asked.model):
        await serving.thread_pool.run(_check_texts, worker.loaded, asked, serving.settings)
        found = await worker.call(lambda loaded: _rows(loaded, asked))
    return {"object": "list" if asked.context is None else "words", "model": asked.model, "data": found}


def _rows(loaded: LoadedModel, asked: ScoreRequest) -> list[dict[str, Any]]:
    start_token = bool(asked.start_token)
    if asked.context is None:
        return [to_json(found) for found in score_texts(loaded, _texts(asked), start_token)]
    top, space = _TOP if asked.top is None else asked.top, asked.space is not False
    found = score_after(loaded, asked.context, asked.words or (), top, start_token=start_token, space=space)
    return [to_json(found)]


def _texts(asked: ScoreRequest) -> list[str]:
    return [asked.input] if isinstance(asked.input, str) else list(asked.input or ())


def _check_one_question(asked: ScoreRequest) -> None:
    behind = {"words": asked.words, "top": asked.top, "space": asked.space}
    if (asked.input is None) == (asked.context is None):
        raise RequestRejected(
            f"{'Neither' if asked.input is None else 'Both'} input {'nor' if asked.input is None else 'and'} context "
            "is asked about.",
            "Texts in input; or a context, with words that may stand behind it.",
            "Give one of the two.",
            param="input",
        )
    for name, value in behind.items():
        if asked.context is None and value is not None:
            raise RequestRejected(f"{name} goes with a context.", "context and words.", "Give a context.", param=name)


def _check_texts(loaded: LoadedModel, asked: ScoreRequest, limits: ServeSettings) -> None:
    texts = _texts(asked)
    parts = [(text, "input") for text in texts] + [(word, "words") for word in asked.words or ()]
    if asked.context is not None:
        parts.append((asked.context, "context"))
    check_count(len(texts), limits, "input")
    check_count(len(asked.words or ()), limits, "words")
    for text, param in parts:
        encode_within_limit(loaded.require_tokenizer(), text, limits, loaded.model.config.block_size, param)
