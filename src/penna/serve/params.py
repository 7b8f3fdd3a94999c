"""How a request wants its texts written: what it says, laid over the run's own settings, within the server's limits."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from penna.api.generation_defaults import override_settings
from penna.config.generation import GenerationConfig
from penna.generate.request import Request
from penna.serve.errors import RequestRejected
from penna.serve.limits import check_generation
from penna.serve.request_schemas import ChatRequest, GenerationRequest
from penna.serve.settings import ServeSettings

_LIMITS_OF_A_DRAW = ("top_k", "top_p", "min_p")  # each keeps the likeliest token
_SEEDS = 2**31  # of a request that names none


@dataclass(frozen=True)
class Ask:
    """One request to the engine, and the choices of the answer that are made of it.

    A search makes its best texts of one request; a text that is the same with any seed is written once and told as
    often as it is asked for.
    """

    request: Request
    choices: tuple[int, ...]
    echoed: str = ""  # told before the text


def generation_of(asked: GenerationRequest, defaults: GenerationConfig, limits: ServeSettings) -> GenerationConfig:
    """The settings of a request. Raises RequestRejected beyond a limit, or RecipeError."""
    given = _given(asked)
    config = override_settings(defaults, given)
    if "max_new_tokens" not in given and config.max_new_tokens > limits.max_new_tokens:  # the run's own
        config = override_settings(config, {"max_new_tokens": limits.max_new_tokens})
    check_generation(config, limits)
    return config


def asks_of(requests: Sequence[Request], asked: GenerationRequest, echoed: Sequence[str] = ()) -> list[Ask]:
    """What the engine is asked for ``n`` texts of each request. Raises RequestRejected where a search has fewer."""
    n = asked.n or 1
    asks: list[Ask] = []
    for number, request in enumerate(requests):
        places = tuple(range(number * n, (number + 1) * n))
        echo = echoed[number] if echoed else ""
        strategy = request.config.strategy
        if strategy == "beam" and n > request.config.num_beams:
            raise RequestRejected(
                f"n = {n} texts are asked of a search with num_beams = {request.config.num_beams}.",
                "A beam search gives its best texts, at most as many as it has beams.",
                "Ask for fewer, or take more beams.",
                param="n",
            )
        if strategy == "sample":
            seeds = (request.seed + place for place in range(n))
            asks += [
                Ask(replace(request, seed=seed), (place,), echo) for seed, place in zip(seeds, places, strict=True)
            ]
        else:
            asks.append(Ask(request, places, echo))
    return asks


def seed_of(asked: GenerationRequest) -> int:
    """The request's seed, else any."""
    return secrets.randbelow(_SEEDS) if asked.seed is None else asked.seed


def most_tokens(asked: GenerationRequest) -> int | None:
    """How many tokens a request wants written at most, where it says so. RequestRejected where it says it twice."""
    named = {"max_new_tokens": asked.max_new_tokens, "max_tokens": asked.max_tokens}
    if isinstance(asked, ChatRequest):
        named["max_completion_tokens"] = asked.max_completion_tokens
    named = {name: value for name, value in named.items() if value is not None}
    if len(set(named.values())) > 1:
        raise RequestRejected(
            f"{' and '.join(f'{name} = {value}' for name, value in named.items())} mean the same.",
            "One of them, or the same number.",
            "Leave the others out.",
            param=next(iter(named)),
        )
    return next(iter(named.values()), None)


def _given(asked: GenerationRequest) -> dict[str, Any]:
    """The settings that a request names, by the names of GenerationConfig."""
    own = {name: getattr(asked, name) for name in GenerationConfig.model_fields}
    given = {name: value for name, value in own.items() if value is not None}
    if "stop" in given:
        given["stop"] = (given["stop"],) if isinstance(given["stop"], str) else tuple(given["stop"])
    for name in ("bad_words", "choices"):
        if name in given:
            given[name] = tuple(given[name])
    most = most_tokens(asked)
    if most is not None:
        given["max_new_tokens"] = most
    if given.get("top_p") == 1:
        given["top_p"] = None  # all tokens: no limit, nor the run's own
    if given.get("temperature") == 0 and "penalty_alpha" not in given:
        given = {name: value for name, value in given.items() if name not in _LIMITS_OF_A_DRAW}
    return given


def check_texts(asked: GenerationRequest, limits: ServeSettings) -> None:
    """Raise RequestRejected for more texts of a prompt than are written here, and for options that go with another."""
    if (asked.n or 1) > limits.max_n:
        raise RequestRejected(
            f"n = {asked.n:,} texts of each prompt are asked for.",
            f"At most {limits.max_n:,} here.",
            "Ask for fewer.",
            param="n",
        )
    if asked.stream_options is not None and not asked.stream:
        raise RequestRejected(
            "stream_options say how a stream is told, and none is asked for.",
            "stream_options with stream = true.",
            "Leave them out, or ask for a stream.",
            param="stream_options",
        )
    if asked.top_n and not asked.tells_tokens:
        raise RequestRejected(
            "top_logprobs are asked for without logprobs.",
            "top_logprobs with logprobs = true.",
            "Set logprobs, or leave top_logprobs out.",
            param="top_logprobs",
        )
