"""The log-probabilities of generated tokens, in the two formats of OpenAI's API.

Probabilities are the model's own, before sampling settings. As in OpenAI's API, -9999 stands for minus infinity.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from penna.generate.text_stream import TextToken
from penna.serve.response_schemas import ChatLogprobs, CompletionLogprobs, TokenLogprob, TopLogprob
from penna.tokenizer.tokenizer import Tokenizer

_MINIMUM = -9999.0


def completion_logprobs(tokenizer: Tokenizer, tokens: Sequence[TextToken]) -> CompletionLogprobs:
    """The format of /v1/completions."""
    generated = [each.token for each in tokens]
    return CompletionLogprobs(
        tokens=[token_text(tokenizer, token.id) for token in generated],
        token_logprobs=[_finite(token.logprob) for token in generated],
        top_logprobs=[
            {
                token_text(tokenizer, index): _finite(logprob)  # of tokens with the same text, the likeliest
                for index, logprob in reversed((*token.alternatives,))
            }
            | {token_text(tokenizer, token.id): _finite(token.logprob)}
            if token.alternatives
            else {}
            for token in generated
        ],
        text_offset=[each.offset for each in tokens],
    )


def chat_logprobs(tokenizer: Tokenizer, tokens: Sequence[TextToken]) -> ChatLogprobs:
    """The format of /v1/chat/completions."""
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
    """A token as text; a token that is not valid UTF-8 as its bytes."""
    content = tokenizer.rendered_bytes(index)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in content)


def _top(tokenizer: Tokenizer, index: int, logprob: float) -> TopLogprob:
    content = tokenizer.rendered_bytes(index)
    return TopLogprob(token=content.decode("utf-8", "replace"), logprob=_finite(logprob), bytes=list(content))


def _finite(logprob: float) -> float:
    return logprob if math.isfinite(logprob) else _MINIMUM
