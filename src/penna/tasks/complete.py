"""Completion: pairs of a prompt and a completion become examples whose targets are the completion and its end.

An example is one document: the document separator, the prompt in its template, a control token (``separator``), the
completion, and the document separator. With an encoder the prompt is the source, and the decoder generates the
completion after a document separator. Prompts are truncated so that completions always fit; the template and the
control token never are.
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
from penna.data.examples.batches import batch_of
from penna.data.examples.example import Example, truncate
from penna.data.examples.prepare import prepare_examples
from penna.data.examples.store import Examples
from penna.data.sources.fields import Completion, completion_of
from penna.data.sources.records import BadRecord, Record
from penna.errors import DataError
from penna.generate.request import Request
from penna.generate.text_stream import generate_texts
from penna.model.gpt import GPT
from penna.tasks.example_task import PreparedExampleTask
from penna.tokenizer.special_tokens import with_special_tokens
from penna.tokenizer.tokenizer import Tokenizer

_VALIDATION_SAMPLES = 2  # validation examples to complete if the recipe has no prompts
_SHOWN_CHARACTERS = 80  # of the prompt of a validation example


@dataclass(frozen=True, slots=True)
class Prompt:
    """The ids that a model reads before it generates."""

    ids: list[int]  # read by the decoder
    source: list[int]  # read by the encoder; empty without one
    truncated: bool = False  # whether a part of the text is missing


class CompletionFormat:
    """How a model of this shape reads prompts and completions."""

    def __init__(self, task: CompleteTask, model: ModelConfig) -> None:
        self.task = task
        self._block = model.block_size
        self._source_size = model.source_span if model.arch == "seq2seq" else None
        self._separator = task.separator if self._source_size is None else ""
        before, after = task.template.split("{prompt}")
        # Most vocabularies join a space with the word after it. So a space before the prompt is encoded with the
        # prompt, and one at the end of the template with the completion if no control token is between them.
        self._before = before.rstrip()
        self._space_before = before[len(self._before) :]
        self._after = after.rstrip() if self._source_size is None and not self._separator else after
        self._space_after = after[len(self._after) :]

    @property
    def settings(self) -> str:
        """Everything that examples depend on, except the text and the tokenizer."""
        task = self.task
        return json.dumps(["complete", task.template, self._separator, task.cut, self._block, self._source_size])

    def read(self, record: Record, data: DataConfig) -> Completion | BadRecord:
        """A record's prompt and completion; neither may be empty."""
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
        """The tokenizer with the control token between prompt and completion, if there is one.

        Raises DataError if it has no document separator, with which every example begins and ends.
        """
        _end_of(tokenizer)
        if not self._separator or self._separator in tokenizer.special_tokens:
            return tokenizer
        return with_special_tokens(tokenizer, [self._separator])

    def encode(self, items: Sequence[Completion], tokenizer: Tokenizer, labels: Sequence[str]) -> list[Example | str]:
        """An example per item, its targets being the completion and its end; or the reason why there is none."""
        end = _end_of(tokenizer)
        targets = [[*ids, end] for ids in self.targets([item.completion for item in items], tokenizer)]
        prompts = self.prompts([item.prompt for item in items], tokenizer, [len(target) for target in targets])
        examples: list[Example | str] = []
        for prompt, target in zip(prompts, targets, strict=True):
            if len(target) == 1:
                examples.append("the completion has no tokens")
            elif isinstance(prompt, str):
                examples.append(prompt)
            else:
                target_mask = [False] * len(prompt.ids) + [True] * len(target)
                ids = [*prompt.ids, *target]
                examples.append(Example(ids, target_mask, source=prompt.source, truncated=prompt.truncated))
        return examples

    def targets(self, texts: Sequence[str], tokenizer: Tokenizer) -> list[list[int]]:
        """The ids of completions, without their end."""
        return tokenizer.encode_batch([self._space_after + text for text in texts])

    def prompts(self, texts: Sequence[str], tokenizer: Tokenizer, new: Sequence[int]) -> list[Prompt | str]:
        """The prompt before each completion, truncated so that ``new`` tokens fit after it, their end included.

        A text that makes no prompt gives the reason: it has no tokens, or its completion is too long.
        """
        start, control = self._frame(tokenizer)
        budget = self._budget(tokenizer)
        longest = self.longest(tokenizer)
        budgets = [budget - count if self._source_size is None else self._source_size for count in new]
        prompts: list[Prompt | str] = []
        for (ids, truncated), count in zip(self._truncated(texts, tokenizer, budgets), new, strict=True):
            if count > longest:
                prompts.append(
                    f"the completion needs {count:,} tokens with its end, but only {longest:,} fit into the model's "
                    f"{self._block:,}-token context after the template and one token of the prompt"
                )
            elif not ids:
                prompts.append("the prompt has no tokens")
            elif self._source_size is None:
                prompts.append(Prompt([*start, *ids, *control], [], truncated))
            else:
                prompts.append(Prompt(start, ids, truncated))
        return prompts

    def without_text(self, tokenizer: Tokenizer) -> Prompt:
        """The prompt of no text: the template alone; for an encoder without a template, a separator."""
        start, control = self._frame(tokenizer)
        template = [index for ids in self._template_ids(tokenizer) for index in ids]
        if self._source_size is None:
            return Prompt([*start, *template, *control], [])
        return Prompt(start, template or [_end_of(tokenizer)])

    def longest(self, tokenizer: Tokenizer) -> int:
        """The longest completion, its end included, that leaves space for one token of a prompt."""
        budget = self._budget(tokenizer)
        template = sum(map(len, self._template_ids(tokenizer)))
        if self._source_size is None:
            return budget - template - 1
        return budget if template < self._source_size else 0

    def _budget(self, tokenizer: Tokenizer) -> int:
        """The ids of prompt and completion. The last generated token is not read: one more than a block fits."""
        start, control = self._frame(tokenizer)
        return self._block + 1 - len(start) - len(control)

    def _frame(self, tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
        """The ids before the template, and those after it."""
        start = [] if tokenizer.separator_id is None else [tokenizer.separator_id]
        return start, [tokenizer.special_tokens[self._separator]] if self._separator else []

    def _template_ids(self, tokenizer: Tokenizer) -> list[list[int]]:
        """The template's own text before and after the prompt."""
        return tokenizer.encode_batch([self._before, self._after])

    def _truncated(
        self, texts: Sequence[str], tokenizer: Tokenizer, budgets: Sequence[int]
    ) -> list[tuple[list[int], bool]]:
        """The ids of texts in their template, and whether they were truncated; no ids if a text has no tokens."""
        frame = (self._before + self._space_before, self._after)
        encoded = tokenizer.encode_batch([text.join(frame) for text in [*texts, ""]])
        empty = encoded.pop()
        encoded = [[] if ids == empty or not text.strip() else ids for ids, text in zip(encoded, texts, strict=True)]
        long = [number for number, ids in enumerate(encoded) if len(ids) > budgets[number]]
        if long:
            before, after = self._template_ids(tokenizer)
            text_ids = tokenizer.encode_batch([self._space_before + texts[number] for number in long])
            for number, ids in zip(long, text_ids, strict=True):
                kept = truncate(ids, budgets[number] - len(before) - len(after), self.task.cut)
                encoded[number] = [*before, *kept, *after]
        are_long = set(long)
        return [(ids, number in are_long) for number, ids in enumerate(encoded)]


def prepare_complete(
    recipe: Recipe, task: CompleteTask, tokenizer: TokenizerConfig | Tokenizer, report: Progress
) -> PreparedCompletions:
    """Prepare the prompts and completions of a recipe. Raises DataError if the data cannot be used."""
    form = CompletionFormat(task, recipe.model)
    return PreparedCompletions(prepare_examples(recipe.data, tokenizer, form, report=report), form)


@dataclass(frozen=True)
class PreparedCompletions(PreparedExampleTask):
    """The prepared completions of one recipe."""

    form: CompletionFormat

    def lines(self) -> list[str]:
        """The records and examples, and how many prompts were truncated."""
        lines = [self.records_summary("Completions"), self.targets_summary()]
        if self.truncated:
            lines.append(
                f"{self.truncated:,} prompts do not fit beside their completions and lost their "
                f"{self.form.task.cut} (task.cut)."
            )
        return lines

    def info(self) -> dict[str, Any]:
        """Hashes and counts, for run.json."""
        return {**super().info(), **self.target_info(), "train_cut": self.prepared.train_counts.truncated}

    def _sample(self, recipe: Recipe, model: GPT) -> list[tuple[str, str]]:
        """Completions of the recipe's prompts, or of the first validation examples if it has none."""
        config, stop_ids = recipe.train, frozenset({_end_of(self.tokenizer)})
        new = min(config.sample_tokens, max(self.form.longest(self.tokenizer), 0))
        texts = [prompt for prompt in config.prompts if prompt.strip()]
        encoded = self.form.prompts(texts, self.tokenizer, [new] * len(texts))
        prompts = [(text, prompt) for text, prompt in zip(texts, encoded, strict=True) if not isinstance(prompt, str)]
        prompts = prompts or _validation_prompts(self.prepared.valid, self.tokenizer)
        settings = GenerationConfig(max_new_tokens=new, temperature=config.sample_temperature)
        longest = model.config.block_size + 1
        requests = [
            Request(
                prompt.ids,
                settings.model_copy(update={"max_new_tokens": min(new, longest - len(prompt.ids))}),
                config.seed + number,
                stop_ids,
                source=prompt.source,
            )
            for number, (_, prompt) in enumerate(prompts)
        ]
        completions = generate_texts(model, self.tokenizer, requests)
        return [(text, completion.text) for (text, _), completion in zip(prompts, completions, strict=True)]


def _validation_prompts(examples: Examples, tokenizer: Tokenizer) -> list[tuple[str, Prompt]]:
    """The prompts of the first examples, with their text, shortened for display."""
    prompts: list[tuple[str, Prompt]] = []
    special = set(tokenizer.special_tokens.values())
    for row in range(min(_VALIDATION_SAMPLES, len(examples))):
        batch = batch_of(examples, [row])
        first_target = int((batch["targets"][0] != IGNORE_INDEX).nonzero()[0])
        ids: list[int] = batch["ids"][0, : first_target + 1].tolist()
        source: list[int] = batch["source"][0, : int(batch["source_lengths"][0])].tolist() if "source" in batch else []
        text = tokenizer.decode([index for index in source or ids if index not in special])
        shown = text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}… "
        prompts.append((shown, Prompt(ids, source)))
    return prompts


def _end_of(tokenizer: Tokenizer) -> int:
    """The id that ends a completion. Raises DataError if the tokenizer has none."""
    if tokenizer.separator_id is None:
        raise DataError(
            "The tokenizer has no document separator.",
            "Each completion ends with it, so that a model learns where to stop.",
            "Set eos_token in tokenizer_config.json.",
        )
    return tokenizer.separator_id
