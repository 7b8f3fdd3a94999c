"""From records to examples and a tokenizer, prepared once and kept in the cache.

The cache key is a hash of the items, their split, the tokenizer, the classes and the settings of the task's format.
The tokenizer is trained on the training texts alone. Records stream: a few thousand are in memory at a time. Records
that make no example are reported with their location and reason, like the ones that cannot be read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Generic

from penna.config.sections import DataConfig, TokenizerConfig
from penna.data.cache import Progress, atomic_folder, cache_folder, cache_key, exclusive_lock
from penna.data.examples.encode import write_examples
from penna.data.examples.example import ExampleFormat, T
from penna.data.examples.split import ItemIndex, SplitData, choose_labels, index_items, split, verified_items
from penna.data.examples.store import MANIFEST, Examples, Manifest, PartManifest, open_examples, read_manifest
from penna.data.prepare import load_or_train_tokenizer
from penna.data.sources.files import describe_skipped, skipped_files
from penna.data.sources.reader import PARTS, Part
from penna.data.sources.records import BadRecord, BadRecords, check_bad_records
from penna.data.split import describe_source
from penna.errors import DataError
from penna.tokenizer.chat import named_tokens
from penna.tokenizer.tokenizer import Tokenizer

_VERSION = "3"  # part of every cache key; raise it when the files change


@dataclass(frozen=True)
class ExampleCounts:
    """What was read, for both parts together."""

    records: int  # that made examples
    characters: int  # of their texts
    bytes: int  # of their texts in UTF-8
    bad_records: int
    bad: tuple[BadRecord, ...]  # the first of them


@dataclass(frozen=True)
class PreparedExamples:
    """The examples of a recipe and their tokenizer."""

    folder: Path
    train: Examples
    valid: Examples
    tokenizer: Tokenizer
    labels: tuple[str, ...]  # the classes in order; empty if the task has none
    label_counts: tuple[int, ...]  # training examples of each
    content_hash: str
    counts: ExampleCounts
    split: str  # "document", "position" or "files"
    train_counts: PartManifest
    valid_counts: PartManifest


def prepare_examples(
    data: DataConfig,
    tokenizer: TokenizerConfig | Tokenizer,
    format: ExampleFormat[T],
    *,
    labels: Sequence[str] = (),
    report: Progress = lambda _: None,
) -> PreparedExamples:
    """The examples of a recipe's records, from the cache or newly written.

    ``tokenizer`` is the recipe's section, or a loaded tokenizer; ``format`` adds the tokens it needs. ``labels`` are
    the classes in order, by default those of the training part; a record of another class is a bad one. Raises
    DataError, RecipeError if the training part has no example of a given class, TokenizerError, and DeviceError if the
    disk is full.
    """
    report("Reading the records")
    if skipped := skipped_files([*data.path, *data.valid_path]):
        report(f"Skipped files: {describe_skipped(skipped)}")
    items = split(data, format)
    classes = choose_labels(items.label_counts(), labels)
    if isinstance(tokenizer, TokenizerConfig):
        texts = partial(_training_texts, items)
        tokenizer = load_or_train_tokenizer(tokenizer, texts, items.texts_hash, report)
    tokenizer = format.adapt(tokenizer)
    folder = cache_folder() / "examples" / _key(items, tokenizer, classes)
    manifest = _find_or_write(folder, items, tokenizer, classes, report)
    bad = _check(items, manifest)
    train, valid = (open_examples(folder, part) for part in PARTS)
    counted: Counter[int] = Counter([] if train.labels is None else train.labels.tolist())
    return PreparedExamples(
        folder=folder,
        train=train,
        valid=valid,
        tokenizer=tokenizer,
        labels=classes,
        label_counts=tuple(counted[number] for number in range(len(classes))),
        content_hash=items.content_hash,
        counts=_count(items, manifest, bad),
        split=items.split,
        train_counts=manifest.parts["train"],
        valid_counts=manifest.parts["valid"],
    )


def _training_texts(items: SplitData[T]) -> Iterator[str]:
    for _, _, item in items.items("train"):
        yield from items.format.texts(item)


def _key(items: SplitData[T], tokenizer: Tokenizer, labels: Sequence[str]) -> str:
    return cache_key(
        _VERSION,
        items.content_hash,
        tokenizer.fingerprint(),
        repr(tokenizer.separator_id),  # the tokens that tokenizer_config.json names are not in the fingerprint,
        repr(sorted(named_tokens(tokenizer).items())),  # but a template may write them
        repr(tokenizer.chat_template),
        items.format.settings,
        repr(tuple(labels)),
    )


def _find_or_write(
    folder: Path, items: SplitData[T], tokenizer: Tokenizer, labels: Sequence[str], report: Progress
) -> Manifest:
    if (folder / MANIFEST).exists():
        return read_manifest(folder)
    with exclusive_lock(folder, report):
        if not (folder / MANIFEST).exists():
            report("Tokenizing the records")
            with atomic_folder(folder) as temporary:
                _check(items, write_examples(temporary, items, tokenizer, labels))
    return read_manifest(folder)


def _check(items: SplitData[T], manifest: Manifest) -> BadRecords:
    """All bad records, unreadable ones and those that make no example.

    Raises DataError if a source has more of them than ``allow_bad_records``, or a part has no example.
    """
    found = BadRecords()
    for source, index in items.indexes.items():
        refused = manifest.refused[source]
        located = [BadRecord(*index.location(number), reason) for number, reason in sorted(refused.first)]
        first = [*index.bad.first, *located]
        count = index.bad.count + refused.count
        check_bad_records(count, first, index.records, items.data)
        found.extend(count, first)
    for part in PARTS:
        if not manifest.parts[part].examples:
            source: Part = "valid" if items.split == "files" and part == "valid" else "train"
            name = "training" if part == "train" else "validation"
            raise DataError(
                f"The records in {describe_source(items.data, source)} make no {name} example"
                + (f" (the first bad one: {found.first[0]})." if found.first else "."),
                "Each part needs at least one.",
                "Give more records, or fix the bad ones.",
            )
    return found


def _count(items: SplitData[T], manifest: Manifest, bad: BadRecords) -> ExampleCounts:
    parts = manifest.parts.values()
    return ExampleCounts(
        records=sum(index.records for index in items.indexes.values()) - bad.count,
        characters=sum(part.characters for part in parts),
        bytes=sum(part.bytes for part in parts),
        bad_records=bad.count,
        bad=tuple(bad.first),
    )


@dataclass(frozen=True)
class EvaluationItems(Generic[T]):
    """Items to evaluate with, all in memory."""

    items: list[T]
    locations: list[str]  # "file:line" of each item's record
    bad_records: int  # skipped in the files of these items


def read_evaluation_items(data: DataConfig, format: ExampleFormat[T]) -> EvaluationItems[T]:
    """Every item of ``path``. Raises DataError as ``prepare_examples`` does."""
    index = index_items(data, format, "train")
    found = list(verified_items(data, format, "train", index))
    return _with_locations([("train", number, item) for number, item in found], {"train": index})


def read_validation_items(data: DataConfig, format: ExampleFormat[T], content_hash: str | None) -> EvaluationItems[T]:
    """The items of the validation part, split as in training.

    Raises DataError if ``content_hash``, of the training data, differs: the items may then have been trained on.
    """
    items = split(data, format)
    if content_hash not in (None, items.content_hash):
        raise DataError(
            f"{', '.join(data.path)} is not the data that the run was trained on (its hash was "
            f"{str(content_hash)[:12]}…, now it is {items.content_hash[:12]}…).",
            "The validation part can only be found in the original data, from the folder where training ran.",
            "Restore the data and run the command in that folder, or name other data: --data.path FILE.",
        )
    source: Part = "valid" if items.split == "files" else "train"
    return _with_locations(list(items.items("valid")), {source: items.indexes[source]})


def _with_locations(found: Sequence[tuple[Part, int, T]], indexes: Mapping[Part, ItemIndex]) -> EvaluationItems[T]:
    locations = (indexes[source].location(number) for source, number, _ in found)
    return EvaluationItems(
        [item for _, _, item in found],
        [f"{file}:{line}" for file, line in locations],
        sum(index.bad.count for index in indexes.values()),
    )
