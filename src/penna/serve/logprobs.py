"""The tokens of a text with their probabilities, in the two forms of OpenAI's API.

Probabilities are the model's own, before any setting changed them. A logarithm that no JSON can hold is told as -9999.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from penna.serve.choices import ToldToken
from penna.serve.response_schemas import ChatLogprobs, CompletionLogprobs, TokenLogprob, TopLogprob
from penna.tokenizer.tokenizer import Tokenizer

_LEAST = -9999.0  # as OpenAI's API has it


def completion_logprobs(tokenizer: Tokenizer, tokens: Sequence[ToldToken], before: int) -> CompletionLogprobs:
    """As /v1/completions tells them; ``before`` characters of the choice stand in front of what is written."""
    told = [each.token for each in tokens]
    return CompletionLogprobs(
        tokens=[token_text(tokenizer, token.id) for token in told],
        token_logprobs=[_finite(token.logprob) for token in told],
        top_logprobs=[
            {
                token_text(tokenizer, index): _finite(logprob)  # of tokens that are spelled alike, the likeliest
                for index, logprob in reversed((*token.alternatives,))
            }
            | {token_text(tokenizer, token.id): _finite(token.logprob)}
            if token.alternatives
            else {}
            for token in told
        ],
        text_offset=[before + each.offset for each in tokens],
    )


def chat_logprobs(tokenizer: Tokenizer, tokens: Sequence[ToldToken]) -> ChatLogprobs:
    """As /v1/chat/completions tells them."""
    return ChatLogprobs(
        content=[
            TokenLogprob(
                **_top(tokenizer, each.token.id, each.token.logprob).model_dump(),
                top_logprobs=[_top(tokenizer, *alternative) for alternative in each.token.alternatives],
            )
            for each in tokens
        ]
    )


def token_text(tokenizer: Tokenizer, index: int) -> str:
    """A token as text; one that is no whole character as its bytes."""
    found = tokenizer.rendered_bytes(index)
    try:
        return found.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in found)


def _top(tokenizer: Tokenizer, index: int, logprob: float) -> TopLogprob:
    found = tokenizer.rendered_bytes(index)
    return TopLogprob(token=found.decode("utf-8", "replace"), logprob=_finite(logprob), bytes=list(found))


def _finite(logprob: float) -> float:
    return logprob if math.isfinite(logprob) else _LEAST
