"""Training a tokenizer from files, and comparing tokenizers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from penna.config.recipe import build_recipe, expand_path, merge
from penna.config.sections import DataConfig
from penna.data.corpus import Counts, count_text, verified_chunks
from penna.errors import TokenizerError
from penna.runs.folder import RUNS
from penna.tokenizer.comparison import TokenizerComparison, inspect_tokenizers
from penna.tokenizer.files import CONFIG_FILE, TOKENIZER_FILE
from penna.tokenizer.tokenizer import Tokenizer
from penna.tokenizer.train import train_tokenizer

_BATCH = 64  # texts encoded in parallel


@dataclass(frozen=True)
class TrainedTokenizer:
    """A trained tokenizer, and the text that it was trained on."""

    path: str
    kind: str
    requested_vocab_size: int | None
    """None for characters, whose number follows from the text."""
    vocab_size: int
    documents: int
    characters: int
    bytes: int
    bad_records: int
    tokens: int
    """Tokens of the training text."""
    bytes_per_token: float
    seconds: float


def train_tokenizer_from(
    paths: Sequence[str],
    overrides: Mapping[str, Any] | None = None,
    *,
    output: Path,
    kind: Literal["char", "bpe", "unigram"] = "bpe",
    vocab_size: int = 4096,
    report: Callable[[str], None] = lambda _: None,
) -> TrainedTokenizer:
    """Train a tokenizer on all text of files and folders, and write it to the folder ``output``.

    ``overrides`` are fields of the data section (``{"data.document": "line"}``). ``report`` receives progress messages.
    Raises TokenizerError if ``output`` contains anything but a tokenizer, and DataError if the text cannot be read.
    """
    output = output.expanduser()
    _check_output(output)
    given = {"tokenizer.kind": kind, "tokenizer.vocab_size": vocab_size}
    recipe = build_recipe(merge({}, {**(overrides or {}), **_path_override(paths), **given}), origin="options")
    report("Reading the text")
    counts = count_text(recipe.data)
    report(f"Training a {kind} tokenizer on {counts.characters:,} characters")
    start = time.perf_counter()
    tokenizer = train_tokenizer(recipe.tokenizer, _texts(recipe.data, counts), report)
    seconds = time.perf_counter() - start
    tokenizer.save(output)
    tokens = sum(_token_counts(tokenizer, recipe.data, counts))
    return TrainedTokenizer(
        path=str(output),
        kind=tokenizer.kind,
        requested_vocab_size=None if kind == "char" else vocab_size,
        vocab_size=tokenizer.vocab_size,
        documents=counts.documents,
        characters=counts.characters,
        bytes=counts.bytes,
        bad_records=counts.bad_records,
        tokens=tokens,
        bytes_per_token=counts.bytes / max(tokens, 1),
        seconds=seconds,
    )


def compare_tokenizers(
    targets: Sequence[str],
    paths: Sequence[str] = (),
    overrides: Mapping[str, Any] | None = None,
    *,
    runs_dir: Path = RUNS,
) -> TokenizerComparison:
    """Describe tokenizers (folders, files, runs) and, if ``paths`` are given, measure how they split that text.

    ``overrides`` are fields of the data section. Raises TokenizerError and DataError for unreadable tokenizers and
    texts.
    """
    tokenizers = {name: load_tokenizer(name, runs_dir) for name in dict.fromkeys(targets)}
    config = build_recipe(merge({}, {**(overrides or {}), **_path_override(paths)}), origin="options").data
    if not config.path and config.source == "files":
        return inspect_tokenizers(tokenizers)
    return inspect_tokenizers(tokenizers, _texts(config, count_text(config)))


def load_tokenizer(target: str, runs_dir: Path = RUNS) -> Tokenizer:
    """A tokenizer by its path, or a run's by the run's name."""
    path = expand_path(target)
    return Tokenizer.load(runs_dir / target if not path.exists() and (runs_dir / target).exists() else path)


def _path_override(paths: Sequence[str]) -> dict[str, Any]:
    return {"data.path": list(paths)} if paths else {}


def _texts(config: DataConfig, counts: Counts) -> Iterator[str]:
    return (chunk.text for chunk in verified_chunks(config, counts))


def _token_counts(tokenizer: Tokenizer, config: DataConfig, counts: Counts) -> Iterator[int]:
    texts = _texts(config, counts)
    while batch := list(islice(texts, _BATCH)):
        yield sum(map(len, tokenizer.encode_batch(batch)))


def _check_output(folder: Path) -> None:
    """Raise TokenizerError if ``folder`` must not be overwritten with a tokenizer."""
    if folder.is_file():
        raise TokenizerError(
            f"{folder} is a file.", "--output needs a folder, new or with a tokenizer.", "Choose a folder."
        )
    names = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    others = [name for name in names if name not in (TOKENIZER_FILE, CONFIG_FILE)]
    if others:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        raise TokenizerError(
            f"The folder {folder} contains other files: {', '.join(others[:3])}{more}.",
            f"The folder must be new, or contain only {TOKENIZER_FILE} and {CONFIG_FILE}.",
            f"Choose another folder, such as --output {folder / 'tokenizer'}.",
        )
    if names and (folder.resolve().parent / "run.json").is_file():
        raise TokenizerError(
            f"The folder {folder} is the tokenizer of the run {folder.resolve().parent.name}.",
            "The run's model works only with its own tokenizer.",
            "Choose another folder.",
        )
