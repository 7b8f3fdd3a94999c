"""Chat: dialogues in, a job for the loop out.

A dialogue goes through the tokenizer's chat template and is one example; what is learned are the assistant's turns with
their stop tokens, or every token (``loss_on``). One that is longer than the block loses its oldest exchanges, whole
ones, until the rest fits; a system turn stays. Behind an encoder every reply is an example of its own: the source is
the dialogue up to it, and the decoder writes from the separator on.
"""

from __future__ import annotations

import bisect
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from penna.config.generation import GenerationConfig
from penna.config.schema import Recipe
from penna.config.sections import DataConfig, ModelConfig, TokenizerConfig
from penna.config.tasks import ChatTask
from penna.data.cache import Progress
from penna.data.examples.batches import TrainingExamples, ValidationExamples
from penna.data.examples.example import Example
from penna.data.examples.prepare import PreparedExampleData, prepare_examples
from penna.data.sources.fields import messages_of
from penna.data.sources.records import BadRecord, Record
from penna.errors import DataError
from penna.evaluate.language_model import score_rows
from penna.generate.request import Request
from penna.generate.text_stream import generate_texts, request_for
from penna.model.gpt import GPT
from penna.tokenizer.chat import (
    SHIPPED_TEMPLATES,
    EncodedDialogue,
    RenderedDialogue,
    TemplateError,
    encode_chat,
    encode_rendered,
    render_chat,
    stop_ids,
    with_chat_template,
)
from penna.tokenizer.chat_template import Message
from penna.tokenizer.tokenizer import Tokenizer
from penna.train.distributed import ProcessGroup
from penna.train.objective import NextTokenObjective, token_byte_counts
from penna.train.task import SumsAndCounts, TrainingTask

Dialogue = tuple[Message, ...]
NO_REPLY = "a dialogue with one turn has no reply to learn"


@dataclass(frozen=True, slots=True)
class ReadDialogue:
    """What of a dialogue is learned: the turns that are read, and the example they make."""

    turns: Dialogue
    example: Example
    target_text: str  # the text of what is due


class ChatFormat:
    """Dialogues as a model of this shape reads them."""

    def __init__(self, task: ChatTask, model: ModelConfig) -> None:
        self.task = task
        self._block = model.block_size
        self._source_size = model.source_span if model.arch == "seq2seq" else None

    @property
    def settings(self) -> str:
        """All that examples depend on beside the text and the tokenizer, which holds the template."""
        return json.dumps(["chat", self.task.loss_on, self._block, self._source_size])

    def read(self, record: Record, data: DataConfig) -> Dialogue | BadRecord:
        """A record's turns; no reply of theirs is empty, and where replies are learned, there must be one."""
        messages = messages_of(record, data)
        if isinstance(messages, BadRecord):
            return messages
        for number, message in enumerate(messages, start=1):
            if message.role == "assistant" and not message.content.strip():  # a model would learn to say nothing
                return BadRecord(record.file, record.line, f"turn {number} is an empty reply")
        if self.task.loss_on == "replies" and all(message.role != "assistant" for message in messages):
            return BadRecord(record.file, record.line, NO_REPLY)
        return messages

    def texts(self, item: Dialogue) -> Sequence[str]:
        """What is said in each turn."""
        return [message.content for message in item]

    def label(self, item: Dialogue) -> None:
        """None: a dialogue has no class."""

    def adapt(self, tokenizer: Tokenizer) -> Tokenizer:
        """The tokenizer with the task's template and its control tokens."""
        adapted = with_chat_template(tokenizer, self.task.template)
        stop_ids(adapted)
        if self._source_size is not None:
            _start_of(adapted)
        return adapted

    def encode(
        self, items: Sequence[Dialogue], tokenizer: Tokenizer, labels: Sequence[str]
    ) -> list[Example | list[Example] | str]:
        """Examples of dialogues, or why one makes none; behind an encoder an example per reply."""
        found = self.read_dialogues(items, tokenizer)
        return [
            item if isinstance(item, str) else [learned.example for learned in item] if self._many else item[0].example
            for item in found
        ]

    @property
    def _many(self) -> bool:
        return self._source_size is not None

    def read_dialogues(self, items: Sequence[Dialogue], tokenizer: Tokenizer) -> list[list[ReadDialogue] | str]:
        """What is learned of each dialogue: one example, or one per reply; or why it is none."""
        if self._source_size is not None:
            return [self._of_replies(item, tokenizer, self._source_size) for item in items]
        read = [item if self.task.loss_on == "all" else _up_to_last_reply(item) for item in items]
        encoded = self._encoded(read, tokenizer)
        return [
            ids if isinstance(ids, str) else self._of_dialogue(item, ids, tokenizer)
            for item, ids in zip(read, encoded, strict=True)
        ]

    def _encoded(self, items: Sequence[Dialogue], tokenizer: Tokenizer) -> list[EncodedDialogue | str]:
        """Ids of dialogues side by side, or what the template has against one."""
        encoded: list[EncodedDialogue | str] = []
        rendered = [_rendered(item, tokenizer) for item in items]
        whole = iter(encode_rendered(tokenizer, [item for item in rendered if not isinstance(item, str)]))
        for item in rendered:
            encoded.append(item if isinstance(item, str) else next(whole))
        return encoded

    def _of_dialogue(self, item: Dialogue, encoded: EncodedDialogue, tokenizer: Tokenizer) -> list[ReadDialogue] | str:
        kept: Dialogue | None = item
        if self._length(encoded) > self._room:
            kept = drop_oldest_turns(item, lambda turns: self._length(encode_chat(tokenizer, turns)) <= self._room)
            if kept is None:
                return (
                    f"its last turns alone take more than the {self._room:,} tokens that a block of {self._block:,} "
                    "has room for"
                )
            encoded = encode_chat(tokenizer, kept)
        ids, own = encoded
        replies_alone = self.task.loss_on == "replies"
        length = self._length(encoded)
        due = [False, *own[1:length]] if replies_alone else None
        said = "".join(message.content for message in kept if not replies_alone or message.role == "assistant")
        if length < 2 or (due is not None and not any(due)):
            return "nothing in it is due: its replies have no token"
        return [ReadDialogue(kept, Example(ids[:length], due, truncated=kept is not item), said)]

    @property
    def _room(self) -> int:
        """Ids of an example: the last one is predicted and not read."""
        return self._block + 1

    def _length(self, encoded: EncodedDialogue) -> int:
        """How many ids are needed: where replies are learned, up to the last that is one's."""
        ids, own = encoded
        if self.task.loss_on == "all" or True not in own:
            return len(ids)
        return len(own) - own[::-1].index(True)

    def _of_replies(self, item: Dialogue, tokenizer: Tokenizer, source_size: int) -> list[ReadDialogue] | str:
        """A dialogue's replies, each behind the turns before it."""
        start = _start_of(tokenizer)
        found: list[ReadDialogue] = []
        trouble = NO_REPLY

        def fits(turns: Dialogue) -> bool:
            return len(encode_chat(tokenizer, turns)[0]) <= source_size

        for place, message in enumerate(item):
            if message.role != "assistant":
                continue
            try:
                history = drop_oldest_turns(item[:place], fits)
                ids, own = encode_chat(tokenizer, item[: place + 1][-2:])
            except TemplateError as error:
                return _sentence(error)
            reply = [index for index, is_own in zip(ids, own, strict=True) if is_own]
            if history is None:
                trouble = f"the turn before its reply takes more than the {source_size:,} tokens of a source"
            elif len(reply) + 1 > self._room:
                trouble = f"a reply of {len(reply):,} tokens is longer than a block of {self._block:,}"
            else:
                due = [False, *([True] * len(reply))]
                source = encode_chat(tokenizer, history)[0]
                example = Example([start, *reply], due, source=source, truncated=len(history) < place)
                found.append(ReadDialogue(history, example, message.content))
        return found or trouble


def drop_oldest_turns(messages: Sequence[Message], fits: Callable[[Dialogue], bool]) -> Dialogue | None:
    """The longest end of a dialogue that ``fits``, or None: whole exchanges are left out from the oldest.

    A system turn stays, and what is left begins with the user. ``fits`` holds for an end where it holds for a longer
    one.
    """
    system = tuple(messages[:1]) if messages and messages[0].role == "system" else ()
    turns = tuple(messages[len(system) :])
    ends = [(*system, *turns[start:]) for start in range(0, len(turns), 2)]
    first = bisect.bisect_left(ends, True, key=fits)
    return ends[first] if first < len(ends) else None


def prompt_budget(model: ModelConfig, new: int) -> int:
    """How many ids of a conversation are read for a reply of up to ``new``: a source, or what a block leaves beside it.

    Half of a block at most is kept for the reply; a longer one goes on as any text does that is longer than its block.
    """
    return model.source_span if model.arch == "seq2seq" else model.block_size - min(new, model.block_size // 2)


def prompt_length(tokenizer: Tokenizer, model: ModelConfig, messages: Sequence[Message]) -> int:
    """How many ids of these turns are read for a reply."""
    return len(encode_chat(tokenizer, messages, add_generation_prompt=model.arch != "seq2seq")[0])


def reply_request(
    tokenizer: Tokenizer, model: ModelConfig, messages: Sequence[Message], config: GenerationConfig, *, seed: int
) -> Request:
    """What the engine is asked for a reply to these turns, the last of them the user's."""
    stops = stop_ids(tokenizer)
    if model.arch == "seq2seq":
        source = encode_chat(tokenizer, messages)[0]
        return request_for(tokenizer, [_start_of(tokenizer)], config, seed=seed, source=source, stop_ids=stops)
    ids, _ = encode_chat(tokenizer, messages, add_generation_prompt=True)
    return request_for(tokenizer, ids, config, seed=seed, stop_ids=stops)


@dataclass(frozen=True)
class PreparedDialogues(PreparedExampleData):
    """Dialogues of one recipe, prepared."""

    form: ChatFormat

    def complete_recipe(self, recipe: Recipe) -> Recipe:
        """The recipe; a template's file has gone into the tokenizer, and is not read again."""
        assert isinstance(recipe.task, ChatTask)
        if recipe.task.template in ("auto", *SHIPPED_TEMPLATES):
            return recipe
        return recipe.model_copy(update={"task": recipe.task.model_copy(update={"template": "auto"})})

    def training_task(self, recipe: Recipe, model: GPT) -> TrainingTask:
        """The loop's job: the cross-entropy of what is due, with answers to the recipe's prompts as samples."""
        rows_per_step = recipe.train.batch_size * recipe.train.accumulation
        training = TrainingExamples(self.prepared.train, rows_per_step, recipe.train.seed)
        validation = ValidationExamples(self.prepared.valid)
        objective = NextTokenObjective(token_byte_counts(self.tokenizer))

        def evaluate(model: GPT, ranks: ProcessGroup) -> SumsAndCounts:
            return score_rows(model, objective, validation, ranks.rank, ranks.world)

        def sample(model: GPT, step: int) -> list[tuple[str, str]]:
            return _answers(recipe, self.tokenizer, model)

        return TrainingTask(model, objective, training, evaluate, sample, sample_separator=" → ")

    def lines(self) -> list[str]:
        """What was prepared, and how many dialogues were cut."""
        lines = [self.records_summary("Dialogues"), self.targets_summary()]
        if self.form.task.loss_on == "replies":
            lines.append("Learned are the assistant's turns with their stop tokens (task.loss_on).")
        if self.truncated:
            lines.append(f"{self.truncated:,} examples are longer than the model can read and lost their oldest turns.")
        return lines

    def info(self) -> dict[str, Any]:
        """What was prepared, for run.json."""
        return {**super().info(), **self.target_info()}


def prepare_chat(recipe: Recipe, tokenizer: TokenizerConfig | Tokenizer, report: Progress) -> PreparedDialogues:
    """Prepare a recipe of the task chat. Raises DataError where its data cannot be used, TemplateError for a template
    that cannot be learned from.
    """
    assert isinstance(recipe.task, ChatTask)
    form = ChatFormat(recipe.task, recipe.model)
    return PreparedDialogues(prepare_examples(recipe.data, tokenizer, form, report=report), form)


def _answers(recipe: Recipe, tokenizer: Tokenizer, model: GPT) -> list[tuple[str, str]]:
    """The recipe's prompts as a user's lines, and the replies to them."""
    config = recipe.train
    prompts = [prompt for prompt in config.prompts if prompt.strip()]
    if config.sample_tokens < 1:
        return []
    room = prompt_budget(model.config, config.sample_tokens)
    prompts = [
        prompt for prompt in prompts if prompt_length(tokenizer, model.config, [Message("user", prompt)]) <= room
    ]
    how = GenerationConfig(max_new_tokens=config.sample_tokens, temperature=config.sample_temperature)
    requests = [
        reply_request(tokenizer, model.config, [Message("user", prompt)], how, seed=config.seed + number)
        for number, prompt in enumerate(prompts)
    ]
    return [
        (prompt, written.text)
        for prompt, written in zip(prompts, generate_texts(model, tokenizer, requests), strict=True)
    ]


def _up_to_last_reply(item: Dialogue) -> Dialogue:
    """Without a user's turn that nobody answers: nothing behind the last reply is learned."""
    return item[:-1] if item[-1].role == "user" and len(item) > 1 else item


def _rendered(item: Dialogue, tokenizer: Tokenizer) -> RenderedDialogue | str:
    try:
        return render_chat(tokenizer, item)
    except TemplateError as error:
        return _sentence(error)


def _sentence(error: TemplateError) -> str:
    """What happened, as part of a sentence."""
    return error.happened.rstrip(".")[:1].lower() + error.happened.rstrip(".")[1:]


def _start_of(tokenizer: Tokenizer) -> int:
    """The id a decoder begins with."""
    if tokenizer.separator_id is None:
        raise DataError(
            "The tokenizer has no document separator.",
            'The decoder of model.arch = "seq2seq" writes each reply from one on.',
            "Name its eos_token in tokenizer_config.json.",
        )
    return tokenizer.separator_id
