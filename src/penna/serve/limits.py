"""Limits of one request: checks of settings, texts and explanations. Errors are ``RequestRejected``.

A limit holds whether the request or the run's defaults exceed it. The studio's pages use the same checks.
"""

from __future__ import annotations

from collections.abc import Sequence

from penna.api.explain import ExplainSettings
from penna.config.generation import GenerationConfig
from penna.config.sections import ModelConfig
from penna.explain.gradients import MOST_STEPS
from penna.explain.information import DRAWS, STEPS
from penna.formatting import plural
from penna.loading import LoadedModel
from penna.serve.errors import RequestRejected
from penna.serve.settings import ServeSettings
from penna.tokenizer.tokenizer import Tokenizer

_MAX_WEIGHTS = 1_000_000  # numbers of all attention maps in one response
_FORWARD_PASSES: dict[str, int] = {  # maximum per explained answer; other methods need one for each token
    "gradient-x-input": 2,
    "integrated-gradients": 2 * MOST_STEPS,  # doubled until it converges
    "information": STEPS * DRAWS,
    "attention": 1,
    "rollout": 1,
}


def check_generation(config: GenerationConfig, limits: ServeSettings) -> None:
    """Raise RequestRejected if generation settings exceed a limit."""
    candidates = config.top_k if config.penalty_alpha is not None else None  # they take memory as beams do
    bounds = {
        "max_tokens": (config.max_new_tokens, limits.max_new_tokens, "tokens"),
        "num_beams": (config.num_beams, limits.max_beams, "beams"),
        "top_k": (candidates, limits.max_beams, "candidates of contrastive search"),
        "stop": (len(config.stop), limits.max_stop, "stop strings"),
    }
    for name, (value, maximum, what) in bounds.items():
        if value is not None and value > maximum:
            raise RequestRejected(
                f"{value:,} {what} are requested ({name}).",
                f"This server allows at most {maximum:,}.",
                f"Reduce {name}.",
                param=name,
            )


def check_count(count: int, limits: ServeSettings, param: str) -> None:
    """Raise RequestRejected for too many texts in one request."""
    if count > limits.max_batch:
        raise RequestRejected(
            f"{param} has {count:,} texts.",
            f"A request may have at most {limits.max_batch:,}.",
            "Split it into several requests.",
            param=param,
        )


def encode_within_limit(
    tokenizer: Tokenizer, text: str | list[int], limits: ServeSettings, block_size: int, param: str
) -> Sequence[int]:
    """Encode a text, or check given token ids.

    Raises RequestRejected for too many tokens (for a far too long text without encoding it), and for unknown ids.
    """
    maximum = limits.max_prompt_tokens or block_size
    if isinstance(text, str) and len(text) > tokenizer.max_characters(maximum):
        raise _too_long(f"{len(text):,} characters", maximum, param)
    ids = tokenizer.encode(text) if isinstance(text, str) else text
    if len(ids) > maximum:
        raise _too_long(f"{len(ids):,} tokens", maximum, param)
    wrong = next((index for index in ids if index >= tokenizer.vocab_size), None)
    if wrong is not None:
        raise RequestRejected(
            f"{wrong} in {param} is not a token id of this model.",
            f"Ids range from 0 to {tokenizer.vocab_size - 1:,}.",
            "Use the model's own tokenizer.",
            param=param,
        )
    return ids


def _too_long(length: str, maximum: int, param: str) -> RequestRejected:
    return RequestRejected(
        f"A text in {param} has {length}.",
        f"At most {maximum:,} tokens are allowed.",
        "Shorten it or split it.",
        param=param,
        code="context_length_exceeded",
    )


def check_explanation(loaded: LoadedModel, text: str, settings: ExplainSettings, limits: ServeSettings) -> None:
    """Raise RequestRejected if an explanation is too expensive. Texts beyond the context are allowed; they are
    truncated."""
    model, tokenizer, query = loaded.model.config, loaded.require_tokenizer(), settings.query
    if limits.max_prompt_tokens is None:
        tokens = len(tokenizer.encode(text))
    else:
        tokens = len(encode_within_limit(tokenizer, text, limits, model.block_size, "input"))
    for name, part in (("continuation", query.continuation), ("against", query.against)):
        if part is not None:
            encode_within_limit(tokenizer, part, limits, model.block_size, name)
    if settings.attention:
        _check_maps(model, min(tokens + query.generate, query.longest))
    _check_forward_passes(model, settings, tokens, limits)


def _check_forward_passes(model: ModelConfig, settings: ExplainSettings, tokens: int, limits: ServeSettings) -> None:
    explained, answers = min(tokens, settings.query.longest), max(settings.query.generate, 1)
    passes = sum(answers * _FORWARD_PASSES.get(method, explained) for method in settings.methods)
    passes += model.n_layer * (settings.heads * model.n_head + settings.layers * _FORWARD_PASSES["information"])
    if passes > limits.max_explain_steps:
        raise RequestRejected(
            f"This explanation may need {passes:,} forward passes ({plural(explained, 'token', 'tokens')}, "
            f"{plural(answers, 'prediction', 'predictions')}).",
            f"A request may need at most {limits.max_explain_steps:,}.",
            "Explain fewer tokens (longest, generate), or use fewer or cheaper methods, such as gradient-x-input.",
            param="methods",
        )


def _check_maps(model: ModelConfig, longest: int) -> None:
    """Raise RequestRejected if the attention maps of the last ``longest`` tokens are too large for a response."""
    maps, tokens = model.n_layer * model.n_head, min(longest, model.block_size)
    if maps * tokens**2 > _MAX_WEIGHTS:
        raise RequestRejected(
            f"{maps:,} attention maps of {tokens:,} tokens have {maps * tokens**2:,} numbers.",
            f"A response may have at most {_MAX_WEIGHTS:,}.",
            f"Request no maps, or only the last tokens: longest = {int((_MAX_WEIGHTS / maps) ** 0.5):,}.",
            param="longest",
        )
