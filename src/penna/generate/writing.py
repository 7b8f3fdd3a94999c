"""From requests to whole texts: everything is written at once and given back when the last text is finished.

In come a model, its tokenizer and requests; out come their texts in the same order. A prompt becomes ids here, too. To
see a text grow, take the engine's events and `penna.text.stream`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from penna.errors import DataError
from penna.generate.engine import NewToken, Request, generate
from penna.model.gpt import GPT
from penna.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Written:
    """What was written for one request."""

    ids: tuple[int, ...]  # all that was drawn, control tokens too; the token that ended the text is not among them
    text: str
    logprob: float  # natural logarithm of the probability of all these ids under the model
    finish: str  # "length" or "stop"


def write(
    model: GPT, tokenizer: Tokenizer, requests: Sequence[Request], *, show_special: bool = False
) -> list[Written]:
    """Write all requests together. ``show_special`` writes control tokens the model drew by their names into the text.

    Raises DataError where a request's source is not what the model reads (``penna.generate.engine.generate``).
    """
    ids: list[list[int]] = [[] for _ in requests]
    logprobs, finishes = [0.0] * len(requests), [""] * len(requests)
    for event in generate(model, requests):
        if isinstance(event, NewToken):
            ids[event.request].append(event.id)
            logprobs[event.request] += event.logprob
        else:
            finishes[event.request] = event.reason
    hidden = frozenset[int]() if show_special else frozenset(tokenizer.special_tokens.values())
    return [
        Written(tuple(drawn), tokenizer.decode([index for index in drawn if index not in hidden]), logprob, finish)
        for drawn, logprob, finish in zip(ids, logprobs, finishes, strict=True)
    ]


def prompt_ids(tokenizer: Tokenizer, prompt: str, *, starts_document: bool = False) -> list[int]:
    """A prompt's ids; an empty one is the document separator, as at the start of a document.

    ``starts_document`` puts the separator before any prompt, for a model that has read nothing without it. Raises
    DataError where there is no token to start from.
    """
    ids = tokenizer.encode(prompt)
    if ids and not starts_document:
        return ids
    if tokenizer.separator_id is None:
        raise DataError(
            "The prompt is empty, and the tokenizer has no document separator to start from.",
            "At least one token to go on from.",
            "Give a prompt.",
        )
    return [tokenizer.separator_id, *ids]
