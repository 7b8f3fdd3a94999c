"""The files a tokenizer is kept in: their names, the settings beside it, and how they are written.

Penna writes one form, ``tokenizer.json`` (the `tokenizers` library's own, the whole algorithm in one file) beside
``tokenizer_config.json`` (what `transformers` wants to know about it). Both are written whole or not at all. Which
forms are read, and how, is in `penna.tokenizer.load`; the readers of each form stand on what is here.
"""

import json
from collections.abc import Container
from pathlib import Path
from typing import Any, cast

from penna.errors import TokenizerError
from penna.storage import friendly_disk_errors, write_atomically, write_json

SEPARATOR = "<|endoftext|>"
"""Stands between documents: GPT-2's name for it, and the one special token of what Penna trains."""

TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"
TEMPLATE_FILE = "chat_template.jinja"
GENERIC_CLASS = "PreTrainedTokenizerFast"
"""The class of `transformers` that takes a ``tokenizer.json`` as it is, and rebuilds nothing."""

Settings = dict[str, Any]


def read_settings(folder: Path) -> Settings:
    """``tokenizer_config.json`` of ``folder``, with the chat template that newer tools keep in a file of its own."""
    settings: Settings = {}
    if (folder / CONFIG_FILE).is_file():
        settings = read_json_object(folder / CONFIG_FILE)
    if (folder / TEMPLATE_FILE).is_file():
        settings.setdefault("chat_template", read_text(folder / TEMPLATE_FILE))
    return settings


def converted_settings(settings: Settings, special: dict[str, str], vocab: Container[str]) -> Settings:
    """Settings for a tokenizer rebuilt from an older form, which must from now on be taken as its new file says.

    Kept are the special tokens that are in ``vocab`` (``special`` fills in those that are not named), the chat template
    and the longest length; the class that would build the tokenizer from the old files again, and what that class is
    told, is not.
    """
    kept = {key: value for key, value in settings.items() if key in ("chat_template", "model_max_length")}
    named = {key: special_token_text(settings, key) for key in settings if key.endswith("_token")}
    tokens = {**special, **{key: name for key, name in named.items() if name is not None}}
    return {"tokenizer_class": GENERIC_CLASS, **kept, **{key: name for key, name in tokens.items() if name in vocab}}


def write_tokenizer_files(folder: Path, tokenizer_json: str, settings: Settings) -> None:
    """Write both files into ``folder`` (made if need be), each whole or not at all."""
    with friendly_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / TOKENIZER_FILE, tokenizer_json)
    write_json(folder / CONFIG_FILE, settings)


def add_special_tokens(inner: Any, names: list[str]) -> None:
    """Make control tokens of ``names``; those that are in the vocabulary keep their ids."""
    inner.add_special_tokens(names)


def special_token_text(settings: Settings, key: str) -> str | None:
    """A special token's text in ``tokenizer_config.json``, where it is a string or an object with its content."""
    value: Any = settings.get(key)
    if isinstance(value, dict):
        value = cast("dict[str, Any]", value).get("content")
    return value if isinstance(value, str) else None


def chat_template_source(settings: Settings) -> str | None:
    """The chat template of ``tokenizer_config.json``: a string, or the one named default of a list of named ones."""
    value: Any = settings.get("chat_template")
    if isinstance(value, list):
        named = [cast("dict[str, Any]", entry) for entry in cast("list[Any]", value) if isinstance(entry, dict)]
        value = next((entry.get("template") for entry in named if entry.get("name") == "default"), None)
    return value if isinstance(value, str) else None


def read_text(file: Path) -> str:
    """A file's text, its line ends as they are. Raises TokenizerError where it cannot be read as UTF-8."""
    try:
        return file.read_bytes().decode("utf-8").removeprefix("\ufeff")
    except (OSError, UnicodeDecodeError) as error:
        raise TokenizerError(
            f"{file} cannot be read as text: {error}.", "Expected a file in UTF-8.", "Check that it is the right file."
        ) from error


def read_json_object(file: Path) -> dict[str, Any]:
    """A JSON file that holds an object. Raises TokenizerError with what is wrong with it."""
    text = read_text(file)
    try:
        content: Any = json.loads(text)
    except json.JSONDecodeError as error:
        raise TokenizerError(
            f"{file} is not JSON: {error}.",
            "Expected a JSON object, as the tool that made the tokenizer wrote it.",
            "Check that it is the right file; if it is, it was cut off or changed: fetch it again.",
        ) from error
    if not isinstance(content, dict):
        raise TokenizerError(
            f"{file} holds no JSON object.",
            "Expected a JSON object, as the tool that made the tokenizer wrote it.",
            "Check that it is the right file.",
        )
    return cast("dict[str, Any]", content)
