"""What one request may ask for: settings, texts and explanations in, errors out.

A limit holds whoever set what passes it, the request or the run's own settings. The studio's pages ask here too.
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

_MOST_WEIGHTS = 1_000_000  # of attention maps in one answer
_READS: dict[str, int] = {  # how often a method reads the text, at most; the others once for each token
    "gradient-x-input": 2,
    "integrated-gradients": 2 * MOST_STEPS,  # doubled until they suffice
    "information": STEPS * DRAWS,
    "attention": 1,
    "rollout": 1,
}


def check_generation(config: GenerationConfig, limits: ServeSettings) -> None:
    """Reject more than is written at once."""
    weighed = config.top_k if config.penalty_alpha is not None else None  # texts side by side, as beams are
    bounds = {
        "max_tokens": (config.max_new_tokens, limits.max_new_tokens, "tokens"),
        "num_beams": (config.num_beams, limits.max_beams, "beams"),
        "top_k": (weighed, limits.max_beams, "candidates of contrastive search"),
        "stop": (len(config.stop), limits.max_stop, "stop strings"),
    }
    for name, (value, most, what) in bounds.items():
        if value is not None and value > most:
            raise RequestRejected(
                f"{value:,} {what} are asked for ({name}).", f"At most {most:,} here.", "Ask for fewer.", param=name
            )


def check_count(count: int, limits: ServeSettings, param: str) -> None:
    """Raise RequestRejected for more texts than one request may hold."""
    if count > limits.max_batch:
        raise RequestRejected(
            f"{count:,} texts are in {param}.",
            f"At most {limits.max_batch:,} in one request.",
            "Send them in several.",
            param=param,
        )


def encode_within_limit(
    tokenizer: Tokenizer, given: str | list[int], limits: ServeSettings, block_size: int, param: str
) -> Sequence[int]:
    """The ids of a text, or ids that were given. RequestRejected for more than are read here, of a text far too
    long before it is read at all, and for an id that is none of the tokenizer's."""
    most = limits.max_prompt_tokens or block_size
    if isinstance(given, str) and len(given) > tokenizer.max_characters(most):
        raise _too_long(f"{len(given):,} characters", most, param)
    ids = tokenizer.encode(given) if isinstance(given, str) else given
    if len(ids) > most:
        raise _too_long(f"{len(ids):,} tokens", most, param)
    wrong = next((index for index in ids if index >= tokenizer.vocab_size), None)
    if wrong is not None:
        raise RequestRejected(
            f"{wrong} in {param} is no token's id.",
            f"From 0 to {tokenizer.vocab_size - 1:,}.",
            "Use the tokenizer of this model.",
            param=param,
        )
    return ids


def _too_long(length: str, most: int, param: str) -> RequestRejected:
    return RequestRejected(
        f"A text of {param} has {length}.",
        f"At most {most:,} tokens are read here.",
        "Shorten it, or send it in parts.",
        param=param,
        code="context_length_exceeded",
    )


def check_explanation(loaded: LoadedModel, text: str, settings: ExplainSettings, limits: ServeSettings) -> None:
    """Reject more than is explained here. A text may be longer than the model reads, which is cut then."""
    model, tokenizer, asked = loaded.model.config, loaded.require_tokenizer(), settings.query
    if limits.max_prompt_tokens is None:
        tokens = len(tokenizer.encode(text))
    else:
        tokens = len(encode_within_limit(tokenizer, text, limits, model.block_size, "input"))
    for name, given in (("continuation", asked.continuation), ("against", asked.against)):
        if given is not None:
            encode_within_limit(tokenizer, given, limits, model.block_size, name)
    if settings.attention:
        _check_maps(model, min(tokens + asked.generate, asked.longest))
    _check_steps(model, settings, tokens, limits)


def _check_steps(model: ModelConfig, settings: ExplainSettings, tokens: int, limits: ServeSettings) -> None:
    """Reject an explanation of so many tokens might let the model read them more often than it may."""
    explained, answers = min(tokens, settings.query.longest), max(settings.query.generate, 1)
    steps = sum(answers * _READS.get(method, explained) for method in settings.methods)
    steps += model.n_layer * (settings.heads * model.n_head + settings.layers * _READS["information"])
    if steps > limits.max_explain_steps:
        raise RequestRejected(
            f"The model might have to read the text {steps:,} times: its {plural(explained, 'token', 'tokens')}, asked "
            f"about {plural(answers, 'answer', 'answers')}.",
            f"At most {limits.max_explain_steps:,} times in one request.",
            "Ask for fewer tokens (longest, generate), or for fewer or lighter methods, such as gradient-x-input.",
            param="methods",
        )


def _check_maps(model: ModelConfig, longest: int) -> None:
    """Reject attention maps, those of the last ``longest`` tokens, of more numbers than an answer holds."""
    maps, shown = model.n_layer * model.n_head, min(longest, model.block_size)
    if maps * shown**2 > _MOST_WEIGHTS:
        raise RequestRejected(
            f"{maps:,} attention maps of {shown:,} tokens are {maps * shown**2:,} numbers.",
            f"At most {_MOST_WEIGHTS:,}.",
            f"Ask for no maps, or for the last tokens alone: longest = {int((_MOST_WEIGHTS / maps) ** 0.5):,}.",
            param="longest",
        )
