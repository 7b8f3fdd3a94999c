"""Writing: a model and prompts in, texts out, piece by piece."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from penna.api.abilities import check_goes_on, check_writes
from penna.config.generation import GenerationConfig
from penna.exchange.load import LoadedModel
from penna.generate.request import Request
from penna.generate.writing import Piece, prompt_ids, request_for, write_pieces

DEFAULT = GenerationConfig(temperature=0.8)  # where a model has no settings of its own and none are given


def generate_stream(
    loaded: LoadedModel, prompts: Sequence[str], config: GenerationConfig = DEFAULT, *, seed: int = 0
) -> Iterator[Piece]:
    """Continue every prompt at once, in pieces as they are written; a document's end ends a text.

    Raises, before the first piece is asked for, RunError where the model never learned to write, and DataError where
    there is nothing to start from.
    """
    requests = [write_request(loaded, prompt, config, seed=seed) for prompt in prompts]
    return write_pieces(loaded.model, loaded.need_tokenizer(), requests, show_special=True)


def write_request(
    loaded: LoadedModel,
    prompt: str,
    config: GenerationConfig = DEFAULT,
    *,
    seed: int = 0,
    top_n: int = 0,
    tells_beams: bool = False,
) -> Request:
    """What the engine is asked to go on with a prompt. Raises as ``generate_stream``."""
    check_writes(loaded)
    check_goes_on(loaded)
    tokenizer = loaded.need_tokenizer()
    ids = prompt_ids(tokenizer, prompt, starts_document=loaded.starts_documents)
    return request_for(tokenizer, ids, config, seed=seed, top_n=top_n, tells_beams=tells_beams)


def prompts_too_long(loaded: LoadedModel, prompts: Sequence[str]) -> list[int]:
    """Places of the prompts that do not fit the block and are cut from the left."""
    tokenizer = loaded.need_tokenizer()
    block = loaded.model.config.block_size - loaded.starts_documents
    return [number for number, prompt in enumerate(prompts) if len(tokenizer.encode(prompt)) > block]
