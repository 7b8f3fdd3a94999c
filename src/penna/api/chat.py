"""Conversations with a model, and how much of a conversation it reads for its next reply.

The terminal, the API and the studio share this code. The context, and limits on tokens and turns, bound what is read:
the oldest exchanges are dropped, never the system message or the last line.
"""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from penna.api.capabilities import check_can_generate, need_chat_tokenizer
from penna.api.generation_defaults import default_settings, override_settings
from penna.config.generation import GenerationConfig
from penna.errors import DataError, PennaError, RecipeError
from penna.generate.request import Request
from penna.generate.text_stream import TextStyle, stream_texts
from penna.loading import LoadedModel
from penna.storage import write_atomically
from penna.tasks.chat import Dialogue, drop_oldest_turns, prompt_budget, prompt_length, reply_request
from penna.tokenizer.chat_template import Message


class PromptTooLongError(DataError):
    """The last line alone exceeds what may be read."""


@dataclass(frozen=True)
class ChatWindow:
    """What is read for one reply."""

    kept: Dialogue  # the turns that are read, with the system message first if there is one
    request: Request  # of the engine
    budget: int  # tokens that may be read
    forgotten: int  # turns that were dropped

    @property
    def tokens(self) -> int:
        """The number of tokens read."""
        return len(self.request.source) or len(self.request.ids)


def chat_window(
    loaded: LoadedModel,
    turns: Dialogue,
    config: GenerationConfig,
    *,
    seed: int,
    most_tokens: int | None = None,
    most_turns: int | None = None,
) -> ChatWindow:
    """The part of ``turns`` that fits; the last turn is the user's. At most ``most_tokens``, and ``most_turns`` turns
    before the last.

    Raises PromptTooLongError if not even the last turn fits; TokenizerError or RunError if the model cannot chat.
    """
    check_can_generate(loaded)
    tokenizer, model = need_chat_tokenizer(loaded), loaded.model.config
    budget = prompt_budget(model, config.max_new_tokens)
    budget = min(budget, most_tokens or budget)
    system = tuple(turns[:1]) if turns[0].role == "system" else ()

    def fits(kept: Dialogue) -> bool:
        earlier = len(kept) - 1 - len(system)
        if most_turns is not None and earlier > most_turns:
            return False
        if sum(len(turn.content) for turn in kept) > tokenizer.max_characters(budget):
            return False  # faster than counting tokens
        return prompt_length(tokenizer, model, kept) <= budget

    kept = drop_oldest_turns(turns, fits)
    if kept is None:
        raise PromptTooLongError(
            f"The line takes {prompt_length(tokenizer, model, (*system, turns[-1])):,} tokens"
            + (", with the system turn." if system else "."),
            f"At most {budget:,} can be read; the rest of the context is reserved for the reply.",
            "Shorten it, or "
            + ("request a shorter reply (max_new_tokens)." if most_tokens is None else "allow more (history_tokens)."),
        )
    request = reply_request(tokenizer, model, kept, config, seed=seed)
    return ChatWindow(kept, request, budget, len(turns) - len(kept))


_HISTORY = ("history_tokens", "history_turns")


@dataclass(frozen=True)
class ChatSettings:
    """How replies are generated, and how much of the conversation is read."""

    generation: GenerationConfig = GenerationConfig(max_new_tokens=128, temperature=0.8)  # noqa: RUF009 - frozen
    history_tokens: int | None = None  # maximum tokens read, with special tokens; None: what the context allows
    history_turns: int | None = None  # maximum turns read before the user's line; None: all that fit
    seed: int = 0
    system: str | None = None

    def __post_init__(self) -> None:
        least = {"max_new_tokens": 1, "history_tokens": 1, "history_turns": 0}
        given = {"max_new_tokens": self.generation.max_new_tokens, **{name: getattr(self, name) for name in _HISTORY}}
        for name, value in given.items():
            if value is not None and value < least[name]:
                raise RecipeError(
                    f"{name} must be at least {least[name]} (got {value}).",
                    "Smaller values leave nothing to read or to generate.",
                    "Change or drop this setting.",
                )

    def with_changes(self, **changes: Any) -> ChatSettings:
        """The settings with changed fields; generation settings override the current ones (``override_settings``).
        Raises RecipeError for invalid values."""
        generation_changes = {name: value for name, value in changes.items() if name in GenerationConfig.model_fields}
        others = {name: value for name, value in changes.items() if name not in generation_changes}
        generation = override_settings(self.generation, generation_changes)
        return replace(self, generation=generation, **others)

    def said(self) -> dict[str, Any]:
        """The generation settings that were set or differ from their defaults, and all other settings."""
        return {**self.generation.explicit_settings(), **self._other_settings()}

    def flatten(self) -> dict[str, Any]:
        """All settings in one dictionary."""
        return {**self.generation.model_dump(mode="json"), **self._other_settings()}

    def _other_settings(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "generation"}


def reply_settings(loaded: LoadedModel) -> GenerationConfig:
    """The model's own generation settings for replies, with the default length of a reply."""
    usual = ChatSettings().generation
    return override_settings(default_settings(loaded, usual), {"max_new_tokens": usual.max_new_tokens})


@dataclass(frozen=True)
class Reply:
    """The details of a reply."""

    tokens: int
    logprob: float  # natural logarithm of the probability of these tokens under the model
    finish: str  # "stop", "length" (max_new_tokens were generated) or "interrupted"
    forgotten: int  # turns that no longer fit
    seed: int


class Conversation:
    """The turns of a user and a model. The model's tokenizer needs a chat template."""

    def __init__(self, loaded: LoadedModel, settings: ChatSettings | None = None) -> None:
        """Raises TokenizerError or RunError if the model was not trained on dialogues or not to generate text."""
        check_can_generate(loaded)
        self.loaded = loaded
        self.settings = settings or ChatSettings()
        self._tokenizer = need_chat_tokenizer(loaded)
        self._turns: list[Message] = []
        self._replies: list[Reply] = []  # one for each assistant turn
        self._ended: list[dict[str, Any]] = []  # earlier conversations
        self._seeds_used = 0

    @property
    def messages(self) -> Dialogue:
        """All turns, with the system message first if there is one."""
        system = () if self.settings.system is None else (Message("system", self.settings.system),)
        return (*system, *self._turns)

    @property
    def last_reply(self) -> Reply | None:
        """The details of the last reply."""
        return self._replies[-1] if self._replies else None

    def say(self, text: str) -> Generator[str]:
        """Say a line and yield the reply in pieces. Both join the conversation when the reply ends.

        If the generator is closed early, the text so far is the reply. Raises DataError if the line alone is too long;
        then nothing was said.
        """
        return self._reply(text, self._window(text))

    def retry(self) -> Generator[str]:
        """Another reply to the last line, with another seed. Raises DataError if nothing was said."""
        kept = self._turns[-2:], self._replies[-1:]
        text = self.undo()
        try:
            return self.say(text)
        except PennaError:  # keep the old line and reply
            self._turns += kept[0]
            self._replies += kept[1]
            raise

    def undo(self) -> str:
        """Remove the last line and its reply; return the line. Raises DataError if nothing was said."""
        if not self._replies:
            raise DataError("Nothing was said yet.", "This needs a line and its reply.", "Say something first.")
        self._replies.pop()
        self._turns.pop()
        return self._turns.pop().content

    def reset(self) -> None:
        """Start a new conversation; the transcript keeps the old one."""
        if self._turns:
            self._ended.append(self._row())
        self._turns, self._replies, self._seeds_used = [], [], 0

    def change(self, **changes: Any) -> None:
        """Change the settings. Raises RecipeError for invalid ones."""
        self.settings = self.settings.with_changes(**changes)

    def transcript(self) -> list[dict[str, Any]]:
        """A row for each conversation: its ``messages``, as in chat data, and the details of each reply."""
        return [*self._ended, self._row()] if self._turns else list(self._ended)

    def save(self, file: Path) -> None:
        """Write the transcript as JSONL; it can be used as training data."""
        rows = [json.dumps(row, ensure_ascii=False) for row in self.transcript()]
        write_atomically(file, "".join(row + "\n" for row in rows))

    def _row(self) -> dict[str, Any]:
        return {
            "messages": [asdict(message) for message in self.messages],
            "model": str(self.loaded.source),
            "settings": self.settings.flatten(),
            "replies": [asdict(reply) for reply in self._replies],
        }

    def _window(self, text: str) -> ChatWindow:
        """What is read for a reply to ``text``."""
        settings = self.settings
        return chat_window(
            self.loaded,
            (*self.messages, Message("user", text)),
            settings.generation,
            seed=settings.seed + self._seeds_used,
            most_tokens=settings.history_tokens,
            most_turns=settings.history_turns,
        )

    def _reply(self, line: str, window: ChatWindow) -> Generator[str]:
        pieces: list[str] = []
        tokens, logprob, finish = 0, 0.0, "interrupted"
        try:
            for piece in stream_texts(
                self.loaded.model, self._tokenizer, [window.request], TextStyle(fix_spacing=True)
            ):
                if piece.token is not None:
                    tokens += 1
                    logprob += piece.token.logprob
                if piece.text:
                    pieces.append(piece.text)
                    yield piece.text
                if piece.finish is not None:
                    finish = piece.finish
        finally:
            self._seeds_used += 1
            self._turns += [Message("user", line), Message("assistant", "".join(pieces))]
            self._replies.append(Reply(tokens, logprob, finish, window.forgotten, window.request.seed))
