"""Text to tokenizer and shards: everything a run needs to read, made once and kept in a content-hashed cache.

The cache key is a hash of the text, its split and the tokenizer, so the same text is prepared once wherever it lies,
and changed text can never be taken for the old. The tokenizer learns from the training part alone.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from penna.config.recipe import expand_path
from penna.config.sections import DataConfig, TokenizerConfig
from penna.data.corpus import Corpus, Counts, Split, all_texts, read_corpus, read_whole
from penna.data.shards import MANIFEST, EncodedDocument, Manifest, read_manifest, write_shards
from penna.errors import DataError
from penna.text.tokenizer import Tokenizer
from penna.text.training import train_tokenizer

_LAYOUT = "1"  # part of every cache key; raise it when what is written changes
_PIECE = 1 << 18  # characters encoded at a time; longer documents are cut at a line end
_BATCH = 1 << 20  # characters handed to the tokenizer's threads together


@dataclass(frozen=True)
class Prepared:
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


def cache_folder() -> Path:
    """Where prepared text is kept: $PENNA_CACHE, or penna under the user's cache folder."""
    if given := os.environ.get("PENNA_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "penna"


def prepare(
    data: DataConfig,
    tokenizer: TokenizerConfig | Tokenizer,
    *,
    say: Callable[[str], None] = lambda _: None,
) -> Prepared:
    """Make or find the shards of a recipe's text.

    ``tokenizer`` is the recipe's section, or a tokenizer already at hand. Raises DataError, TokenizerError.
    """
    say("Reading the text")
    corpus = read_corpus(data)
    if isinstance(tokenizer, TokenizerConfig):
        tokenizer = _learn_tokenizer(corpus, tokenizer, say)
    key = _key("shards", corpus.content_hash, tokenizer.fingerprint())
    folder = cache_folder() / "shards" / key
    if (folder / MANIFEST).exists():
        return Prepared(folder, read_manifest(folder), tokenizer, corpus)
    say("Turning the text into tokens")
    parts: tuple[Split, Split] = ("train", "valid")
    manifest = write_shards(
        folder,
        {part: _encode(corpus.documents(part), tokenizer) for part in parts},
        vocab_size=tokenizer.vocab_size,
        tokenizer_hash=tokenizer.fingerprint(),
        content_hash=corpus.content_hash,
    )
    return Prepared(folder, manifest, tokenizer, corpus)


def _learn_tokenizer(corpus: Corpus, config: TokenizerConfig, say: Callable[[str], None]) -> Tokenizer:
    if config.kind == "file":
        assert config.path is not None
        return Tokenizer.load(expand_path(config.path))
    folder = cache_folder() / "tokenizers" / _key("tokenizer", corpus.content_hash, config.model_dump_json())
    if (folder / "tokenizer.json").exists():
        return Tokenizer.load(folder)
    say(f"Learning a {config.kind} tokenizer")
    tokenizer = train_tokenizer(config, corpus.documents("train"))
    tokenizer.save(folder)
    return tokenizer


def _key(*parts: str) -> str:
    return hashlib.sha256("\n".join((_LAYOUT, *parts)).encode()).hexdigest()[:24]


def _encode(texts: Iterable[str], tokenizer: Tokenizer) -> Iterator[EncodedDocument]:
    """Documents as ids, each with the separator before it, encoded in batches on all cores."""
    if tokenizer.separator_id is None:
        raise DataError(
            "The tokenizer has no document separator.",
            "A special token such as <|endoftext|>, [SEP] or </s> that stands between documents.",
            "Choose another tokenizer, or name its eos_token in tokenizer_config.json.",
        )
    batch: list[tuple[str, bool]] = []
    held = 0
    for text in texts:
        for number, piece in enumerate(_cut(text)):
            batch.append((piece, number == 0))
            held += len(piece)
            if held >= _BATCH:
                yield from _encode_batch(batch, tokenizer, tokenizer.separator_id)
                batch, held = [], 0
    yield from _encode_batch(batch, tokenizer, tokenizer.separator_id)


def _encode_batch(batch: list[tuple[str, bool]], tokenizer: Tokenizer, separator: int) -> Iterator[EncodedDocument]:
    for (text, starts), ids in zip(batch, tokenizer.encode_batch([text for text, _ in batch]), strict=True):
        yield EncodedDocument([separator, *ids] if starts else ids, len(text.encode("utf-8")), starts)


def _cut(text: str) -> Iterator[str]:
    """Pieces of at most _PIECE characters, cut behind a line end where there is one."""
    start = 0
    while len(text) - start > _PIECE:
        end = text.rfind("\n", start, start + _PIECE) + 1 or start + _PIECE
        yield text[start:end]
        start = end
    yield text[start:]


def describe_counts(counts: Counts) -> str:
    """What was read, in one line."""
    line = f"{counts.documents:,} documents, {counts.characters:,} characters, {counts.bytes:,} bytes"
    if counts.empty:
        line += f", {counts.empty} empty ones left out"
    if counts.bad:
        line += f", {len(counts.bad)} bad records left out (the first: {counts.bad[0]})"
    return line


def prepare_for_evaluation(
    data: DataConfig, tokenizer: Tokenizer, count_words: Callable[[str], int]
) -> tuple[Path, int]:
    """Shards whose part ``valid`` is all of the text, and how many words it has."""
    counts, words = read_whole(data, count_words)
    folder = cache_folder() / "shards" / _key("evaluation", counts.content_hash, tokenizer.fingerprint())
    if not (folder / MANIFEST).exists():
        write_shards(
            folder,
            {"valid": _encode(all_texts(data), tokenizer)},
            vocab_size=tokenizer.vocab_size,
            tokenizer_hash=tokenizer.fingerprint(),
            content_hash=counts.content_hash,
        )
    return folder, words
