"""Writing: a model and prompts in, texts out, piece by piece."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from penna.api.abilities import check_goes_on, check_writes
from penna.errors import RecipeError
from penna.exchange.load import LoadedModel
from penna.generate.engine import NewToken, Request, generate
from penna.generate.sampling import Sampling
from penna.generate.writing import prompt_ids
from penna.text.stream import StreamDecoder
from penna.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Piece:
    """A further bit of one text; ``finish`` says why the text ended, on its last piece."""

    prompt: int  # its place in the list of prompts
    text: str
    finish: str | None
    tokens: int  # tokens written so far
    logprob: float  # their log-probabilities summed


def generate_stream(
    loaded: LoadedModel,
    prompts: Sequence[str],
    *,
    max_new_tokens: int = 200,
    min_new_tokens: int = 0,
    sampling: Sampling | None = None,
    seed: int = 0,
) -> Iterator[Piece]:
    """Continue every prompt at once, in pieces as they are written; a document's end ends a text.

    Before ``min_new_tokens`` no document ends. Raises, before the first piece is asked for, RecipeError where these are
    more than ``max_new_tokens``, and RunError where the model never learned to write.
    """
    if not 0 <= min_new_tokens <= max_new_tokens:
        raise RecipeError(
            f"min_new_tokens = {min_new_tokens} cannot be.",
            f"At least 0, and at most max_new_tokens, which is {max_new_tokens}.",
            "Change one of them.",
        )
    check_writes(loaded)
    check_goes_on(loaded)
    tokenizer = loaded.need_tokenizer()
    stop = frozenset() if tokenizer.separator_id is None else frozenset({tokenizer.separator_id})
    chosen = sampling or Sampling(temperature=0.8)
    starts = [prompt_ids(tokenizer, prompt, starts_document=loaded.starts_documents) for prompt in prompts]
    requests = [Request(ids, max_new_tokens, chosen, seed, stop, min_new_tokens=min_new_tokens) for ids in starts]
    return _pieces(loaded, tokenizer, requests)


def _pieces(loaded: LoadedModel, tokenizer: Tokenizer, requests: Sequence[Request]) -> Iterator[Piece]:
    decoders = [StreamDecoder(tokenizer) for _ in requests]
    counts, logprobs = [0] * len(requests), [0.0] * len(requests)
    for event in generate(loaded.model, requests):
        number = event.request
        if isinstance(event, NewToken):
            counts[number] += 1
            logprobs[number] += event.logprob
            yield Piece(number, decoders[number].push(event.id), None, counts[number], logprobs[number])
        else:
            yield Piece(number, decoders[number].finish(), event.reason, counts[number], logprobs[number])


def prompts_too_long(loaded: LoadedModel, prompts: Sequence[str]) -> list[int]:
    """Places of the prompts that do not fit the block and are cut from the left."""
    tokenizer = loaded.need_tokenizer()
    block = loaded.model.config.block_size - loaded.starts_documents
    return [number for number, prompt in enumerate(prompts) if len(tokenizer.encode(prompt)) > block]
