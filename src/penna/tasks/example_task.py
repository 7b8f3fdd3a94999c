"""What chat, complete and classify share: their training data are examples, one or several per record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penna.config.schema import Recipe
from penna.data.examples.batches import TrainingExamples, ValidationExamples
from penna.data.examples.prepare import PreparedExamples
from penna.data.examples.store import Examples
from penna.evaluate.language_model import score_rows
from penna.formatting import plural
from penna.model.gpt import GPT
from penna.tokenizer.tokenizer import Tokenizer
from penna.train.distributed import ProcessGroup
from penna.train.objective import NextTokenObjective, Objective, token_byte_counts
from penna.train.task import SumsAndCounts, TrainingTask


@dataclass(frozen=True)
class PreparedExampleTask:
    """The prepared examples of one recipe. A task overrides what it does differently."""

    prepared: PreparedExamples

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the examples, with all that the task added to it."""
        return self.prepared.tokenizer

    @property
    def folder(self) -> Path:
        """The folder in the cache."""
        return self.prepared.folder

    @property
    def content_hash(self) -> str:
        """A hash of the records and their split."""
        return self.prepared.content_hash

    @property
    def truncated(self) -> int:
        """How many examples lack a part of their record, which was too long."""
        return self.prepared.train_counts.truncated + self.prepared.valid_counts.truncated

    def complete_recipe(self, recipe: Recipe) -> Recipe:
        """The recipe, unchanged: the data add nothing to it."""
        return recipe

    def training_task(self, recipe: Recipe, model: GPT) -> TrainingTask:
        """The training task of a completed recipe."""
        objective = self._objective(model)
        seed = recipe.train.seed
        # Rows are bucketed by whole steps: a step has the same rows however it is split into micro-batches of similar
        # length.
        rows_per_step = recipe.train.batch_size * recipe.train.accumulation
        training = TrainingExamples(self.prepared.train, rows_per_step, seed, self._resampler(seed))
        validation = ValidationExamples(self.prepared.valid)

        def evaluate(model: GPT, group: ProcessGroup) -> SumsAndCounts:
            return self._evaluate(model, objective, validation, group)

        def sample(model: GPT) -> list[tuple[str, str]]:
            return self._sample(recipe, model)

        return TrainingTask(model, objective, training, evaluate, sample, sample_separator=" → ")

    def _objective(self, model: GPT) -> Objective:
        return NextTokenObjective(token_byte_counts(self.tokenizer))

    def _resampler(self, seed: int) -> Callable[[int], Examples] | None:
        """A function from an epoch to its training examples; None if all epochs have the same."""
        return None

    def _evaluate(
        self, model: GPT, objective: Any, validation: ValidationExamples, group: ProcessGroup
    ) -> SumsAndCounts:
        return score_rows(model, objective, validation, group.rank, group.world)

    def _sample(self, recipe: Recipe, model: GPT) -> list[tuple[str, str]]:
        """The recipe's prompts and the model's outputs for them."""
        raise NotImplementedError

    def info(self) -> dict[str, Any]:
        """Hashes and counts, for run.json."""
        counts = self.prepared.counts
        train, valid = self.prepared.train_counts, self.prepared.valid_counts
        return {
            "content_hash": self.content_hash,
            "tokenizer_hash": self.tokenizer.fingerprint(),
            "split": self.prepared.split,
            "records": counts.records,
            "bytes": counts.bytes,
            "bad_records": counts.bad_records,
            "train_examples": train.examples,
            "valid_examples": valid.examples,
            "train_tokens": train.tokens,
            "valid_tokens": valid.tokens,
        }

    def target_info(self) -> dict[str, int]:
        """The target tokens of each part, for run.json."""
        return {
            "train_targets": self.prepared.train_counts.targets,
            "valid_targets": self.prepared.valid_counts.targets,
        }

    def records_summary(self, name: str) -> str:
        """How many records were read, in one line that starts with the ``name`` of such records."""
        counts = self.prepared.counts
        line = f"{name}: {plural(counts.records, 'record', 'records')}, {counts.characters:,} characters"
        if counts.bad_records:
            line += f", {plural(counts.bad_records, 'bad record', 'bad records')} skipped (the first: {counts.bad[0]})"
        return line

    def targets_summary(self) -> str:
        """How many examples each part has, and how many of their tokens are targets, in one line."""
        parts = (self.prepared.train_counts, self.prepared.valid_counts)
        train, valid = (f"{part.examples:,} ({part.targets:,} of {part.tokens:,} tokens are targets)" for part in parts)
        return f"Examples: {train} for training, {valid} for validation; vocabulary {self.tokenizer.vocab_size:,}"
