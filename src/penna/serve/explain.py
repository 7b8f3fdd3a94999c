"""POST /v1/explain: a text in, which of its words moved the model's answer out, by each method that is asked."""

from __future__ import annotations

from typing import Any, cast

from fastapi import APIRouter, Request
from starlette.responses import Response

from penna.api.asking import LONGEST, Asked
from penna.api.explaining import DEFAULT_METHODS, ExplainSettings
from penna.api.explaining import explain as explanation_of
from penna.config.sections import ModelConfig
from penna.data.inspection.findings import plural
from penna.exchange.load import LoadedModel
from penna.explain.gradients import MOST_STEPS
from penna.explain.information import DRAWS, STEPS
from penna.explain.result import Method
from penna.serve.errors import Json, Refused, by_name
from penna.serve.schemas import ExplainRequest
from penna.serve.settings import ServeSettings
from penna.serve.state import Served, Serving
from penna.serve.streaming import answered
from penna.serve.wanted import check_length

router = APIRouter()
_MOST_WEIGHTS = 1_000_000  # of attention maps in one answer
_READS: dict[str, int] = {  # how often a method reads the text, at most; the others once for each token
    "gradient-x-input": 2,
    "integrated-gradients": 2 * MOST_STEPS,  # doubled until they suffice
    "information": STEPS * DRAWS,
    "attention": 1,
    "rollout": 1,
}


@router.post("/v1/explain", response_model=dict[str, Any])
async def explain(asked: ExplainRequest, request: Request, serving: Served) -> Response:
    """Tell what moved the answer; the answer is that of `penna explain --json`."""
    return Json(await answered(request, _answer(asked, serving), serving.settings.request_timeout))


async def _answer(asked: ExplainRequest, serving: Serving) -> dict[str, Any]:
    settings = _settings(asked)
    worker = await serving.registry.worker(asked.model)
    with by_name(worker.loaded, asked.model):
        return await worker.call(lambda loaded: _explained(loaded, asked, settings, serving.settings))


def _explained(
    loaded: LoadedModel, asked: ExplainRequest, settings: ExplainSettings, limits: ServeSettings
) -> dict[str, Any]:
    model, tokens = loaded.model.config, len(loaded.need_tokenizer().encode(asked.input))
    if limits.max_prompt_tokens is not None:
        check_length(tokens, limits, model.block_size, "input")
    if settings.attention:
        _check_maps(model, settings.asked.longest)
    _check_steps(model, settings, tokens, limits.max_explain_steps)
    return {**explanation_of(loaded, asked.input, settings).as_json(), "model": asked.model}


def _check_steps(model: ModelConfig, settings: ExplainSettings, tokens: int, most: int) -> None:
    """Raise Refused where the model might have to read the text more often than it may."""
    explained, answers = min(tokens, settings.asked.longest), max(settings.asked.generate, 1)
    steps = sum(answers * _READS.get(method, explained) for method in settings.methods)
    steps += model.n_layer * (settings.heads * model.n_head + settings.layers * _READS["information"])
    if steps > most:
        raise Refused(
            f"The model might have to read the text {steps:,} times: its {plural(explained, 'token', 'tokens')}, asked "
            f"about {plural(answers, 'answer', 'answers')}.",
            f"At most {most:,} times in one request.",
            "Ask for fewer tokens (longest, generate), or for fewer or lighter methods, such as gradient-x-input.",
            param="methods",
        )


def _settings(asked: ExplainRequest) -> ExplainSettings:
    """What is asked. Raises RecipeError for what cannot be or go together."""
    methods = DEFAULT_METHODS if asked.methods is None else cast(tuple[Method, ...], tuple(asked.methods))
    if asked.longest is not None and asked.longest > LONGEST:
        raise Refused(
            f"longest = {asked.longest:,} tokens are to be explained.",
            f"At most {LONGEST:,} here.",
            "Ask about fewer.",
            param="longest",
        )
    return ExplainSettings(
        Asked(
            continuation=asked.continuation,
            generate=asked.generate or 0,
            label=asked.label,
            against=asked.against,
            next_token=bool(asked.next_token),
            pair=asked.pair,
            start_token=bool(asked.start_token),
            longest=asked.longest or LONGEST,
        ),
        methods=methods,
        layer=asked.layer,
        attention=bool(asked.attention),
        lens=bool(asked.lens),
        heads=bool(asked.heads),
        layers=bool(asked.layers),
        without=tuple((layer, head) for layer, head in asked.without or ()),
        seed=asked.seed or 0,
    )


def _check_maps(model: ModelConfig, longest: int) -> None:
    maps = model.n_layer * model.n_head
    shown = min(longest, model.block_size)
    if maps * shown**2 > _MOST_WEIGHTS:
        raise Refused(
            f"{maps:,} attention maps of {shown:,} tokens are {maps * shown**2:,} numbers.",
            f"At most {_MOST_WEIGHTS:,}.",
            f"Ask for the last tokens alone: longest = {int((_MOST_WEIGHTS / maps) ** 0.5):,}.",
            param="longest",
        )
