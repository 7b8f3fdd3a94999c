"""Chat: dialogues become examples whose targets are the assistant's turns.

A dialogue goes through the tokenizer's chat template. The targets are the assistant's turns with their stop tokens, or
every token (``loss_on``). If a dialogue is longer than the context, its oldest exchanges are dropped until the rest
fits; a system turn stays. With an encoder every reply is an example of its own: the source is the dialogue before it,
and the decoder generates the reply after a separator.
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
from penna.data.examples.example import Example
from penna.data.examples.prepare import prepare_examples
from penna.data.sources.fields import messages_of
from penna.data.sources.records import BadRecord, Record
from penna.errors import DataError
from penna.generate.request import Request
from penna.generate.text_stream import generate_texts, request_for
from penna.model.gpt import GPT
from penna.tasks.example_task import PreparedExampleTask
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

Dialogue = tuple[Message, ...]
NO_REPLY = "a dialogue with one turn has no reply to learn"


@dataclass(frozen=True, slots=True)
class ReadDialogue:
    """A dialogue as the model reads it: the turns that fit, and their example."""

    turns: Dialogue
    example: Example
    target_text: str


class ChatFormat:
    """How a model of this shape reads dialogues."""

    def __init__(self, task: ChatTask, model: ModelConfig) -> None:
        self.task = task
        self._block = model.block_size
        self._max_ids = model.block_size + 1  # the last id is a target and never read
        self._source_size = model.source_span if model.arch == "seq2seq" else None

    @property
    def settings(self) -> str:
        """Everything that examples depend on, except the text and the tokenizer with its template."""
        return json.dumps(["chat", self.task.loss_on, self._block, self._source_size])

    def read(self, record: Record, data: DataConfig) -> Dialogue | BadRecord:
        """A record's turns. An empty reply is an error and so, if replies are the targets, is a missing one."""
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
        """The text of each turn."""
        return [message.content for message in item]

    def label(self, item: Dialogue) -> None:
        """None: a dialogue has no class."""

    def adapt(self, tokenizer: Tokenizer) -> Tokenizer:
        """The tokenizer with the task's template and its control tokens."""
        adapted = with_chat_template(tokenizer, self.task.template)
        stop_ids(adapted)
        if self._source_size is not None:
            _decoder_start(adapted)
        return adapted

    def encode(
        self, items: Sequence[Dialogue], tokenizer: Tokenizer, labels: Sequence[str]
    ) -> list[Example | list[Example] | str]:
        """The example of each dialogue (with an encoder: one per reply), or the reason why there is none."""
        return [
            item
            if isinstance(item, str)
            else [read.example for read in item]
            if self._source_size is not None
            else item[0].example
            for item in self.read_dialogues(items, tokenizer)
        ]

    def read_dialogues(self, items: Sequence[Dialogue], tokenizer: Tokenizer) -> list[list[ReadDialogue] | str]:
        """What the model reads of each dialogue: one example, or one per reply; or the reason why there is none."""
        if self._source_size is not None:
            return [self._read_replies(item, tokenizer, self._source_size) for item in items]
        items = [item if self.task.loss_on == "all" else _up_to_last_reply(item) for item in items]
        rendered = [_rendered(item, tokenizer) for item in items]
        encoded = iter(encode_rendered(tokenizer, [item for item in rendered if not isinstance(item, str)]))
        return [
            text if isinstance(text, str) else self._read_dialogue(item, next(encoded), tokenizer)
            for item, text in zip(items, rendered, strict=True)
        ]

    def _read_dialogue(
        self, item: Dialogue, encoded: EncodedDialogue, tokenizer: Tokenizer
    ) -> list[ReadDialogue] | str:
        kept: Dialogue | None = item
        if self._length(encoded) > self._max_ids:
            kept = drop_oldest_turns(item, lambda turns: self._length(encode_chat(tokenizer, turns)) <= self._max_ids)
            if kept is None:
                needed = self._length(encode_chat(tokenizer, _shorter_ends(item)[-1])) - 1
                return (
                    f"the last exchange needs more than the model's {self._block:,}-token context "
                    f"(use --model.block-size {1 << (needed - 1).bit_length()})"
                )
            encoded = encode_chat(tokenizer, kept)
        ids, is_reply = encoded
        replies_only = self.task.loss_on == "replies"
        length = self._length(encoded)
        target_mask = [False, *is_reply[1:length]] if replies_only else None
        if length < 2 or (target_mask is not None and not any(target_mask)):
            return "its replies have no tokens to learn"
        target_text = "".join(message.content for message in kept if not replies_only or message.role == "assistant")
        return [ReadDialogue(kept, Example(ids[:length], target_mask, truncated=kept is not item), target_text)]

    def _length(self, encoded: EncodedDialogue) -> int:
        """The number of ids that are needed; if replies are the targets, up to the last one's end."""
        ids, is_reply = encoded
        if self.task.loss_on == "all" or True not in is_reply:
            return len(ids)
        return len(is_reply) - is_reply[::-1].index(True)

    def _read_replies(self, item: Dialogue, tokenizer: Tokenizer, source_size: int) -> list[ReadDialogue] | str:
        """One example per reply, with the turns before it as the source."""
        start = _decoder_start(tokenizer)
        replies: list[ReadDialogue] = []
        reason = NO_REPLY

        def fits(turns: Dialogue) -> bool:
            return len(encode_chat(tokenizer, turns)[0]) <= source_size

        for turn, message in enumerate(item):
            if message.role != "assistant":
                continue
            try:
                history = drop_oldest_turns(item[:turn], fits)
                ids, is_reply = encode_chat(tokenizer, item[: turn + 1][-2:])
            except TemplateError as error:
                return _as_reason(error)
            reply = [token for token, own in zip(ids, is_reply, strict=True) if own]
            if history is None:
                reason = f"the turn before its reply does not fit the encoder's {source_size:,}-token source"
            elif len(reply) + 1 > self._max_ids:
                reason = f"a reply of {len(reply):,} tokens does not fit the model's {self._block:,}-token context"
            else:
                target_mask = [False, *([True] * len(reply))]
                source = encode_chat(tokenizer, history)[0]
                example = Example([start, *reply], target_mask, source=source, truncated=len(history) < turn)
                replies.append(ReadDialogue(history, example, message.content))
        return replies or reason


def drop_oldest_turns(messages: Sequence[Message], fits: Callable[[Dialogue], bool]) -> Dialogue | None:
    """The longest end of a dialogue that ``fits``, or None. Whole exchanges are dropped, the oldest first.

    A system turn stays, and the rest begins with the user. If a dialogue ``fits``, its shorter ends must, too.
    """
    ends = _shorter_ends(messages)
    first = bisect.bisect_left(ends, True, key=fits)
    return ends[first] if first < len(ends) else None


def _shorter_ends(messages: Sequence[Message]) -> list[Dialogue]:
    """The whole dialogue, and what is left of it after dropping one exchange, two, and so on."""
    system = tuple(messages[:1]) if messages and messages[0].role == "system" else ()
    turns = tuple(messages[len(system) :])
    return [(*system, *turns[start:]) for start in range(0, len(turns), 2)]


def prompt_budget(model: ModelConfig, new: int) -> int:
    """How many ids a conversation may have if up to ``new`` tokens are generated: the source, or the rest of a block.

    At most half of a block is reserved for the reply. A longer reply continues like any text beyond the block.
    """
    return model.source_span if model.arch == "seq2seq" else model.block_size - min(new, model.block_size // 2)


def prompt_length(tokenizer: Tokenizer, model: ModelConfig, messages: Sequence[Message]) -> int:
    """How many ids the model reads of these turns before it replies."""
    return len(encode_chat(tokenizer, messages, add_generation_prompt=model.arch != "seq2seq")[0])


def reply_request(
    tokenizer: Tokenizer, model: ModelConfig, messages: Sequence[Message], config: GenerationConfig, *, seed: int
) -> Request:
    """The engine's request for a reply to these turns, the last of which is the user's."""
    stops = stop_ids(tokenizer)
    if model.arch == "seq2seq":
        source = encode_chat(tokenizer, messages)[0]
        return request_for(tokenizer, [_decoder_start(tokenizer)], config, seed=seed, source=source, stop_ids=stops)
    ids, _ = encode_chat(tokenizer, messages, add_generation_prompt=True)
    return request_for(tokenizer, ids, config, seed=seed, stop_ids=stops)


def prepare_chat(
    recipe: Recipe, task: ChatTask, tokenizer: TokenizerConfig | Tokenizer, report: Progress
) -> PreparedDialogues:
    """Prepare the dialogues of a recipe.

    Raises DataError if the data cannot be used, and TemplateError if the template cannot be trained with.
    """
    form = ChatFormat(task, recipe.model)
    return PreparedDialogues(prepare_examples(recipe.data, tokenizer, form, report=report), task)


@dataclass(frozen=True)
class PreparedDialogues(PreparedExampleTask):
    """The prepared dialogues of one recipe."""

    task: ChatTask

    def complete_recipe(self, recipe: Recipe) -> Recipe:
        """The recipe without the file of its template, which is in the tokenizer now and is not read again."""
        if self.task.template in ("auto", *SHIPPED_TEMPLATES):
            return recipe
        return recipe.model_copy(update={"task": self.task.model_copy(update={"template": "auto"})})

    def lines(self) -> list[str]:
        """The records and examples, the targets, and how many dialogues were truncated."""
        lines = [self.records_summary("Dialogues"), self.targets_summary()]
        if self.task.loss_on == "replies":
            lines.append("Targets are the assistant's turns with their stop tokens (task.loss_on).")
        if self.truncated:
            lines.append(f"{self.truncated:,} examples do not fit the model's context and lost their oldest turns.")
        return lines

    def info(self) -> dict[str, Any]:
        """Hashes and counts, for run.json."""
        return {**super().info(), **self.target_info()}

    def _sample(self, recipe: Recipe, model: GPT) -> list[tuple[str, str]]:
        """The recipe's prompts as user turns, and the replies."""
        config, tokenizer = recipe.train, self.tokenizer
        if config.sample_tokens < 1:
            return []
        budget = prompt_budget(model.config, config.sample_tokens)
        prompts = [
            prompt
            for prompt in config.prompts
            if prompt.strip() and prompt_length(tokenizer, model.config, [Message("user", prompt)]) <= budget
        ]
        settings = GenerationConfig(max_new_tokens=config.sample_tokens, temperature=config.sample_temperature)
        requests = [
            reply_request(tokenizer, model.config, [Message("user", prompt)], settings, seed=config.seed + number)
            for number, prompt in enumerate(prompts)
        ]
        replies = generate_texts(model, tokenizer, requests)
        return [(prompt, reply.text) for prompt, reply in zip(prompts, replies, strict=True)]


def _up_to_last_reply(item: Dialogue) -> Dialogue:
    """The dialogue without a last user turn, which has no reply to learn."""
    return item[:-1] if item[-1].role == "user" and len(item) > 1 else item


def _rendered(item: Dialogue, tokenizer: Tokenizer) -> RenderedDialogue | str:
    try:
        return render_chat(tokenizer, item)
    except TemplateError as error:
        return _as_reason(error)


def _as_reason(error: TemplateError) -> str:
    """An error as the reason for a bad record: lower case, no full stop."""
    text = error.happened.rstrip(".")
    return text[:1].lower() + text[1:]


def _decoder_start(tokenizer: Tokenizer) -> int:
    """The first id that a decoder reads. Raises DataError if the tokenizer has no separator."""
    if tokenizer.separator_id is None:
        raise DataError(
            "The tokenizer has no document separator.",
            'With model.arch = "seq2seq", the decoder starts each reply with one.',
            "Set eos_token in tokenizer_config.json.",
        )
    return tokenizer.separator_id
