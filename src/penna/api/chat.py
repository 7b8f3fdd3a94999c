"""A conversation: a model and the user's lines in, its replies out, piece by piece.

What the model reads of the conversation is limited: by its block, and by the tokens and turns the settings allow. Whole
exchanges fall out from the oldest; how many turns did is told.
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
from penna.generate.text_stream import stream_texts
from penna.loading import LoadedModel
from penna.storage import write_atomically
from penna.tasks.chat import Dialogue, drop_oldest_turns, prompt_budget, prompt_length, reply_request
from penna.tokenizer.chat_template import Message
from penna.tokenizer.stream_decoder import SpacingFixer

# MERGED api.chat_window: What a model reads of a conversation for its next reply: turns in, the engine's request out.
#
# The terminal, the API and the studio all ask here. What is read is limited by the block, by tokens and by turns;
# whole
# exchanges fall out from the oldest, the system's turn and the last one never.


class PromptTooLongError(DataError):
    """The last turn alone is longer than may be read."""


@dataclass(frozen=True)
class ChatWindow:
    """What is read for one reply."""

    kept: Dialogue  # the turns that are read, the system's first where there is one
    request: Request  # what the engine is asked
    budget: int  # tokens that could be read
    forgotten: int  # turns that fell out

    @property
    def tokens(self) -> int:
        """How many are read."""
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
    """What is read of ``turns``, the last of them the user's: ``most_tokens``, and ``most_turns`` before it, at most.

    Raises PromptTooLongError where not even the last turn fits; TokenizerError or RunError where the model cannot chat.
    """
    check_can_generate(loaded)
    tokenizer, model = need_chat_tokenizer(loaded), loaded.model.config
    room = prompt_budget(model, config.max_new_tokens)
    room = min(room, most_tokens or room)
    system = tuple(turns[:1]) if turns[0].role == "system" else ()

    def fits(kept: Dialogue) -> bool:
        earlier = len(kept) - 1 - len(system)
        if most_turns is not None and earlier > most_turns:
            return False
        if sum(len(turn.content) for turn in kept) > tokenizer.max_characters(room):
            return False  # which is told sooner than its tokens are counted
        return prompt_length(tokenizer, model, kept) <= room

    kept = drop_oldest_turns(turns, fits)
    if kept is None:
        raise PromptTooLongError(
            f"The line takes {prompt_length(tokenizer, model, (*system, turns[-1])):,} tokens"
            + (", with the system turn." if system else "."),
            f"At most {room:,} can be read here; the rest of the block is kept for the reply.",
            "Say it in fewer words, or "
            + ("ask for a shorter reply (max_new_tokens)." if most_tokens is None else "allow more (history_tokens)."),
        )
    request = reply_request(tokenizer, model, kept, config, seed=seed)
    return ChatWindow(kept, request, room, len(turns) - len(kept))


_HISTORY = ("history_tokens", "history_turns")


@dataclass(frozen=True)
class ChatSettings:
    """How replies are written, and how much of the conversation is read for one."""

    generation: GenerationConfig = GenerationConfig(max_new_tokens=128, temperature=0.8)  # noqa: RUF009 - frozen
    history_tokens: int | None = None  # read at most, control tokens among them; none: what the block leaves
    history_turns: int | None = None  # turns read before the user's line; none: all that fit
    seed: int = 0
    system: str | None = None

    def __post_init__(self) -> None:
        least = {"max_new_tokens": 1, "history_tokens": 1, "history_turns": 0}
        given = {"max_new_tokens": self.generation.max_new_tokens, **{name: getattr(self, name) for name in _HISTORY}}
        for name, value in given.items():
            if value is not None and value < least[name]:
                raise RecipeError(
                    f"{name} = {value} cannot be.",
                    f"{name} is {least[name]} or above.",
                    "Change or leave out that setting.",
                )

    def with_changes(self, **changes: Any) -> ChatSettings:
        """With other values of these fields, or of the generation's, laid over those there are (``laid_over``).

        Raises RecipeError for what cannot be.
        """
        about_writing = {name: value for name, value in changes.items() if name in GenerationConfig.model_fields}
        others = {name: value for name, value in changes.items() if name not in about_writing}
        generation = override_settings(self.generation, about_writing)
        return replace(self, generation=generation, **others)

    def said(self) -> dict[str, Any]:
        """The settings that were given, or are not as they usually are, and all that are not of the generation."""
        return {**self.generation.explicit_settings(), **self._own()}

    def flatten(self) -> dict[str, Any]:
        """All settings in one row."""
        return {**self.generation.model_dump(mode="json"), **self._own()}

    def _own(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "generation"}


def reply_settings(loaded: LoadedModel) -> GenerationConfig:
    """How a model writes replies unless told otherwise: by its own settings, but as long as replies are."""
    usual = ChatSettings().generation
    return override_settings(default_settings(loaded, usual), {"max_new_tokens": usual.max_new_tokens})


@dataclass(frozen=True)
class Reply:
    """How a reply came about."""

    tokens: int
    logprob: float  # natural logarithm of the probability of these tokens under the model
    finish: str  # "stop"; "length" where max_new_tokens were written; "interrupted"
    forgotten: int  # turns of the conversation that the model no longer read
    seed: int


class Conversation:
    """Turns between a user and a model; made of a loaded model, whose tokenizer has a chat template."""

    def __init__(self, loaded: LoadedModel, settings: ChatSettings | None = None) -> None:
        """Begin with no turn said. Raises TokenizerError or RunError where the model learned no dialogues, or not to
        write."""
        check_can_generate(loaded)
        self.loaded = loaded
        self.settings = settings or ChatSettings()
        self._tokenizer = need_chat_tokenizer(loaded)
        self._turns: list[Message] = []
        self._replies: list[Reply] = []  # one per assistant's turn
        self._ended: list[dict[str, Any]] = []  # conversations that were reset
        self._drawn = 0

    @property
    def messages(self) -> Dialogue:
        """All turns said, the system's first where there is one."""
        system = () if self.settings.system is None else (Message("system", self.settings.system),)
        return (*system, *self._turns)

    @property
    def last_reply(self) -> Reply | None:
        """How the last reply came about."""
        return self._replies[-1] if self._replies else None

    def say(self, text: str) -> Generator[str]:
        """Say a line and give the reply in pieces. Both are part of the conversation once the reply ends.

        Where the pieces are not taken to the end, what was written so far is the reply. Raises DataError, and nothing
        was said, where the line alone is longer than the model can read.
        """
        return self._reply(text, self._window(text))

    def retry(self) -> Generator[str]:
        """Another reply to the last line, with another seed. Raises DataError where nothing was said."""
        kept = self._turns[-2:], self._replies[-1:]
        text = self.undo()
        try:
            return self.say(text)
        except PennaError:  # nothing was said anew: what was said stays
            self._turns += kept[0]
            self._replies += kept[1]
            raise

    def undo(self) -> str:
        """Take the last line and its reply back; the line. Raises DataError where nothing was said."""
        if not self._replies:
            raise DataError("Nothing was said yet.", "A line and its reply.", "Say something first.")
        self._replies.pop()
        self._turns.pop()
        return self._turns.pop().content

    def reset(self) -> None:
        """Begin a new conversation; the transcript keeps the old one."""
        if self._turns:
            self._ended.append(self._row())
        self._turns, self._replies, self._drawn = [], [], 0

    def change(self, **changes: Any) -> None:
        """Other settings from here on. Raises RecipeError for those that cannot be."""
        self.settings = self.settings.with_changes(**changes)

    def transcript(self) -> list[dict[str, Any]]:
        """A row per conversation: its ``messages``, as chat data has them, and how each reply came about."""
        return [*self._ended, self._row()] if self._turns else list(self._ended)

    def save(self, file: Path) -> None:
        """Write the transcript as JSONL, whole; it can be read as training data."""
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
            seed=settings.seed + self._drawn,
            most_tokens=settings.history_tokens,
            most_turns=settings.history_turns,
        )

    def _reply(self, line: str, read: ChatWindow) -> Generator[str]:
        mender = SpacingFixer(self._tokenizer)
        pieces: list[str] = []
        tokens, logprob, finish = 0, 0.0, "interrupted"
        try:
            for piece in stream_texts(self.loaded.model, self._tokenizer, [read.request]):
                if piece.token is not None:
                    tokens += 1
                    logprob += piece.token.logprob
                text = mender.push(piece.text) + (mender.finish() if piece.finish else "")
                if text:
                    pieces.append(text)
                    yield text
                if piece.finish is not None:
                    finish = piece.finish
        finally:
            self._drawn += 1
            self._turns += [Message("user", line), Message("assistant", "".join(pieces))]
            self._replies.append(Reply(tokens, logprob, finish, read.forgotten, read.request.seed))
