"""A tokenizer on disk: which files hold one, how they are read, and how they are written.

Penna writes one form, ``tokenizer.json`` (the `tokenizers` library's own, the whole algorithm in one file) beside
``tokenizer_config.json`` (what `transformers` wants to know about it), and reads that form and GPT-2's older pair
``vocab.json`` + ``merges.txt``. In comes a path a person gave; out comes a ready `tokenizers.Tokenizer` and the
settings found beside it, or an error that says what was looked for. Files are written whole or not at all.
"""

import json
import re
from pathlib import Path
from typing import Any, cast

import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from penna.errors import TokenizerError
from penna.storage import explained_disk_errors, write_json, write_whole

SEPARATOR = "<|endoftext|>"
"""Stands between documents: GPT-2's name for it, and the one special token of what Penna trains."""

TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"
VOCAB_FILE = "vocab.json"
MERGES_FILE = "merges.txt"
TEMPLATE_FILE = "chat_template.jinja"
RUN_SUBFOLDER = "tokenizer"

_READABLE = (
    f"Expected a folder with {TOKENIZER_FILE}, a folder with {VOCAB_FILE} and {MERGES_FILE} (GPT-2's form), a run "
    f"folder (which holds {RUN_SUBFOLDER}/), a {TOKENIZER_FILE}, or a {VOCAB_FILE} beside its {MERGES_FILE}."
)

Settings = dict[str, Any]


def read(path: Path) -> tuple[tokenizers.Tokenizer, Settings]:
    """The tokenizer at ``path`` and the content of its ``tokenizer_config.json`` ({} where there is none).

    Raises TokenizerError when nothing is there, when nothing there is a tokenizer, or when a file is damaged.
    """
    if not path.exists():
        raise _missing(path)
    file = _file_in(path) if path.is_dir() else path
    settings = read_settings(file.parent)
    if file.name.endswith(VOCAB_FILE):
        merges = file.with_name(file.name.removesuffix(VOCAB_FILE) + MERGES_FILE)
        return _read_gpt2_form(file, merges, settings), settings
    return _read_tokenizer_json(file), settings


def read_settings(folder: Path) -> Settings:
    """``tokenizer_config.json`` of ``folder``, with the chat template that newer tools keep in a file of its own."""
    settings: Settings = {}
    if (folder / CONFIG_FILE).is_file():
        settings = _read_json_object(folder / CONFIG_FILE)
    if (folder / TEMPLATE_FILE).is_file():
        settings.setdefault("chat_template", _read_text(folder / TEMPLATE_FILE))
    return settings


def write(folder: Path, tokenizer_json: str, settings: Settings) -> None:
    """Write both files into ``folder`` (made if need be), each whole or not at all."""
    with explained_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / TOKENIZER_FILE, tokenizer_json)
    write_json(folder / CONFIG_FILE, settings)


def _file_in(folder: Path) -> Path:
    """The file to read in a folder: ``tokenizer.json``, else GPT-2's pair, else what a run's ``tokenizer/`` holds."""
    if (folder / TOKENIZER_FILE).is_file():
        return folder / TOKENIZER_FILE
    if (folder / VOCAB_FILE).is_file():
        return folder / VOCAB_FILE
    if (folder / RUN_SUBFOLDER).is_dir():
        return _file_in(folder / RUN_SUBFOLDER)
    names = sorted(entry.name for entry in folder.iterdir())
    held = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "") if names else "nothing"
    raise TokenizerError(f"The folder {folder} holds no tokenizer (it holds {held}).", _READABLE, "Check the path.")


def _missing(path: Path) -> TokenizerError:
    name = path.as_posix()
    if re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name):
        return TokenizerError(
            f"There is no local folder {name}; it looks like a name on the Hugging Face hub.",
            f"Tokenizers are read from local files. {_READABLE}",
            f"Where there is a network, run: hf download {name} {TOKENIZER_FILE} {CONFIG_FILE} --local-dir {name}\n"
            "then give the path of that folder (copied to this machine, if it was another).",
        )
    return TokenizerError(f"There is no file or folder {path}.", _READABLE, "Check the path.")


def _read_tokenizer_json(file: Path) -> tokenizers.Tokenizer:
    _read_json_object(file)  # for its better words on what is wrong
    try:
        return tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises bare Exception
        raise TokenizerError(
            f"{file} is JSON, but not a tokenizer: {error}.",
            f"Expected a {TOKENIZER_FILE} as the tokenizers library (0.20 or newer) writes it.",
            "Check that it is the right file, or save it again with the tool that made it.",
        ) from error


def _read_gpt2_form(vocab_file: Path, merges_file: Path, settings: Settings) -> tokenizers.Tokenizer:
    """GPT-2's pair of files; byte-level BPE with no space put in front, as its encoder.py does it."""
    if not merges_file.is_file():
        raise TokenizerError(
            f"{vocab_file} is there, but {merges_file.name} is not beside it.",
            "GPT-2's form is two files: the vocabulary and the merges that build it.",
            f"Put {merges_file.name} into {vocab_file.parent}.",
        )
    vocab = cast("dict[str, int]", _read_json_object(vocab_file))
    lacking = [letter for letter in pre_tokenizers.ByteLevel.alphabet() if not isinstance(vocab.get(letter), int)]
    if lacking:
        raise TokenizerError(
            f"{vocab_file} has no entry for {len(lacking)} of the 256 bytes.",
            "Expected a byte-level vocabulary such as GPT-2's, in which every byte has a token.",
            f"If the model comes with a {TOKENIZER_FILE}, put that into the folder: it is read first.",
        )
    lines = _read_text(merges_file).split("\n")
    pairs = [tuple(line.split(" ")) for line in lines if line.strip() and not line.startswith("#version")]
    try:
        model = models.BPE(vocab=vocab, merges=cast("list[tuple[str, str]]", pairs))
    except Exception as error:  # the library raises bare Exception
        raise TokenizerError(
            f"{merges_file} does not fit {vocab_file}: {error}.",
            "Expected one merge of two tokens per line, both and their joining in the vocabulary.",
            "Take both files from the same model.",
        ) from error
    inner = tokenizers.Tokenizer(model)
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    inner.decoder = decoders.ByteLevel()
    named = [SEPARATOR, *(special_name(settings, key) for key in ("eos_token", "bos_token", "unk_token", "pad_token"))]
    mark_special(inner, [name for name in dict.fromkeys(named) if name in vocab])
    return inner


def mark_special(inner: Any, names: list[str]) -> None:
    """Make control tokens of ``names``; those that are in the vocabulary keep their ids."""
    inner.add_special_tokens(names)


def special_name(settings: Settings, key: str) -> str | None:
    """A special token's text in ``tokenizer_config.json``, where it is a string or an object with its content."""
    value: Any = settings.get(key)
    if isinstance(value, dict):
        value = cast("dict[str, Any]", value).get("content")
    return value if isinstance(value, str) else None


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TokenizerError(
            f"{file} cannot be read as text: {error}.", "Expected a file in UTF-8.", "Check that it is the right file."
        ) from error


def _read_json_object(file: Path) -> dict[str, Any]:
    text = _read_text(file)
    try:
        content: Any = json.loads(text)
    except json.JSONDecodeError as error:
        raise TokenizerError(
            f"{file} is not JSON: {error}.",
            _READABLE,
            "Check that it is the right file; if it is, it was cut off or changed: fetch it again.",
        ) from error
    if not isinstance(content, dict):
        raise TokenizerError(f"{file} holds no JSON object.", _READABLE, "Check that it is the right file.")
    return cast("dict[str, Any]", content)
