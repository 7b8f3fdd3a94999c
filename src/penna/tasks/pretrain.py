"""Pretraining: cross-entropy of every next token of running text.

Rows are windows over token shards, or documents that never share a row (``data.windows``).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from penna.config.generation import GenerationConfig
from penna.config.schema import Recipe
from penna.config.sections import DataConfig
from penna.data.batches import TrainingDocuments, TrainingWindows, ValidationDocuments, ValidationWindows
from penna.data.prepare import PreparedShards, describe_counts
from penna.data.shards import PartManifest, TokenStream
from penna.errors import DataError
from penna.evaluate.language_model import score_rows
from penna.formatting import plural
from penna.generate.request import Request
from penna.generate.text_stream import SHOW_SPECIAL, generate_texts, prompt_ids
from penna.model.gpt import GPT
from penna.tokenizer.tokenizer import Tokenizer
from penna.train.distributed import ProcessGroup
from penna.train.objective import NextTokenObjective
from penna.train.task import SumsAndCounts, TrainingTask

_BYTES_PER_PAGE = 3000


@dataclass(frozen=True)
class PreparedPretraining:
    """The token shards of one recipe."""

    prepared: PreparedShards

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the shards."""
        return self.prepared.tokenizer

    @property
    def folder(self) -> Path:
        """The folder in the cache."""
        return self.prepared.folder

    @property
    def content_hash(self) -> str:
        """A hash of all the text and its split."""
        return self.prepared.corpus.content_hash

    def complete_recipe(self, recipe: Recipe) -> Recipe:
        """The recipe, unchanged: the text adds nothing to it."""
        return recipe

    def training_task(self, recipe: Recipe, model: GPT) -> TrainingTask:
        """The training task of a completed recipe. Raises DataError if the text is too short."""
        block, parts = model.config.block_size, self.prepared.manifest.parts
        training = training_rows(recipe, self.prepared, block)
        stream = TokenStream(self.folder, "valid")
        validation = validation_rows(recipe.data, stream, self.tokenizer, block)
        objective = next_token_objective(self.tokenizer, parts["train"])
        validation_objective = next_token_objective(self.tokenizer, parts["valid"])

        def evaluate(model: GPT, group: ProcessGroup) -> SumsAndCounts:
            return score_rows(model, validation_objective, validation, group.rank, group.world)

        def sample(model: GPT) -> list[tuple[str, str]]:
            return _continuations(recipe, self.tokenizer, model)

        return TrainingTask(model, objective, training, evaluate, sample, fixed_shape=recipe.data.windows == "packed")

    def lines(self) -> list[str]:
        """The amount of text, and the tokens it became."""
        parts = self.prepared.manifest.parts
        return [
            f"Text: {describe_counts(self.prepared.corpus.counts)}",
            f"Tokens: {parts['train'].tokens:,} for training, {parts['valid'].tokens:,} for validation, vocabulary "
            f"{self.tokenizer.vocab_size:,}, {self.prepared.bytes_per_token:.2f} bytes per token",
        ]

    def info(self) -> dict[str, Any]:
        """Hashes, split and counts, for run.json."""
        counts, parts = self.prepared.corpus.counts, self.prepared.manifest.parts
        return {
            "content_hash": self.content_hash,
            "tokenizer_hash": self.tokenizer.fingerprint(),
            "split": self.prepared.corpus.split,
            "documents": counts.documents,
            "bytes": counts.bytes,
            "bad_records": counts.bad_records,
            "train_tokens": parts["train"].tokens,
            "valid_tokens": parts["valid"].tokens,
        }


def next_token_objective(tokenizer: Tokenizer, part: PartManifest) -> NextTokenObjective:
    """Cross-entropy, with the bytes of text of each token.

    The tokens of a lossy tokenizer do not spell their text, so each counts the part's average.
    """
    if tokenizer.lossless:
        return NextTokenObjective(torch.tensor([len(token) for token in tokenizer.token_bytes()]))
    return NextTokenObjective(
        torch.full((tokenizer.vocab_size,), part.bytes / max(part.tokens, 1), dtype=torch.float64)
    )


def training_rows(recipe: Recipe, prepared: PreparedShards, block: int) -> TrainingWindows | TrainingDocuments:
    """The training rows of a recipe (``data.windows``). Raises DataError if the text is too short."""
    stream = TokenStream(prepared.folder, "train")
    if recipe.data.windows == "documents":
        rows_per_step = recipe.train.batch_size * recipe.train.accumulation
        separator = required_separator(prepared.tokenizer)
        return TrainingDocuments(stream, separator, block, recipe.train.seed, rows_per_step)
    if len(stream) <= block:
        pages = max(1, round((block + 1) * prepared.bytes_per_token / _BYTES_PER_PAGE))
        amount = "a page" if pages == 1 else plural(pages, "page", "pages")
        raise DataError(
            f"The training text has only {len(stream):,} tokens.",
            f"You need at least {block + 1:,} tokens, about {amount} of text.",
            f"Add text, or use a shorter context: --model.block-size {max(1, len(stream) // 4)}.",
        )
    return TrainingWindows(stream, block, recipe.train.seed)


def validation_rows(
    data: DataConfig, stream: TokenStream, tokenizer: Tokenizer, block: int
) -> ValidationWindows | ValidationDocuments:
    """The rows of a text to score, cut like the training rows. Raises DataError if there is no text."""
    if data.windows == "documents":
        return ValidationDocuments(stream, required_separator(tokenizer), block)
    return ValidationWindows(stream, block)


def required_separator(tokenizer: Tokenizer) -> int:
    """The id between documents. Raises DataError if the tokenizer has none."""
    if tokenizer.separator_id is None:
        raise DataError(
            "The tokenizer has no document separator.",
            'data.windows = "documents" starts each document with one.',
            "Set eos_token in tokenizer_config.json, or use --data.windows packed.",
        )
    return tokenizer.separator_id


def _continuations(recipe: Recipe, tokenizer: Tokenizer, model: GPT) -> list[tuple[str, str]]:
    """The recipe's prompts and their continuations. With rows of single documents, a separator ends the text."""
    config = recipe.train
    settings = GenerationConfig(max_new_tokens=config.sample_tokens, temperature=config.sample_temperature)
    single = recipe.data.windows == "documents"
    stop_ids = frozenset({required_separator(tokenizer)}) if single else frozenset[int]()
    requests = [
        Request(prompt_ids(tokenizer, prompt, starts_document=single), settings, config.seed + number, stop_ids)
        for number, prompt in enumerate(config.prompts)
    ]
    texts = generate_texts(model, tokenizer, requests, SHOW_SPECIAL)
    return [(prompt, generated.text) for prompt, generated in zip(config.prompts, texts, strict=True)]
