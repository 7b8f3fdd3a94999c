"""Pretraining: prepared text and a model in, a job for the loop out.

Data, objective and evaluator of the task ``pretrain``: windows over token shards, cross-entropy of every next token,
and the same on the validation text, with samples from fixed prompts at a fixed seed.
"""

from __future__ import annotations

import torch

from penna.config.schema import Recipe
from penna.data.batches import TrainingWindows, ValidationWindows
from penna.data.prepare import Prepared
from penna.data.shards import TokenStream
from penna.errors import DataError
from penna.evaluate.language_model import score_rows
from penna.generate.engine import NewToken, Request, generate
from penna.generate.sampling import Sampling
from penna.model.gpt import GPT
from penna.text.tokenizer import Tokenizer
from penna.train.job import Job, Sums
from penna.train.objective import NextToken
from penna.train.ranks import Ranks


def next_token_objective(tokenizer: Tokenizer) -> NextToken:
    """Cross-entropy, with the bytes each token of this tokenizer stands for."""
    return NextToken(torch.tensor([len(piece) for piece in tokenizer.token_bytes()]))


def pretrain_job(recipe: Recipe, prepared: Prepared, model: GPT) -> Job:
    """The loop's job for a recipe, its prepared text and a model. Raises DataError where the text is too short."""
    block = model.config.block_size
    stream = TokenStream(prepared.folder, "train")
    if len(stream) <= block:
        raise DataError(
            f"The training text is {len(stream)} tokens long, which is shorter than a block of {block}.",
            "At least one block and a token.",
            f"Give more text, or a shorter block: --model.block-size {max(1, len(stream) // 4)}.",
        )
    windows = ValidationWindows(TokenStream(prepared.folder, "valid"), block)
    objective = next_token_objective(prepared.tokenizer)

    def evaluate(model: GPT, ranks: Ranks) -> Sums:
        return score_rows(model, objective, windows, ranks.rank, ranks.world)

    def sample(model: GPT, step: int) -> list[tuple[str, str]]:
        prompts = recipe.train.prompts
        sampling = Sampling(temperature=recipe.train.sample_temperature)
        requests = [
            Request(
                prompt_ids(prepared.tokenizer, prompt), recipe.train.sample_tokens, sampling, recipe.train.seed + number
            )
            for number, prompt in enumerate(prompts)
        ]
        written: list[list[int]] = [[] for _ in prompts]
        for event in generate(model, requests):
            if isinstance(event, NewToken):
                written[event.request].append(event.id)
        return [(prompt, prepared.tokenizer.decode(ids)) for prompt, ids in zip(prompts, written, strict=True)]

    return Job(model, objective, TrainingWindows(stream, block, recipe.train.seed), evaluate, sample)


def prompt_ids(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """A prompt's ids; an empty one is the document separator, as at the start of a document."""
    if ids := tokenizer.encode(prompt):
        return ids
    if tokenizer.separator_id is None:
        raise DataError(
            "The prompt is empty, and the tokenizer has no document separator to start from.",
            "At least one token to go on from.",
            "Give a prompt.",
        )
    return [tokenizer.separator_id]
