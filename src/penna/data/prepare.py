"""From text to a tokenizer and token shards, prepared once and kept in the cache.

The cache key is a hash of the text, its split and the tokenizer, so the same text is prepared once wherever it lies,
and changed text never gets the shards of the old one. The tokenizer is trained on the training part alone. The text is
read once to count it, once to train a tokenizer and once to encode it; what the cache holds needs only the first pass.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from penna.config.recipe import expand_path
from penna.config.sections import DataConfig, TokenizerConfig
from penna.data.cache import Progress, atomic_folder, cache_folder, cache_key, exclusive_lock
from penna.data.corpus import Corpus, Counts, count_text, read_corpus, verified_chunks
from penna.data.encode import EncodedChunks, encode_chunks
from penna.data.shards import Manifest, PartManifest, find_shards, partial_folder, write_shards
from penna.data.sources.files import describe_skipped, skipped_files
from penna.data.sources.reader import PARTS
from penna.data.sources.records import TextChunk
from penna.data.split import TextChangedError
from penna.formatting import plural
from penna.tokenizer.tokenizer import Tokenizer
from penna.tokenizer.train import train_tokenizer

_VERSION = "3"  # part of every cache key; raise it when the files change

SplitChunks = Callable[[], Iterator[tuple[str, TextChunk]]]


@dataclass(frozen=True)
class PreparedShards:
    """The token shards of a corpus and their tokenizer."""

    folder: Path
    manifest: Manifest
    tokenizer: Tokenizer
    corpus: Corpus

    @property
    def bytes_per_token(self) -> float:
        """Source bytes per training token, on average."""
        part = self.manifest.parts["train"]
        return part.bytes / max(part.tokens, 1)


def prepare(
    data: DataConfig, tokenizer: TokenizerConfig | Tokenizer, *, report: Progress = lambda _: None
) -> PreparedShards:
    """The shards of a recipe's text, from the cache or newly written; an interrupted preparation is resumed.

    ``tokenizer`` is the recipe's section, or a loaded tokenizer. Raises DataError, TokenizerError, and DeviceError if
    the disk is full.
    """
    report("Reading the text")
    if skipped := skipped_files([*data.path, *data.valid_path]):
        report(f"Skipped files: {describe_skipped(skipped)}")
    corpus = read_corpus(data)
    if isinstance(tokenizer, TokenizerConfig):
        texts = partial(_training_texts, corpus)
        tokenizer = load_or_train_tokenizer(tokenizer, texts, corpus.content_hash, report)
    folder = _shard_folder("shards", corpus.content_hash, tokenizer)
    manifest = _find_or_write(
        folder,
        corpus.split_chunks,
        PARTS,
        tokenizer=tokenizer,
        content_hash=corpus.content_hash,
        report=report,
    )
    return PreparedShards(folder, manifest, tokenizer, corpus)


def prepare_for_evaluation(
    data: DataConfig, tokenizer: Tokenizer, *, report: Progress = lambda _: None
) -> tuple[Path, PartManifest]:
    """Shards with one part, ``valid``, that holds the whole text, and that part's manifest."""
    counts = count_text(data)

    def chunks() -> Iterator[tuple[str, TextChunk]]:
        return (("valid", chunk) for chunk in verified_chunks(data, counts))

    folder = _shard_folder("evaluation", counts.content_hash, tokenizer)
    manifest = _find_or_write(
        folder, chunks, ("valid",), tokenizer=tokenizer, content_hash=counts.content_hash, report=report
    )
    return folder, manifest.parts["valid"]


def describe_counts(counts: Counts) -> str:
    """The counts of a text, in one line."""
    line = (
        f"{plural(counts.documents, 'document', 'documents')}, {counts.characters:,} characters, {counts.bytes:,} bytes"
    )
    if counts.empty:
        line += f", {plural(counts.empty, 'empty document', 'empty documents')} skipped"
    if counts.bad_records:
        line += f", {plural(counts.bad_records, 'bad record', 'bad records')} skipped (the first: {counts.bad[0]})"
    return line


def load_or_train_tokenizer(
    config: TokenizerConfig, texts: Callable[[], Iterator[str]], texts_hash: str, report: Progress
) -> Tokenizer:
    """The tokenizer of a recipe: read from its file, found in the cache, or trained on ``texts``.

    ``texts_hash`` identifies the texts. Raises TokenizerError.
    """
    if config.kind == "file":
        assert config.path is not None
        return Tokenizer.load(expand_path(config.path))
    folder = cache_folder() / "tokenizers" / cache_key(_VERSION, "tokenizer", texts_hash, config.model_dump_json())
    if not folder.exists():
        with exclusive_lock(folder, report):
            if not folder.exists():
                report(f"Training a {config.kind} tokenizer")
                trained = train_tokenizer(config, texts(), report=report)
                with atomic_folder(folder) as temporary:
                    trained.save(temporary)
    return Tokenizer.load(folder)


def _shard_folder(kind: str, content_hash: str, tokenizer: Tokenizer) -> Path:
    return cache_folder() / "shards" / cache_key(_VERSION, kind, content_hash, tokenizer.fingerprint())


def _find_or_write(
    folder: Path,
    chunks: SplitChunks,
    parts: Sequence[str],
    *,
    tokenizer: Tokenizer,
    content_hash: str,
    report: Progress,
) -> Manifest:
    if (found := find_shards(folder)) is not None:
        return found
    with exclusive_lock(folder, report):
        if (found := find_shards(folder)) is not None:
            return found
        report("Tokenizing the text")
        try:
            return write_shards(
                folder,
                partial(_encoded, chunks, tokenizer),
                parts,
                vocab_size=tokenizer.vocab_size,
                tokenizer_hash=tokenizer.fingerprint(),
                content_hash=content_hash,
                report=report,
            )
        except TextChangedError:
            shutil.rmtree(partial_folder(folder), ignore_errors=True)  # it contains another text than its name says
            raise


def _encoded(chunks: SplitChunks, tokenizer: Tokenizer, skip: Mapping[str, int]) -> Generator[EncodedChunks]:
    return encode_chunks(chunks(), tokenizer, skip)


def _training_texts(corpus: Corpus) -> Iterator[str]:
    return (chunk.text for chunk in corpus.chunks("train"))
