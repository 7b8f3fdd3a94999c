"""Records as texts, labeled texts, dialogues or completions.

Each function takes a record and the recipe's column options, and returns a typed value, or a BadRecord that lists the
columns that exist. Without options, columns have their usual names.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from penna.config.sections import DataConfig
from penna.data.sources.files import format_of
from penna.data.sources.hub import PREFIX
from penna.data.sources.records import BadRecord, Record, describe_type
from penna.tokenizer.chat_template import Message, Role

TEXT_COLUMNS = ("text", "document", "content", "story", "article", "review", "sentence")
Shape = Literal["text", "labeled", "messages", "completion"]
_ROLES: dict[Any, Role] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
}


@dataclass(frozen=True)
class LabeledText:
    """A text, or a pair of texts, and its class."""

    text: str
    label: str
    pair: str | None = None  # the second text


@dataclass(frozen=True)
class Completion:
    """A prompt and the text that should follow it."""

    prompt: str
    completion: str


def text_of(record: Record, config: DataConfig) -> str | BadRecord:
    """A record's text: the named column, else the first usual one, else the only one that holds a string."""
    column = _text_column(record.fields, config)
    if column is None:
        return _missing(record, config.text_column or "for the text", "--data.text-column")
    return _string(record, column)


def labeled_text_of(record: Record, config: DataConfig) -> LabeledText | BadRecord:
    """A record's text, its label as a string, and the text of ``pair_column`` if that is set.

    A label may be a string, a whole number or true/false.
    """
    text = text_of(record, config)
    if isinstance(text, BadRecord):
        return text
    pair = None
    if config.pair_column is not None:
        if config.pair_column not in record.fields:
            return _missing(record, config.pair_column, "--data.pair-column")
        pair = _string(record, config.pair_column)
        if isinstance(pair, BadRecord):
            return pair
    column = config.label_column or "label"
    if column not in record.fields:
        return _missing(record, column, "--data.label-column")
    label: Any = record.fields[column]
    if not isinstance(label, str | int):
        return _bad(record, f"field {column!r} is {describe_type(label)}, not a label (text or a whole number)")
    if label == "":
        return _bad(record, f"the label in field {column!r} is empty")
    label = str(label)
    return _half_character(record, column) if _is_broken(label) else LabeledText(text, label, pair)


def messages_of(record: Record, config: DataConfig) -> tuple[Message, ...] | BadRecord:
    """The turns of a dialogue: optionally a system turn, then user and assistant alternately.

    A turn is {"role", "content"}, or {"from", "value"} as in ShareGPT. In plain text a block between blank lines is a
    dialogue (``document = "block"``) and its lines are turns, the user's first.
    """
    column = config.messages_column or "messages"
    if not record.file.startswith(PREFIX) and format_of(Path(record.file), config.format) == "txt":
        return _lines_as_turns(record, config)
    if column not in record.fields:
        return _missing(record, column, "--data.messages-column")
    turns: Any = record.fields[column]
    if not isinstance(turns, list) or not turns:
        found = "empty" if isinstance(turns, list) else f"{describe_type(turns)}, not a list of turns"
        return _bad(record, f"field {column!r} is {found}")
    messages: list[Message] = []
    for number, turn in enumerate(turns, start=1):
        message = _turn(turn)
        if isinstance(message, str):
            return _bad(record, f"turn {number} of {column!r} {message}")
        messages.append(message)
    return _alternating(record, messages)


def _lines_as_turns(record: Record, config: DataConfig) -> tuple[Message, ...] | BadRecord:
    if config.document != "block":
        return _bad(record, "plain text has dialogues only as blocks between blank lines (--data.document block)")
    lines = record.fields["text"].replace("\r\n", "\n").replace("\r", "\n").split("\n")
    roles: tuple[Role, Role] = ("user", "assistant")
    return tuple(Message(roles[number % 2], line) for number, line in enumerate(lines))


def _turn(turn: Any) -> Message | str:
    """A turn, or the reason why it is invalid."""
    if not isinstance(turn, dict):
        return f"is {describe_type(turn)}, not an object with role and content"
    role, content = ("role", "content") if "role" in turn else ("from", "value")
    if role not in turn or content not in turn:
        return f"has no role and content (found: {_listed(turn)})"
    if not isinstance(turn[role], str) or turn[role] not in _ROLES:
        return f"has the role {turn[role]!r}, not system, user or assistant"
    if not isinstance(turn[content], str):
        return f"has {describe_type(turn[content])} as its {content}, not text"
    if _is_broken(turn[content]):
        return "contains half a character (a lone surrogate)"
    return Message(_ROLES[turn[role]], turn[content])


def _alternating(record: Record, messages: list[Message]) -> tuple[Message, ...] | BadRecord:
    first = 1 if messages[0].role == "system" else 0
    if len(messages) == first:
        return _bad(record, "the dialogue has only a system turn")
    for number, message in enumerate(messages[first:]):
        expected = "assistant" if number % 2 else "user"
        if message.role != expected:
            return _bad(record, f"turn {first + number + 1} is the {message.role}'s instead of the {expected}'s")
    return tuple(messages)


def completion_of(record: Record, config: DataConfig) -> Completion | BadRecord:
    """A prompt and its completion, or an article and its summary."""
    prompt_column, completion_column = _completion_columns(record.fields, config)
    values: list[str] = []
    for column, option in ((prompt_column, "--data.prompt-column"), (completion_column, "--data.completion-column")):
        if column not in record.fields:
            return _missing(record, column, option)
        value = _string(record, column)
        if isinstance(value, BadRecord):
            return value
        values.append(value)
    return Completion(values[0], values[1])


def _completion_columns(columns: Collection[str], config: DataConfig) -> tuple[str, str]:
    """The named columns; by default prompt and completion, or article and summary if those are missing."""
    pairs = (("prompt", "completion"), ("article", "summary"))
    chosen = tuple((config.prompt_column or prompt, config.completion_column or answer) for prompt, answer in pairs)
    return next((pair for pair in chosen if pair[0] in columns and pair[1] in columns), chosen[0])


def shape_of(fields: Mapping[str, Any], config: DataConfig) -> Shape | None:
    """The shape of a record, from its columns; None if there is no text.

    Of several, a shape whose column the recipe names wins, else the most specific one.
    """
    prompt, answer = _completion_columns(fields, config)
    text = _text_column(fields, config)
    allowed: dict[Shape, bool] = {
        "messages": (config.messages_column or "messages") in fields,
        "completion": prompt in fields and answer in fields,
        "labeled": text is not None and (config.label_column or "label") in fields,
        "text": text is not None,
    }
    named: dict[Shape, bool] = {
        "messages": config.messages_column is not None,
        "completion": config.prompt_column is not None or config.completion_column is not None,
        "labeled": config.label_column is not None,
        "text": False,
    }
    # False sorts before True; the sort is stable, so shapes keep their order otherwise.
    return next((shape for shape in sorted(allowed, key=lambda shape: not named[shape]) if allowed[shape]), None)


def text_column_in(holds_string: Mapping[str, bool], config: DataConfig) -> str | None:
    """The column with the text, from the columns and whether each may hold strings."""
    named = _named_text_column(holds_string, config)
    if named is not None or config.text_column is not None:
        return named
    # These are never the text, even if nothing else holds strings.
    others = (config.label_column or "label", config.pair_column)
    candidates = [column for column, string in holds_string.items() if string and column not in others]
    return candidates[0] if len(candidates) == 1 else None


def _text_column(fields: Mapping[str, Any], config: DataConfig) -> str | None:
    """The column with the text of one record. A null column counts, because other records may have a string there."""
    return _named_text_column(fields, config) or text_column_in(
        {column: value is None or isinstance(value, str) for column, value in fields.items()}, config
    )


def _named_text_column(columns: Collection[str], config: DataConfig) -> str | None:
    for column in (config.text_column,) if config.text_column is not None else TEXT_COLUMNS:
        if column in columns:
            return column
    return None


def _string(record: Record, column: str) -> str | BadRecord:
    value: Any = record.fields[column]
    if not isinstance(value, str):
        return _bad(record, f"field {column!r} is {describe_type(value)}, not text")
    return _half_character(record, column) if _is_broken(value) else value


def _is_broken(text: str) -> bool:
    """Whether a text contains half of a surrogate pair, which UTF-8 cannot encode."""
    if text.isascii():
        return False
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def _half_character(record: Record, column: str) -> BadRecord:
    return _bad(record, f"field {column!r} contains half a character (a lone surrogate)")


def _missing(record: Record, column: str, option: str) -> BadRecord:
    name = f"field {column!r}" if " " not in column else f"field {column}"
    return _bad(record, f"no {name} (found: {_listed(record.fields)}; {option} selects another)")


def _listed(columns: Collection[str]) -> str:
    return ", ".join(map(repr, columns)) or "none"


def _bad(record: Record, reason: str) -> BadRecord:
    return BadRecord(record.file, record.line, reason)
