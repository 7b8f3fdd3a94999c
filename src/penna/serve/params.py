"""The generation settings of a request: its fields override the run's defaults, within the server's limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from penna.api.generation_defaults import override_settings
from penna.config.generation import GenerationConfig
from penna.generate.request import Request
from penna.serve.errors import RequestRejected
from penna.serve.limits import check_generation
from penna.serve.request_schemas import ChatRequest, GenerationRequest
from penna.serve.settings import ServeSettings

_SAMPLING_FILTERS = ("top_k", "top_p", "min_p")  # each of them keeps the likeliest token


def generation_settings(body: GenerationRequest, defaults: GenerationConfig, limits: ServeSettings) -> GenerationConfig:
    """The settings of a request. Raises RequestRejected beyond a limit, RecipeError for invalid settings."""
    given = _given_settings(body)
    config = override_settings(defaults, given)
    if "max_new_tokens" not in given and config.max_new_tokens > limits.max_new_tokens:  # the run's default
        config = override_settings(config, {"max_new_tokens": limits.max_new_tokens})
    check_generation(config, limits)
    return config


def expand_choices(requests: Sequence[Request], body: GenerationRequest) -> tuple[list[Request], int]:
    """Engine requests for ``n`` choices of each prompt, and how many choices share one request.

    Sampled choices are requests with consecutive seeds. All others share a request: a beam search returns several
    texts, and a text that no seed changes is generated once. Raises RequestRejected if ``n`` exceeds the beams.
    """
    n, config = body.n or 1, requests[0].config
    if config.strategy == "beam" and n > config.num_beams:
        raise RequestRejected(
            f"n = {n}, but num_beams = {config.num_beams}.",
            "A beam search returns at most one text for each beam.",
            "Reduce n or increase num_beams.",
            param="n",
        )
    if config.strategy != "sample":
        return list(requests), n
    return [replace(each, seed=each.seed + number) for each in requests for number in range(n)], 1


def requested_tokens(body: GenerationRequest) -> int | None:
    """The maximum number of new tokens, if the request sets it. Raises RequestRejected for contradictory fields."""
    given = {"max_new_tokens": body.max_new_tokens, "max_tokens": body.max_tokens}
    if isinstance(body, ChatRequest):
        given["max_completion_tokens"] = body.max_completion_tokens
    given = {name: value for name, value in given.items() if value is not None}
    if len(set(given.values())) > 1:
        raise RequestRejected(
            f"{' and '.join(f'{name} = {value}' for name, value in given.items())} contradict each other.",
            "These fields mean the same.",
            "Set only one of them.",
            param=next(iter(given)),
        )
    return next(iter(given.values()), None)


def _given_settings(body: GenerationRequest) -> dict[str, Any]:
    """The settings that a request sets, by their names in GenerationConfig."""
    values = {name: getattr(body, name) for name in GenerationConfig.model_fields}
    given = {name: value for name, value in values.items() if value is not None}
    if "stop" in given:
        given["stop"] = (given["stop"],) if isinstance(given["stop"], str) else tuple(given["stop"])
    for name in ("bad_words", "choices"):
        if name in given:
            given[name] = tuple(given[name])
    new_tokens = requested_tokens(body)
    if new_tokens is not None:
        given["max_new_tokens"] = new_tokens
    if given.get("top_p") == 1:
        given["top_p"] = None  # no filter; also switches off the run's default
    if given.get("temperature") == 0 and "penalty_alpha" not in given:
        given = {name: value for name, value in given.items() if name not in _SAMPLING_FILTERS}
    return given


def check_options(body: GenerationRequest, limits: ServeSettings) -> None:
    """Raise RequestRejected for too many choices, and for an option without the option it belongs to."""
    if (body.n or 1) > limits.max_n:
        raise RequestRejected(
            f"n = {body.n:,} exceeds the server's limit.", f"n may be at most {limits.max_n:,}.", "Reduce n.", param="n"
        )
    if body.stream_options is not None and not body.stream:
        raise RequestRejected(
            "stream_options is set, but stream is not.",
            "stream_options requires stream = true.",
            "Set stream, or drop stream_options.",
            param="stream_options",
        )
    if body.top_n and not body.with_logprobs:
        raise RequestRejected(
            "top_logprobs is set, but logprobs is not.",
            "top_logprobs requires logprobs = true.",
            "Set logprobs, or drop top_logprobs.",
            param="top_logprobs",
        )
