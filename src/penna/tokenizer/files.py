"""The files of a tokenizer folder: ``tokenizer.json`` and ``tokenizer_config.json``.

Penna writes only these two, in the formats of the `tokenizers` library and of `transformers`. `penna.tokenizer.load`
reads further formats.
"""

import json
from collections.abc import Container
from pathlib import Path
from typing import Any, cast

from penna.errors import TokenizerError
from penna.storage import friendly_disk_errors, write_atomically, write_json

SEPARATOR = "<|endoftext|>"
"""The token between documents, by GPT-2's name; the only special token of tokenizers that Penna trains."""

TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"
TEMPLATE_FILE = "chat_template.jinja"
GENERIC_CLASS = "PreTrainedTokenizerFast"
"""The class of `transformers` that uses a ``tokenizer.json`` unchanged."""

Settings = dict[str, Any]


def read_settings(folder: Path) -> Settings:
    """The ``tokenizer_config.json`` of ``folder``, with the chat template that newer tools keep in its own file."""
    settings: Settings = {}
    if (folder / CONFIG_FILE).is_file():
        settings = read_json_object(folder / CONFIG_FILE)
    if (folder / TEMPLATE_FILE).is_file():
        settings.setdefault("chat_template", read_text(folder / TEMPLATE_FILE))
    return settings


def converted_settings(settings: Settings, special: dict[str, str], vocab: Container[str]) -> Settings:
    """Settings for a tokenizer converted from an older format.

    They keep the special tokens that are in ``vocab`` (``special`` has defaults), the chat template and the maximum
    length, but not the old format's class and its options, which would rebuild the tokenizer from the old files.
    """
    kept = {key: value for key, value in settings.items() if key in ("chat_template", "model_max_length")}
    named = {key: special_token_text(settings, key) for key in settings if key.endswith("_token")}
    tokens = {**special, **{key: name for key, name in named.items() if name is not None}}
    return {"tokenizer_class": GENERIC_CLASS, **kept, **{key: name for key, name in tokens.items() if name in vocab}}


def write_tokenizer_files(folder: Path, tokenizer_json: str, settings: Settings) -> None:
    """Write both files into ``folder``, which is created if necessary."""
    with friendly_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / TOKENIZER_FILE, tokenizer_json)
    write_json(folder / CONFIG_FILE, settings)


def special_token_text(settings: Settings, key: str) -> str | None:
    """A special token in ``tokenizer_config.json``, which may be a string or an object with a ``content``."""
    value: Any = settings.get(key)
    if isinstance(value, dict):
        value = cast("dict[str, Any]", value).get("content")
    return value if isinstance(value, str) else None


def chat_template_source(settings: Settings) -> str | None:
    """The chat template in ``tokenizer_config.json``: a string, or the one named "default" in a list."""
    value: Any = settings.get("chat_template")
    if isinstance(value, list):
        named = [cast("dict[str, Any]", entry) for entry in cast("list[Any]", value) if isinstance(entry, dict)]
        value = next((entry.get("template") for entry in named if entry.get("name") == "default"), None)
    return value if isinstance(value, str) else None


def read_text(file: Path) -> str:
    """A file's text with its line ends unchanged. Raises TokenizerError if it is not readable UTF-8."""
    try:
        return file.read_bytes().decode("utf-8").removeprefix("\ufeff")
    except (OSError, UnicodeDecodeError) as error:
        raise TokenizerError(
            f"{file} cannot be read as text: {error}.", "Expected a UTF-8 file.", "Check that it is the right file."
        ) from error


def read_json_object(file: Path) -> dict[str, Any]:
    """A JSON file that contains an object. Raises TokenizerError if it does not."""
    expected = "Expected a JSON object."
    try:
        content: Any = json.loads(read_text(file))
    except json.JSONDecodeError as error:
        raise TokenizerError(
            f"{file} is not JSON: {error}.",
            expected,
            "Check that it is the right file. If it is, it is damaged: download it again.",
        ) from error
    if not isinstance(content, dict):
        raise TokenizerError(f"{file} does not contain a JSON object.", expected, "Check that it is the right file.")
    return cast("dict[str, Any]", content)
