"""Text to tokenizer and shards: everything a run needs to read, made once and kept in a content-hashed cache.

The cache key is a hash of the text, its split and the tokenizer, so the same text is prepared once wherever it lies,
and changed text can never be taken for the old. The tokenizer learns from the training part alone, as a stream. Of two
processes that want the same thing one makes it, and the other waits and takes it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from penna.config.recipe import expand_path
from penna.config.sections import DataConfig, TokenizerConfig
from penna.data.cache import Progress, atomic_folder, cache_folder, cache_key, exclusive_lock
from penna.data.corpus import Corpus, Counts, TextChangedError, count_text, read_corpus, verified_chunks
from penna.data.encode import EncodedChunks, encode_chunks
from penna.data.shards import Manifest, PartManifest, find_shards, partial_folder, write_shards
from penna.data.sources.files import describe_skipped, skipped_files
from penna.data.sources.records import TextChunk
from penna.tokenizer.tokenizer import Tokenizer
from penna.tokenizer.train import train_tokenizer

_LAYOUT = "3"  # part of every cache key; raise it when what is written changes

PieceSource = Callable[[], Iterator[TextChunk]]


@dataclass(frozen=True)
class PreparedShards:
    """Token shards of a corpus and the tokenizer that made them."""

    folder: Path
    manifest: Manifest
    tokenizer: Tokenizer
    corpus: Corpus

    @property
    def bytes_per_token(self) -> float:
        """Source bytes a training token stands for, on average."""
        part = self.manifest.parts["train"]
        return part.bytes / max(part.tokens, 1)


def prepare(
    data: DataConfig, tokenizer: TokenizerConfig | Tokenizer, *, report: Progress = lambda _: None
) -> PreparedShards:
    """Make or find the shards of a recipe's text.

    ``tokenizer`` is the recipe's section, or a tokenizer already at hand. What was cut off before its end is gone on
    with. Raises DataError, TokenizerError, and DeviceError where the disk is full.
    """
    report("Reading the text")
    if passed := skipped_files([*data.path, *data.valid_path]):
        report(f"Files passed over: {describe_skipped(passed)}")
    corpus = read_corpus(data)
    if isinstance(tokenizer, TokenizerConfig):
        texts = partial(_training_texts, corpus)
        tokenizer = load_or_train_tokenizer(tokenizer, texts, corpus.content_hash, report)
    key = cache_key(_LAYOUT, "shards", corpus.content_hash, tokenizer.fingerprint())
    parts = {"train": partial(corpus.chunks, "train"), "valid": partial(corpus.chunks, "valid")}
    folder = cache_folder() / "shards" / key
    return PreparedShards(
        folder, _make_shards(folder, parts, tokenizer, corpus.content_hash, report), tokenizer, corpus
    )


def prepare_for_evaluation(
    data: DataConfig, tokenizer: Tokenizer, *, report: Progress = lambda _: None
) -> tuple[Path, PartManifest]:
    """Shards whose only part, ``valid``, is all of the text, and what they count."""
    counts = count_text(data)
    key = cache_key(_LAYOUT, "evaluation", counts.content_hash, tokenizer.fingerprint())
    parts = {"valid": partial(verified_chunks, data, counts)}
    folder = cache_folder() / "shards" / key
    return folder, _make_shards(folder, parts, tokenizer, counts.content_hash, report).parts["valid"]


def describe_counts(counts: Counts) -> str:
    """What was read, in one line."""
    line = f"{counts.documents:,} documents, {counts.characters:,} characters, {counts.bytes:,} bytes"
    if counts.empty:
        line += f", {counts.empty:,} empty ones left out"
    if counts.bad_records:
        line += f", {counts.bad_records:,} bad records left out (the first: {counts.bad[0]})"
    return line


def load_or_train_tokenizer(
    config: TokenizerConfig, texts: Callable[[], Iterator[str]], texts_hash: str, report: Progress
) -> Tokenizer:
    """The tokenizer a recipe asks for: read from its file, found in the cache, or learned from ``texts``.

    ``texts_hash`` stands for what ``texts`` gives. Raises TokenizerError.
    """
    if config.kind == "file":
        assert config.path is not None
        return Tokenizer.load(expand_path(config.path))
    folder = cache_folder() / "tokenizers" / cache_key(_LAYOUT, "tokenizer", texts_hash, config.model_dump_json())
    if not folder.exists():
        with exclusive_lock(folder, report):
            if not folder.exists():
                report(f"Learning a {config.kind} tokenizer")
                learned = train_tokenizer(config, texts(), report=report)
                with atomic_folder(folder) as growing:
                    learned.save(growing)
    return Tokenizer.load(folder)


def _make_shards(
    folder: Path, parts: Mapping[str, PieceSource], tokenizer: Tokenizer, content_hash: str, report: Progress
) -> Manifest:
    if (found := find_shards(folder)) is not None:
        return found
    with exclusive_lock(folder, report):
        if (found := find_shards(folder)) is not None:
            return found
        report("Turning the text into tokens")
        try:
            return write_shards(
                folder,
                {name: partial(_encoded, pieces, tokenizer) for name, pieces in parts.items()},
                vocab_size=tokenizer.vocab_size,
                tokenizer_hash=tokenizer.fingerprint(),
                content_hash=content_hash,
                report=report,
            )
        except TextChangedError:
            shutil.rmtree(partial_folder(folder), ignore_errors=True)  # it holds another text than its name says
            raise


def _training_texts(corpus: Corpus) -> Iterator[str]:
    return (piece.text for piece in corpus.chunks("train"))


def _encoded(pieces: PieceSource, tokenizer: Tokenizer, skip: int) -> Generator[EncodedChunks]:
    return encode_chunks(pieces(), tokenizer, skip)
