"""Pretraining: prepared text and a model in, a job for the loop out.

Data, objective and evaluator of the task ``pretrain``: windows over token shards or documents in rows of their own,
cross-entropy of every next token, and the same on the validation text, with samples from fixed prompts at a fixed seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from penna.config.generation import GenerationConfig
from penna.config.schema import Recipe
from penna.config.sections import DataConfig, TokenizerConfig
from penna.data.batches import TrainingDocuments, TrainingWindows, ValidationDocuments, ValidationWindows
from penna.data.cache import Progress
from penna.data.prepare import PreparedShards, describe_counts, prepare
from penna.data.shards import PartManifest, TokenStream
from penna.errors import DataError
from penna.evaluate.language_model import score_rows
from penna.generate.request import Request
from penna.generate.text_stream import generate_texts, prompt_ids
from penna.model.gpt import GPT
from penna.tokenizer.tokenizer import Tokenizer
from penna.train.distributed import ProcessGroup
from penna.train.objective import NextTokenObjective
from penna.train.task import SumsAndCounts, TrainingTask


def prepare_pretrain(recipe: Recipe, tokenizer: TokenizerConfig | Tokenizer, report: Progress) -> PreparedPretraining:
    """A recipe's text as token shards."""
    return PreparedPretraining(prepare(recipe.data, tokenizer, report=report))


@dataclass(frozen=True)
class PreparedPretraining:
    """Running text, prepared."""

    prepared: PreparedShards

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer the shards were made with."""
        return self.prepared.tokenizer

    @property
    def folder(self) -> Path:
        """Where in the cache they are kept."""
        return self.prepared.folder

    @property
    def content_hash(self) -> str:
        """A hash of all the text and of how it is split."""
        return self.prepared.corpus.content_hash

    def complete_recipe(self, recipe: Recipe) -> Recipe:
        """The recipe as it is."""
        return recipe

    def training_task(self, recipe: Recipe, model: GPT) -> TrainingTask:
        """The loop's job. Raises DataError where the text is too short."""
        return pretrain_job(recipe, self.prepared, model)

    def lines(self) -> list[str]:
        """How much text there is, and how many tokens it became."""
        parts = self.prepared.manifest.parts
        return [
            f"Text: {describe_counts(self.prepared.corpus.counts)}",
            f"Tokens: {parts['train'].tokens:,} to learn from, {parts['valid'].tokens:,} for validation, vocabulary "
            f"{self.tokenizer.vocab_size:,}, {self.prepared.bytes_per_token:.2f} bytes per token",
        ]

    def info(self) -> dict[str, Any]:
        """Hashes, split and counts."""
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
    """Cross-entropy, with the bytes each token of this tokenizer stands for.

    Where the tokenizer loses text, its tokens' own bytes are not the text's: each stands for the part's average.
    """
    if tokenizer.lossless:
        return NextTokenObjective(torch.tensor([len(piece) for piece in tokenizer.token_bytes()]))
    return NextTokenObjective(
        torch.full((tokenizer.vocab_size,), part.bytes / max(part.tokens, 1), dtype=torch.float64)
    )


def pretrain_job(recipe: Recipe, prepared: PreparedShards, model: GPT) -> TrainingTask:
    """The loop's job for a recipe, its prepared text and a model. Raises DataError where the text is too short."""
    block = model.config.block_size
    training = training_rows(recipe, prepared, block)
    validation = validation_rows(recipe.data, TokenStream(prepared.folder, "valid"), prepared.tokenizer, block)
    parts = prepared.manifest.parts
    objective = next_token_objective(prepared.tokenizer, parts["train"])
    unseen = next_token_objective(prepared.tokenizer, parts["valid"])

    def evaluate(model: GPT, ranks: ProcessGroup) -> SumsAndCounts:
        return score_rows(model, unseen, validation, ranks.rank, ranks.world)

    def sample(model: GPT, step: int) -> list[tuple[str, str]]:
        return _write_samples(recipe, prepared.tokenizer, model)

    return TrainingTask(model, objective, training, evaluate, sample, fixed_shape=recipe.data.windows == "packed")


def training_rows(recipe: Recipe, prepared: PreparedShards, block: int) -> TrainingWindows | TrainingDocuments:
    """The rows a recipe trains on (``data.windows``). Raises DataError where the text is too short for them."""
    stream = TokenStream(prepared.folder, "train")
    if recipe.data.windows == "documents":
        rows_per_step = recipe.train.batch_size * recipe.train.accumulation
        separator = required_separator(prepared.tokenizer)
        return TrainingDocuments(stream, separator, block, recipe.train.seed, rows_per_step)
    if len(stream) <= block:
        raise DataError(
            f"The training text is {len(stream)} tokens long, which is shorter than a block of {block}.",
            "At least one block and a token.",
            f"Give more text, or a shorter block: --model.block-size {max(1, len(stream) // 4)}.",
        )
    return TrainingWindows(stream, block, recipe.train.seed)


def validation_rows(
    data: DataConfig, stream: TokenStream, tokenizer: Tokenizer, block: int
) -> ValidationWindows | ValidationDocuments:
    """The rows a text is scored in, cut as the training rows are. Raises DataError where there is no text."""
    if data.windows == "documents":
        return ValidationDocuments(stream, required_separator(tokenizer), block)
    return ValidationWindows(stream, block)


def required_separator(tokenizer: Tokenizer) -> int:
    """The id between documents. Raises DataError where the tokenizer has none."""
    if tokenizer.separator_id is None:
        raise DataError(
            "The tokenizer has no document separator.",
            'data.windows = "documents" reads each document from one.',
            "Name its eos_token in tokenizer_config.json, or take --data.windows packed.",
        )
    return tokenizer.separator_id


def _write_samples(recipe: Recipe, tokenizer: Tokenizer, model: GPT) -> list[tuple[str, str]]:
    """The recipe's prompts and what the model goes on with; where it knows single documents only, up to their end."""
    config = recipe.train
    how = GenerationConfig(max_new_tokens=config.sample_tokens, temperature=config.sample_temperature)
    single = recipe.data.windows == "documents"
    stop = frozenset({required_separator(tokenizer)}) if single else frozenset[int]()
    requests = [
        Request(prompt_ids(tokenizer, prompt, starts_document=single), how, config.seed + number, stop)
        for number, prompt in enumerate(config.prompts)
    ]
    written = generate_texts(model, tokenizer, requests, show_special=True)
    return [(prompt, own.text) for prompt, own in zip(config.prompts, written, strict=True)]
