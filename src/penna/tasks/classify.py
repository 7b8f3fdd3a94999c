"""Classifying: labelled texts, or pairs of texts, and a model in; a job for the loop out.

A text is read between two separators, a pair with a third between its texts: the state behind the last one has seen the
whole text and is the same token for every text, and an empty text has a state, too. What does not fit the block is cut,
of a pair the longer text first. The loss is the label's and, with ``task.lm_weight``, that of the text's tokens.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from penna.config.schema import Recipe
from penna.config.sections import DataConfig, TokenizerConfig
from penna.config.tasks import ClassifyTask, Truncation
from penna.data.batches import IGNORE_INDEX, TARGET_KEYS
from penna.data.cache import Progress
from penna.data.examples.batches import TrainingExamples, ValidationExamples
from penna.data.examples.example import Example, truncate
from penna.data.examples.prepare import PreparedExampleData, prepare_examples
from penna.data.examples.split import unknown_label_reason
from penna.data.examples.store import Examples, pack_examples
from penna.data.sources.fields import LabeledText, labeled_text_of
from penna.data.sources.records import BadRecord, Record
from penna.errors import RecipeError
from penna.model.gpt import GPT
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
from penna.train.objective import Batch, token_byte_counts
from penna.train.task import SumsAndCounts, TrainingTask

Encode = Callable[[Sequence[str]], list[list[int]]]
_TOKENS_AT_ONCE = 8192  # of a batch that is only read, padding included


@dataclass(frozen=True)
class ClassifyFormat:
    """How labelled texts become ids, at most ``block_size`` of them."""

    block_size: int
    cut: Truncation

    @property
    def settings(self) -> str:
        """All that the ids depend on beside text and tokenizer."""
        return json.dumps({"task": "classify", "block_size": self.block_size, "cut": self.cut})

    def read(self, record: Record, data: DataConfig) -> LabeledText | BadRecord:
        """A record's text, or both of its texts, and its label."""
        return labeled_text_of(record, data)

    def texts(self, item: LabeledText) -> tuple[str, ...]:
        """The text, or both."""
        return (item.text,) if item.pair is None else (item.text, item.pair)

    def label(self, item: LabeledText) -> str:
        """The name of its class."""
        return item.label

    def adapt(self, tokenizer: Tokenizer) -> Tokenizer:
        """The tokenizer, with a separator where it has none."""
        return tokenizer if tokenizer.separator_id is not None else with_special_tokens(tokenizer, [SEPARATOR])

    def encode(self, items: Sequence[LabeledText], tokenizer: Tokenizer, labels: Sequence[str]) -> list[Example]:
        """An example per item, each with one of ``labels``."""
        numbers = {label: number for number, label in enumerate(labels)}
        read = self._read([self.texts(item) for item in items], tokenizer)
        return [
            Example(ids, label=numbers[item.label], truncated=cut) for item, (ids, cut) in zip(items, read, strict=True)
        ]

    def ids(
        self, texts: Sequence[tuple[str, ...]], tokenizer: Tokenizer, encode: Encode | None = None
    ) -> list[list[int]]:
        """What the model reads of texts, or of pairs of them: every text between separators, cut to the block.

        ``encode`` makes ids of texts in the tokenizer's place.
        """
        return [ids for ids, _ in self._read(texts, tokenizer, encode)]

    def _read(
        self, texts: Sequence[tuple[str, ...]], tokenizer: Tokenizer, encode: Encode | None = None
    ) -> list[tuple[list[int], bool]]:
        """What is read, and whether something had to be cut off."""
        separator = self.adapt(tokenizer).separator_id
        assert separator is not None
        encoded = iter((encode or tokenizer.encode_batch)([part for parts in texts for part in parts]))
        found: list[tuple[list[int], bool]] = []
        for parts in texts:
            ids, own = [separator], [next(encoded) for _ in parts]
            lengths = [len(part) for part in own]
            sizes = truncated_lengths(lengths, self.block_size - 1 - len(own))
            for part, size in zip(own, sizes, strict=True):
                ids += [*truncate(part, size, self.cut), separator]
            found.append((ids, sizes != lengths))
        return found


def truncated_lengths(lengths: Sequence[int], room: int) -> list[int]:
    """What is left of one or two lengths so that they fit ``room``, the longer one cut first; of equals the second."""
    if sum(lengths) <= room:
        return list(lengths)
    if len(lengths) == 1:
        return [room]
    first, second = lengths
    half = room // 2
    if first <= room - half:
        return [first, room - first]
    return [room - second, second] if second <= half else [room - half, half]


@dataclass(frozen=True)
class PreparedClassification(PreparedExampleData):
    """The examples of one recipe."""

    form: ClassifyFormat
    task: ClassifyTask

    def complete_recipe(self, recipe: Recipe) -> Recipe:
        """The recipe with its labels and a head of as many classes."""
        labels = list(self.prepared.labels)
        if recipe.model.n_class not in (None, len(labels)):
            raise RecipeError(
                f"model.n_class = {recipe.model.n_class}, and there are {len(labels)} labels.",
                "One row of the head per label.",
                "Leave model.n_class out; it is then the number of labels.",
            )
        task = self.task.model_copy(update={"labels": labels})
        model = recipe.model.model_copy(update={"n_class": len(labels)})
        return recipe.model_copy(update={"task": task, "model": model})

    def training_task(self, recipe: Recipe, model: GPT) -> TrainingTask:
        """Bucketed batches, the label's loss, and figures on the validation part with macro F1 among them."""
        prepared, task = self.prepared, self.task
        if task.lm_weight == 0 and model.lm_head is not None:
            # Nothing is learned about the next token: a matrix without a gradient would keep other ranks waiting.
            model.lm_head.weight.requires_grad_(False)
        weights = class_weights(task, prepared.labels, prepared.label_counts)
        objective = ClassificationObjective(
            task.pooling, task.lm_weight, weights, token_byte_counts(prepared.tokenizer)
        )
        # Buckets of a whole step: its rows are the same however it is parted, and its parts are of like length.
        rows_per_step = recipe.train.batch_size * recipe.train.accumulation
        batches = TrainingExamples(prepared.train, rows_per_step, recipe.train.seed, self._redrawn(recipe.train.seed))
        validation = ValidationExamples(prepared.valid)
        shares = ranges_by_tokens(prepared.valid.lengths[validation.order])

        def evaluate(model: GPT, ranks: ProcessGroup) -> SumsAndCounts:
            return _score(model, objective, validation, shares, ranks)

        def sample(model: GPT, step: int) -> list[tuple[str, str]]:
            prompts = [prompt for prompt in recipe.train.prompts if prompt.strip()]
            if not prompts or recipe.data.pair_column is not None:  # a prompt is one text
                return []
            ids = self.form.ids([(prompt,) for prompt in prompts], prepared.tokenizer)
            probabilities = label_probabilities(model, ids, task.pooling)
            best = probabilities.argmax(axis=1)
            return [
                (prompt, f"{prepared.labels[k]} {row[k]:.2f}")
                for prompt, k, row in zip(prompts, best, probabilities, strict=True)
            ]

        return TrainingTask(
            model,
            objective,
            batches,
            evaluate,
            sample,
            best_metric=task.best,
            higher_is_better=True,
            sample_separator=" → ",
        )

    def _redrawn(self, seed: int) -> Callable[[int], Examples] | None:
        """The training examples of an epoch with subwords drawn anew; None where they are not to be.

        Of a text that was cut, what is left is cut again where the drawn pieces are more.
        """
        if self.task.subword_sampling is None:
            return None
        train, sampler = self.prepared.train, SubwordSampler(self.tokenizer, self.task.subword_sampling)
        assert train.labels is not None
        labels = train.labels.tolist()
        ids = (train.ids[start : start + length] for start, length in zip(train.starts, train.lengths, strict=True))
        texts = [self._texts_of(each.tolist()) for each in ids]

        def draw(epoch: int) -> Examples:
            read = self.form.ids(texts, self.tokenizer, lambda parts: sampler.encode_batch(parts, (seed, epoch)))
            return pack_examples([Example(ids, label=label) for ids, label in zip(read, labels, strict=True)])

        return draw

    def _texts_of(self, ids: list[int]) -> tuple[str, ...]:
        """The texts between the separators of an example."""
        ends = [place for place, index in enumerate(ids) if index == self.tokenizer.separator_id]
        return tuple(self.tokenizer.decode(ids[start + 1 : end]) for start, end in pairwise(ends))

    def lines(self) -> list[str]:
        """Texts, classes and lengths, in words."""
        prepared = self.prepared
        train, valid = prepared.train_counts, prepared.valid_counts
        classes = ", ".join(
            f"{name!r} {count:,}" for name, count in zip(prepared.labels[:8], prepared.label_counts[:8], strict=True)
        )
        lines = [
            self.records_summary("Texts"),
            f"Classes: {len(prepared.labels)} ({classes}{', …' if len(prepared.labels) > 8 else ''})",
            f"Examples: {train.examples:,} to learn from, {valid.examples:,} for validation; {train.tokens:,} tokens, "
            f"vocabulary {prepared.tokenizer.vocab_size:,}, {train.bytes / max(train.tokens, 1):.2f} bytes per token",
        ]
        if self.truncated:
            lines.append(
                f"{self.truncated:,} texts are longer than the block of {self.form.block_size} and lost their "
                f"{self.form.cut} (task.cut)."
            )
        return lines

    def info(self) -> dict[str, Any]:
        """Hashes and counts, for run.json."""
        labels = dict(zip(self.prepared.labels, self.prepared.label_counts, strict=True))
        return {**super().info(), "labels": labels}


def prepare_classify(
    recipe: Recipe, tokenizer: TokenizerConfig | Tokenizer, report: Progress
) -> PreparedClassification:
    """Examples of a recipe's records.

    Raises DataError for records that cannot be used, RecipeError for labels, class weights or a block that do not go
    with them, a label without an example to learn from among them.
    """
    task = recipe.task
    assert isinstance(task, ClassifyTask)
    _check_labels(task)
    form = classify_format(recipe, task)
    prepared = prepare_examples(recipe.data, tokenizer, form, labels=task.labels, report=report)
    class_weights(task, prepared.labels, prepared.label_counts)  # refused now rather than when the model is made
    return PreparedClassification(prepared, form, task)


def classify_format(recipe: Recipe, task: ClassifyTask) -> ClassifyFormat:
    """The form of a recipe. Raises RecipeError where the block holds no text beside the separators."""
    least = 3 if recipe.data.pair_column is None else 5
    if recipe.model.block_size < least:
        raise RecipeError(
            f"model.block_size = {recipe.model.block_size} holds no text beside the separators.",
            f"At least {least} tokens.",
            "Give a longer block, such as --model.block-size 128.",
        )
    return ClassifyFormat(recipe.model.block_size, task.cut)


def class_weights(task: ClassifyTask, labels: Sequence[str], counts: Sequence[int]) -> torch.Tensor | None:
    """What an example of each class counts, 1 on average over the training examples; None where all count alike.

    ``balanced`` is N / (K n_k) for a class with n_k of N examples (King and Zeng 2001), so each class has the same say.
    In a table, a class that is not named counts 1 before scaling. Raises RecipeError for one that is no class.
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
                "A weight for each class, or for some of them.",
                "Correct the name, or take it out.",
            )
        if not (math.isfinite(weight) and weight > 0):
            raise RecipeError(
                f"task.class_weights gives {name!r} the weight {weight:g}.",
                "A number above 0.",
                "Leave the class's records out of the data where they are not to be learned.",
            )
    return scaled_class_weights([given.get(label, 1.0) for label in labels], counts)


def _check_labels(task: ClassifyTask) -> None:
    twice = sorted({label for label in task.labels if task.labels.count(label) > 1})
    if twice or len(task.labels) == 1:
        raise RecipeError(
            f"task.labels names {twice[0]!r} twice." if twice else f"task.labels names one class: {task.labels[0]!r}.",
            "Two or more classes, each once.",
            "Correct task.labels, or leave it out: the labels are then those of the training data.",
        )


def ranges_by_tokens(lengths: NDArray[Any], tokens: int = _TOKENS_AT_ONCE) -> list[range]:
    """Rows in order, cut into ranges of at most ``tokens`` ids with their padding, and of one row at least."""
    found: list[range] = []
    start = width = 0
    for row, length in enumerate(lengths.tolist()):
        wider = max(width, length)
        if row > start and wider * (row + 1 - start) > tokens:
            found.append(range(start, row))
            start, wider = row, length
        width = wider
    return [*found, range(start, len(lengths))] if len(lengths) else []


def label_probabilities(model: GPT, texts: Sequence[Sequence[int]], pooling: Pooling) -> NDArray[np.float32]:
    """Probabilities (N, K) of the classes for the ids of N texts, read side by side with texts of their length.

    The model is in evaluation mode.
    """
    assert model.config.n_class is not None
    found = np.empty((len(texts), model.config.n_class), dtype=np.float32)
    if not texts:
        return found
    examples = pack_examples([Example(ids, label=IGNORE_INDEX) for ids in texts])
    rows = ValidationExamples(examples)
    device = model.wte.weight.device
    with torch.inference_mode():
        for some in ranges_by_tokens(examples.lengths[rows.order]):
            batch = _on(rows.batch(some), device)
            scores = class_logits(model, model.hidden(batch["ids"]), batch["lengths"], pooling)
            found[rows.order[some.start : some.stop]] = scores.softmax(dim=1).cpu().numpy()
    return found


def _score(
    model: GPT,
    objective: ClassificationObjective,
    rows: ValidationExamples,
    shares: Sequence[range],
    ranks: ProcessGroup,
) -> SumsAndCounts:
    """This rank's sums and counts of the validation part."""
    mine = shares[ranks.rank :: ranks.world]
    sums: dict[str, float] = {}
    counts: dict[str, int] = {}
    for some in mine or shares[:1]:
        batch = rows.batch(some)
        if not mine:  # every rank names the same terms, also where it has no rows
            for due in TARGET_KEYS & batch.keys():
                batch[due].fill_(IGNORE_INDEX)
        batch = _on(batch, model.wte.weight.device)
        terms, scores = objective.sums_and_scores(model, batch)
        found = {term: float(value) for term, value in terms.items()} | class_counts(scores, batch["label"])
        for term, value in found.items():
            sums[term] = sums.get(term, 0.0) + value
        for term, count in objective.counts(batch).items():
            counts[term] = counts.get(term, 0) + count
    return sums, counts


def _on(batch: Batch, device: torch.device) -> Batch:
    return {name: tensor.to(device) for name, tensor in batch.items()}
