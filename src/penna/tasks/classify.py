"""Classification: labeled texts, or pairs of texts, become examples with a class.

A text is read between two separators, a pair with a third between its texts. The state after the last separator has
seen the whole text and belongs to the same token for every text, even for an empty one. What does not fit into the
context is truncated, the longer text of a pair first. The loss is that of the label plus, with ``task.lm_weight``, that
of the text's tokens.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from penna.config.schema import Recipe
from penna.config.sections import DataConfig, TokenizerConfig
from penna.config.tasks import ClassifyTask, Truncation
from penna.data.batches import IGNORE_INDEX, TARGET_KEYS, Batch
from penna.data.cache import Progress
from penna.data.examples.batches import ValidationExamples
from penna.data.examples.example import Example, truncate
from penna.data.examples.prepare import prepare_examples
from penna.data.examples.split import unknown_label_reason
from penna.data.examples.store import Examples, pack_examples
from penna.data.sources.fields import LabeledText, labeled_text_of
from penna.data.sources.records import BadRecord, Record
from penna.errors import RecipeError
from penna.model.gpt import GPT
from penna.tasks.example_task import PreparedExampleTask
from penna.tokenizer.files import SEPARATOR
from penna.tokenizer.special_tokens import with_special_tokens
from penna.tokenizer.subword_sampling import SubwordSampler
from penna.tokenizer.tokenizer import Tokenizer
from penna.train.classification import (
    ClassificationObjective,
    Pooling,
    class_counts,
    class_logits,
    scaled_class_weights,
)
from penna.train.distributed import ProcessGroup
from penna.train.objective import token_byte_counts
from penna.train.task import SumsAndCounts, TrainingTask

Encode = Callable[[Sequence[str]], list[list[int]]]
_BATCH_TOKENS = 8192  # of a batch that is only read, with its padding
_SHOWN_CLASSES = 8


@dataclass(frozen=True)
class ClassifyFormat:
    """How a model reads labeled texts: as at most ``block_size`` ids."""

    block_size: int
    cut: Truncation

    @property
    def settings(self) -> str:
        """Everything that examples depend on, except the text and the tokenizer."""
        return json.dumps({"task": "classify", "block_size": self.block_size, "cut": self.cut})

    def read(self, record: Record, data: DataConfig) -> LabeledText | BadRecord:
        """A record's text, or its two texts, and its label."""
        return labeled_text_of(record, data)

    def texts(self, item: LabeledText) -> tuple[str, ...]:
        """The text, or both."""
        return (item.text,) if item.pair is None else (item.text, item.pair)

    def label(self, item: LabeledText) -> str:
        """The name of its class."""
        return item.label

    def adapt(self, tokenizer: Tokenizer) -> Tokenizer:
        """The tokenizer, with a separator added if it has none."""
        return tokenizer if tokenizer.separator_id is not None else with_special_tokens(tokenizer, [SEPARATOR])

    def encode(self, items: Sequence[LabeledText], tokenizer: Tokenizer, labels: Sequence[str]) -> list[Example]:
        """An example per item. Its label must be one of ``labels``."""
        numbers = {label: number for number, label in enumerate(labels)}
        read = self._read([self.texts(item) for item in items], tokenizer)
        return [
            Example(ids, label=numbers[item.label], truncated=truncated)
            for item, (ids, truncated) in zip(items, read, strict=True)
        ]

    def ids(
        self, texts: Sequence[tuple[str, ...]], tokenizer: Tokenizer, encode: Encode | None = None
    ) -> list[list[int]]:
        """The ids that a model reads of texts or pairs: each text between separators, truncated to the context.

        ``encode`` replaces the tokenizer's own encoding of texts.
        """
        return [ids for ids, _ in self._read(texts, tokenizer, encode)]

    def _read(
        self, texts: Sequence[tuple[str, ...]], tokenizer: Tokenizer, encode: Encode | None = None
    ) -> list[tuple[list[int], bool]]:
        """The ids of each text or pair, and whether it was truncated."""
        separator = self.adapt(tokenizer).separator_id
        assert separator is not None
        encoded = iter((encode or tokenizer.encode_batch)([part for parts in texts for part in parts]))
        result: list[tuple[list[int], bool]] = []
        for parts in texts:
            ids, part_ids = [separator], [next(encoded) for _ in parts]
            lengths = [len(part) for part in part_ids]
            sizes = truncated_lengths(lengths, self.block_size - 1 - len(part_ids))
            for part, size in zip(part_ids, sizes, strict=True):
                ids += [*truncate(part, size, self.cut), separator]
            result.append((ids, sizes != lengths))
        return result


def truncated_lengths(lengths: Sequence[int], budget: int) -> list[int]:
    """One or two lengths reduced to at most ``budget`` in all: the longer one first, the second if both are equal."""
    if sum(lengths) <= budget:
        return list(lengths)
    if len(lengths) == 1:
        return [budget]
    first, second = lengths
    half = budget // 2
    if first <= budget - half:
        return [first, budget - first]
    return [budget - second, second] if second <= half else [budget - half, half]


def prepare_classify(
    recipe: Recipe, task: ClassifyTask, tokenizer: TokenizerConfig | Tokenizer, report: Progress
) -> PreparedClassification:
    """Prepare the labeled texts of a recipe.

    Raises DataError if records cannot be used, and RecipeError if labels (each needs a training example), class weights
    or the block size do not fit them.
    """
    _check_labels(task)
    form = _classify_format(recipe, task)
    prepared = prepare_examples(recipe.data, tokenizer, form, labels=task.labels, report=report)
    class_weights(task, prepared.labels, prepared.label_counts)  # checked before a model is made
    return PreparedClassification(prepared, form, task)


def _check_labels(task: ClassifyTask) -> None:
    twice = sorted({label for label in task.labels if task.labels.count(label) > 1})
    if twice or len(task.labels) == 1:
        raise RecipeError(
            f"task.labels names {twice[0]!r} twice." if twice else f"task.labels names one class: {task.labels[0]!r}.",
            "It must name two or more classes, each once.",
            "Correct task.labels, or remove it to use the labels of the training data.",
        )


def _classify_format(recipe: Recipe, task: ClassifyTask) -> ClassifyFormat:
    minimum = 3 if recipe.data.pair_column is None else 5
    if recipe.model.block_size < minimum:
        raise RecipeError(
            f"model.block_size = {recipe.model.block_size} leaves no space for text between the separators.",
            f"It must be at least {minimum}.",
            "Use a longer context, for example --model.block-size 128.",
        )
    return ClassifyFormat(recipe.model.block_size, task.cut)


def class_weights(task: ClassifyTask, labels: Sequence[str], counts: Sequence[int]) -> torch.Tensor | None:
    """The weight of each class (K,), 1 on average over the training examples; None if all examples weigh the same.

    ``balanced`` is N / (K n_k) for a class with n_k of N examples (King and Zeng 2001), so all classes have the same
    total weight. In a table, unnamed classes have the weight 1 before scaling. Raises RecipeError for an unknown class.
    """
    given = task.class_weights
    if given == "none":
        return None
    if given == "balanced":
        return scaled_class_weights([1 / count for count in counts], counts)
    assert not isinstance(given, str)
    for name, weight in given.items():
        if name not in labels:
            raise RecipeError(
                f"task.class_weights: {unknown_label_reason(name, labels)}.",
                "It must map classes to weights; unnamed classes have the weight 1.",
                "Correct the name, or remove it.",
            )
        if not (math.isfinite(weight) and weight > 0):
            raise RecipeError(
                f"task.class_weights gives {name!r} the weight {weight:g}.",
                "A weight must be above 0.",
                "To ignore a class, remove its records from the data.",
            )
    return scaled_class_weights([given.get(label, 1.0) for label in labels], counts)


@dataclass(frozen=True)
class PreparedClassification(PreparedExampleTask):
    """The prepared labeled texts of one recipe."""

    form: ClassifyFormat
    task: ClassifyTask

    def complete_recipe(self, recipe: Recipe) -> Recipe:
        """The recipe with its labels, and a classification head for them."""
        labels = list(self.prepared.labels)
        if recipe.model.n_class not in (None, len(labels)):
            raise RecipeError(
                f"model.n_class = {recipe.model.n_class}, but the data have {len(labels)} labels.",
                "The classification head needs one row per label.",
                "Remove model.n_class; it then equals the number of labels.",
            )
        task = self.task.model_copy(update={"labels": labels})
        model = recipe.model.model_copy(update={"n_class": len(labels)})
        return recipe.model_copy(update={"task": task, "model": model})

    def training_task(self, recipe: Recipe, model: GPT) -> TrainingTask:
        """The training task; ``task.best`` decides which checkpoint is the best."""
        if self.task.lm_weight == 0 and model.lm_head is not None:
            # Next tokens are not learned: under DDP, a matrix without a gradient would keep the other ranks waiting.
            model.lm_head.weight.requires_grad_(False)
        return replace(super().training_task(recipe, model), best_metric=self.task.best, higher_is_better=True)

    def _objective(self, model: GPT) -> ClassificationObjective:
        task, prepared = self.task, self.prepared
        weights = class_weights(task, prepared.labels, prepared.label_counts)
        return ClassificationObjective(task.pooling, task.lm_weight, weights, token_byte_counts(self.tokenizer))

    def _resampler(self, seed: int) -> Callable[[int], Examples] | None:
        """With subword sampling: a function from an epoch to its examples, tokenized anew and truncated again."""
        if self.task.subword_sampling is None:
            return None
        train, sampler = self.prepared.train, SubwordSampler(self.tokenizer, self.task.subword_sampling)
        assert train.labels is not None
        labels = train.labels.tolist()
        ids = (train.ids[start : start + length] for start, length in zip(train.starts, train.lengths, strict=True))
        texts = [self._texts_of(each.tolist()) for each in ids]

        def resample(epoch: int) -> Examples:
            read = self.form.ids(texts, self.tokenizer, lambda parts: sampler.encode_batch(parts, (seed, epoch)))
            return pack_examples([Example(ids, label=label) for ids, label in zip(read, labels, strict=True)])

        return resample

    def _texts_of(self, ids: list[int]) -> tuple[str, ...]:
        """The texts between the separators of an example."""
        ends = [position for position, index in enumerate(ids) if index == self.tokenizer.separator_id]
        return tuple(self.tokenizer.decode(ids[start + 1 : end]) for start, end in pairwise(ends))

    def _evaluate(
        self, model: GPT, objective: ClassificationObjective, validation: ValidationExamples, group: ProcessGroup
    ) -> SumsAndCounts:
        """This rank's sums and counts of the validation part, with the counts of each class."""
        batches = ranges_by_tokens(self.prepared.valid.lengths[validation.order])
        own = batches[group.rank :: group.world]
        sums: dict[str, float] = {}
        counts: dict[str, int] = {}
        for rows in own or batches[:1]:
            batch = validation.batch(rows)
            if not own:  # a rank without rows must report the same terms: it masks the first batch
                for key in TARGET_KEYS & batch.keys():
                    batch[key].fill_(IGNORE_INDEX)
            batch = _to_device(batch, model.wte.weight.device)
            terms, logits = objective.sums_and_logits(model, batch)
            values = {term: float(value) for term, value in terms.items()} | class_counts(logits, batch["label"])
            for term, value in values.items():
                sums[term] = sums.get(term, 0.0) + value
            for term, count in objective.counts(batch).items():
                counts[term] = counts.get(term, 0) + count
        return sums, counts

    def _sample(self, recipe: Recipe, model: GPT) -> list[tuple[str, str]]:
        """The recipe's prompts with their most likely class and its probability; none if texts come in pairs."""
        prompts = [prompt for prompt in recipe.train.prompts if prompt.strip()]
        if not prompts or recipe.data.pair_column is not None:
            return []
        ids = self.form.ids([(prompt,) for prompt in prompts], self.tokenizer)
        probabilities = label_probabilities(model, ids, self.task.pooling)
        best = probabilities.argmax(axis=1)
        return [
            (prompt, f"{self.prepared.labels[k]} {row[k]:.2f}")
            for prompt, k, row in zip(prompts, best, probabilities, strict=True)
        ]

    def lines(self) -> list[str]:
        """The records, classes and examples, and how many texts were truncated."""
        prepared = self.prepared
        train, valid = prepared.train_counts, prepared.valid_counts
        counted = list(zip(prepared.labels, prepared.label_counts, strict=True))
        classes = [f"{name!r} {count:,}" for name, count in counted[:_SHOWN_CLASSES]]
        classes += ["…"] if len(counted) > _SHOWN_CLASSES else []
        lines = [
            self.records_summary("Texts"),
            f"Classes: {len(counted)} ({', '.join(classes)})",
            f"Examples: {train.examples:,} for training, {valid.examples:,} for validation; {train.tokens:,} tokens, "
            f"vocabulary {self.tokenizer.vocab_size:,}, {train.bytes / max(train.tokens, 1):.2f} bytes per token",
        ]
        if self.truncated:
            lines.append(
                f"{self.truncated:,} texts are longer than the model's {self.form.block_size:,}-token context and lost "
                f"their {self.form.cut} (task.cut)."
            )
        return lines

    def info(self) -> dict[str, Any]:
        """Hashes and counts, for run.json."""
        labels = dict(zip(self.prepared.labels, self.prepared.label_counts, strict=True))
        return {**super().info(), "labels": labels}


def label_probabilities(model: GPT, texts: Sequence[Sequence[int]], pooling: Pooling) -> NDArray[np.float32]:
    """The probabilities (N, K) of the classes for the ids of N texts, in batches of similar length.

    The model must be in evaluation mode.
    """
    assert model.config.n_class is not None
    probabilities = np.empty((len(texts), model.config.n_class), dtype=np.float32)
    if not texts:
        return probabilities
    examples = pack_examples([Example(ids, label=IGNORE_INDEX) for ids in texts])
    reader = ValidationExamples(examples)
    device = model.wte.weight.device
    with torch.inference_mode():
        for rows in ranges_by_tokens(examples.lengths[reader.order]):
            batch = _to_device(reader.batch(rows), device)
            logits = class_logits(model, model.hidden(batch["ids"]), batch["lengths"], pooling)
            probabilities[reader.order[rows.start : rows.stop]] = logits.softmax(dim=1).cpu().numpy()
    return probabilities


def ranges_by_tokens(lengths: NDArray[Any], tokens: int = _BATCH_TOKENS) -> list[range]:
    """Consecutive ranges of rows, each of at most ``tokens`` ids with padding, and of at least one row."""
    ranges: list[range] = []
    start = width = 0
    for row, length in enumerate(lengths.tolist()):
        wider = max(width, length)
        if row > start and wider * (row + 1 - start) > tokens:
            ranges.append(range(start, row))
            start, wider = row, length
        width = wider
    return [*ranges, range(start, len(lengths))] if len(lengths) else []


def _to_device(batch: Batch, device: torch.device) -> Batch:
    return {name: tensor.to(device) for name, tensor in batch.items()}
