"""Completion: pairs of a prompt and what is to be written behind it in, a job for the loop out.

An example is one document: the separator of documents, the prompt in its template, a control token (``separator``), the
completion, and the separator that ends it; only the completion and its end are learned. Behind an encoder the prompt is
the source, and the decoder writes from the separator on. A prompt is cut so that the completion always fits; the
template's own words and the control token never are.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from penna.config.generation import GenerationConfig
from penna.config.schema import Recipe
from penna.config.sections import DataConfig, ModelConfig, TokenizerConfig
from penna.config.tasks import CompleteTask
from penna.data.batches import IGNORE_INDEX
from penna.data.cache import Progress
from penna.data.examples.batches import TrainingExamples, ValidationExamples, batch_of
from penna.data.examples.example import Example, truncate
from penna.data.examples.prepare import PreparedExampleData, prepare_examples
from penna.data.examples.store import Examples
from penna.data.sources.fields import Completion, completion_of
from penna.data.sources.records import BadRecord, Record
from penna.errors import DataError
from penna.evaluate.language_model import score_rows
from penna.generate.request import Request
from penna.generate.text_stream import generate_texts
from penna.model.gpt import GPT
from penna.tokenizer.special_tokens import with_special_tokens
from penna.tokenizer.tokenizer import Tokenizer
from penna.train.distributed import ProcessGroup
from penna.train.objective import NextTokenObjective, token_byte_counts
from penna.train.task import SumsAndCounts, TrainingTask

_SAMPLES = 2  # validation examples that are written for where the recipe names no prompts
_SHOWN = 80  # characters of their prompts that a sample shows


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model reads before it writes."""

    ids: list[int]  # what the decoder reads
    source: list[int]  # what an encoder reads; empty without one
    cut: bool = False  # whether a part of the text was left out


class CompletionFormat:
    """Prompts and completions as a model of this shape reads them."""

    def __init__(self, task: CompleteTask, model: ModelConfig) -> None:
        self.task = task
        self._block = model.block_size
        self._source_size = model.source_span if model.arch == "seq2seq" else None
        self._separator = task.separator if self._source_size is None else ""
        before, after = task.template.split("{prompt}")
        # In most vocabularies a space belongs to the token of the word behind it. So one that stands in front of the
        # prompt goes with the prompt, and one that ends the template with what is written, where nothing is between.
        self._before = before.rstrip()
        self._lead = before[len(self._before) :]
        self._after = after.rstrip() if self._source_size is None and not self._separator else after
        self._gap = after[len(self._after) :]

    @property
    def settings(self) -> str:
        """All that examples depend on beside the text and the tokenizer."""
        task = self.task
        return json.dumps(["complete", task.template, self._separator, task.cut, self._block, self._source_size])

    def read(self, record: Record, data: DataConfig) -> Completion | BadRecord:
        """A record's prompt and completion; where either is empty, there is nothing to learn."""
        item = completion_of(record, data)
        if isinstance(item, BadRecord):
            return item
        for name, text in (("prompt", item.prompt), ("completion", item.completion)):
            if not text.strip():
                return BadRecord(record.file, record.line, f"the {name} is empty")
        return item

    def texts(self, item: Completion) -> Sequence[str]:
        """Prompt and completion."""
        return item.prompt, item.completion

    def label(self, item: Completion) -> None:
        """None: a completion has no class."""

    def adapt(self, tokenizer: Tokenizer) -> Tokenizer:
        """The tokenizer with the control token between prompt and completion, where there is one.

        Raises DataError where it has no separator of documents, with which every example begins and ends.
        """
        _end_of(tokenizer)
        if not self._separator or self._separator in tokenizer.special_tokens:
            return tokenizer
        return with_special_tokens(tokenizer, [self._separator])

    def encode(self, items: Sequence[Completion], tokenizer: Tokenizer, labels: Sequence[str]) -> list[Example | str]:
        """Examples in which the completion and its end are due, or why an item makes none."""
        end = _end_of(tokenizer)
        targets = [[*ids, end] for ids in self.targets([item.completion for item in items], tokenizer)]
        prompts = self.prompts([item.prompt for item in items], tokenizer, [len(target) for target in targets])
        examples: list[Example | str] = []
        for prompt, target in zip(prompts, targets, strict=True):
            if len(target) == 1:
                examples.append("the completion has no token")
            elif isinstance(prompt, str):
                examples.append(prompt)
            else:
                due = [False] * len(prompt.ids) + [True] * len(target)
                examples.append(Example([*prompt.ids, *target], due, source=prompt.source, truncated=prompt.cut))
        return examples

    def targets(self, texts: Sequence[str], tokenizer: Tokenizer) -> list[list[int]]:
        """Completions as they are to be written, without their end."""
        return tokenizer.encode_batch([self._gap + text for text in texts])

    def prompts(self, texts: Sequence[str], tokenizer: Tokenizer, new: Sequence[int]) -> list[Prompt | str]:
        """What is read before each completion, cut so that its ``new`` tokens, the end among them, fit behind it.

        A sentence says why a text makes none: it has no token, or ``new`` leave no room for one.
        """
        frame, control = self._around(tokenizer)
        # The last token that is written is not read again, so a row has room for one more than a block.
        room = self._block + 1 - len(frame) - len(control)
        longest = self.longest(tokenizer)
        rooms = [room - count if self._source_size is None else self._source_size for count in new]
        prompts: list[Prompt | str] = []
        for (ids, cut), count in zip(self._cut(texts, tokenizer, rooms), new, strict=True):
            if count > longest:
                prompts.append(
                    f"the completion takes {count:,} tokens, its end counted; a block of {self._block:,} has room for "
                    f"{longest:,} beside the template, the control tokens and one token of the prompt"
                )
            elif not ids:
                prompts.append("the prompt has no token")
            elif self._source_size is None:
                prompts.append(Prompt([*frame, *ids, *control], [], cut))
            else:
                prompts.append(Prompt(frame, ids, cut))
        return prompts

    def without_text(self, tokenizer: Tokenizer) -> Prompt:
        """What is read where nothing is to be completed: the template's own words; for an encoder, a separator."""
        frame, control = self._around(tokenizer)
        own = [index for ids in self._own(tokenizer) for index in ids]
        if self._source_size is None:
            return Prompt([*frame, *own, *control], [])
        return Prompt(frame, own or [_end_of(tokenizer)])

    def longest(self, tokenizer: Tokenizer) -> int:
        """How many tokens a completion may have, its end counted, so that one token of a prompt still fits."""
        frame, control = self._around(tokenizer)
        room = self._block + 1 - len(frame) - len(control)
        own = sum(map(len, self._own(tokenizer)))
        if self._source_size is None:
            return room - own - 1
        return room if own < self._source_size else 0

    def _around(self, tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
        """The ids in front of the template, and those behind it."""
        frame = [] if tokenizer.separator_id is None else [tokenizer.separator_id]
        return frame, [tokenizer.special_tokens[self._separator]] if self._separator else []

    def _own(self, tokenizer: Tokenizer) -> list[list[int]]:
        """The template's own words in front of the prompt, and behind it."""
        return tokenizer.encode_batch([self._before, self._after])

    def _cut(self, texts: Sequence[str], tokenizer: Tokenizer, rooms: Sequence[int]) -> list[tuple[list[int], bool]]:
        """Texts in their template as ids, and whether they had to be cut; no ids where a text has no token."""
        frames = (self._before + self._lead, self._after)
        found = tokenizer.encode_batch([text.join(frames) for text in [*texts, ""]])
        nothing = found.pop()
        found = [[] if ids == nothing or not text.strip() else ids for ids, text in zip(found, texts, strict=True)]
        long = [number for number, ids in enumerate(found) if len(ids) > rooms[number]]
        if long:
            before, after = self._own(tokenizer)
            alone = tokenizer.encode_batch([self._lead + texts[number] for number in long])
            for number, ids in zip(long, alone, strict=True):
                kept = truncate(ids, rooms[number] - len(before) - len(after), self.task.cut)
                found[number] = [*before, *kept, *after]
        cut = set(long)
        return [(ids, number in cut) for number, ids in enumerate(found)]


@dataclass(frozen=True)
class PreparedCompletions(PreparedExampleData):
    """Pairs of one recipe, prepared."""

    form: CompletionFormat

    def complete_recipe(self, recipe: Recipe) -> Recipe:
        """The recipe as it is: a completion needs nothing that only the data knows."""
        return recipe

    def training_task(self, recipe: Recipe, model: GPT) -> TrainingTask:
        """The loop's job: the cross-entropy of the completions' tokens, with samples of what is written."""
        # Buckets of a whole step: its rows are the same however it is parted, and its parts are of like length.
        rows_per_step = recipe.train.batch_size * recipe.train.accumulation
        training = TrainingExamples(self.prepared.train, rows_per_step, recipe.train.seed)
        validation = ValidationExamples(self.prepared.valid)
        objective = NextTokenObjective(token_byte_counts(self.tokenizer))

        def evaluate(model: GPT, ranks: ProcessGroup) -> SumsAndCounts:
            return score_rows(model, objective, validation, ranks.rank, ranks.world)

        def sample(model: GPT, step: int) -> list[tuple[str, str]]:
            return self._samples(recipe, model)

        return TrainingTask(model, objective, training, evaluate, sample, sample_separator=" → ")

    def lines(self) -> list[str]:
        """What was prepared, and how many prompts were cut."""
        lines = [self.records_summary("Completions"), self.targets_summary()]
        if self.truncated:
            lines.append(
                f"{self.truncated:,} prompts are longer than the room beside their completions and lost their "
                f"{self.form.task.cut} (task.cut)."
            )
        return lines

    def info(self) -> dict[str, Any]:
        """What was prepared, for run.json."""
        return {**super().info(), **self.target_info(), "train_cut": self.prepared.train_counts.truncated}

    def _samples(self, recipe: Recipe, model: GPT) -> list[tuple[str, str]]:
        """What the model writes for the recipe's prompts, else for the first validation examples."""
        config, end = recipe.train, _end_of(self.tokenizer)
        new = min(config.sample_tokens, max(self.form.longest(self.tokenizer), 0))
        named = [prompt for prompt in config.prompts if prompt.strip()]
        encoded = self.form.prompts(named, self.tokenizer, [new] * len(named))
        asked = [
            (text, prompt) for text, prompt in zip(named, encoded, strict=True) if not isinstance(prompt, str)
        ] or _first_prompts(self.prepared.valid, self.tokenizer)
        how = GenerationConfig(max_new_tokens=new, temperature=config.sample_temperature)
        room = model.config.block_size + 1
        requests = [
            Request(
                prompt.ids,
                how.model_copy(update={"max_new_tokens": min(new, room - len(prompt.ids))}),
                config.seed + number,
                frozenset({end}),
                source=prompt.source,
            )
            for number, (_, prompt) in enumerate(asked)
        ]
        written = generate_texts(model, self.tokenizer, requests)
        return [(text, result.text) for (text, _), result in zip(asked, written, strict=True)]


def prepare_complete(recipe: Recipe, tokenizer: TokenizerConfig | Tokenizer, report: Progress) -> PreparedCompletions:
    """Prepare a recipe of the task complete. Raises DataError where its data cannot be used."""
    assert isinstance(recipe.task, CompleteTask)
    form = CompletionFormat(recipe.task, recipe.model)
    return PreparedCompletions(prepare_examples(recipe.data, tokenizer, form, report=report), form)


def _first_prompts(examples: Examples, tokenizer: Tokenizer) -> list[tuple[str, Prompt]]:
    """The prompts of the first examples, with how they begin."""
    found: list[tuple[str, Prompt]] = []
    for row in range(min(_SAMPLES, len(examples))):
        batch = batch_of(examples, [row])
        due = int((batch["targets"][0] != IGNORE_INDEX).nonzero()[0])
        ids: list[int] = batch["ids"][0, : due + 1].tolist()
        source: list[int] = batch["source"][0, : int(batch["source_lengths"][0])].tolist() if "source" in batch else []
        special = set(tokenizer.special_tokens.values())
        shown = tokenizer.decode([index for index in source or ids if index not in special])
        found.append((shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}… ", Prompt(ids, source)))
    return found


def _end_of(tokenizer: Tokenizer) -> int:
    """The id that ends a completion. Raises DataError where the tokenizer has none."""
    if tokenizer.separator_id is None:
        raise DataError(
            "The tokenizer has no document separator.",
            "Each completion ends with it, and so a model learns to end its own.",
            "Name its eos_token in tokenizer_config.json.",
        )
    return tokenizer.separator_id
