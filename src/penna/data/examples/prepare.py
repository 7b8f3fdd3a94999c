"""Records to examples and tokenizer: everything a task needs to learn from, made once and kept in the cache.

The cache key is a hash of the items, their split, the tokenizer, the classes and the task's form, so the same data are
prepared once wherever they lie. The tokenizer learns from the texts of the training part alone. Records stream: memory
holds some thousands at a time. No record is dropped in silence: what no example can be made of is counted with the
records that cannot be read, and told with its place and the reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic

from penna.config.sections import DataConfig, TokenizerConfig
from penna.data.cache import Progress, atomic_folder, cache_folder, cache_key, exclusive_lock
from penna.data.examples.encode import write_examples
from penna.data.examples.example import ExampleFormat, T
from penna.data.examples.split import (
    PARTS,
    ItemIndex,
    SplitData,
    choose_labels,
    describe_source,
    index_items,
    split,
    verified_items,
)
from penna.data.examples.store import (
    MANIFEST,
    Examples,
    Manifest,
    PartManifest,
    open_examples,
    read_manifest,
)
from penna.data.prepare import load_or_train_tokenizer
from penna.data.sources.files import describe_skipped, skipped_files
from penna.data.sources.reader import Part
from penna.data.sources.records import BadRecord, BadRecords, check_bad_records
from penna.errors import DataError
from penna.tokenizer.chat import named_tokens
from penna.tokenizer.tokenizer import Tokenizer

_LAYOUT = "3"  # part of every cache key; raise it when the files change


@dataclass(frozen=True)
class PartCounts:
    """One part (train or valid)."""

    examples: int
    tokens: int  # ids in all
    targets: int  # targets in all
    truncated: int  # examples that lack a part of their record, which was too long
    bytes: int  # of the texts its examples were made of, in UTF-8


@dataclass(frozen=True)
class ExampleCounts:
    """What was read, of both parts together."""

    records: int  # that examples were made of
    characters: int  # of their texts
    bytes: int  # the same in UTF-8
    bad_records: int  # that could not be used
    bad: tuple[BadRecord, ...]  # the first of them


@dataclass(frozen=True)
class PreparedExamples:
    """The examples of a recipe, the tokenizer that made them, and what they were made of."""

    folder: Path
    train: Examples
    valid: Examples
    tokenizer: Tokenizer
    labels: tuple[str, ...]  # the classes in order; empty where the task has none
    label_counts: tuple[int, ...]  # examples of each in the training part
    content_hash: str
    counts: ExampleCounts
    split: str  # "document", "position" or "files"
    train_counts: PartCounts
    valid_counts: PartCounts


def prepare_examples(
    data: DataConfig,
    tokenizer: TokenizerConfig | Tokenizer,
    format: ExampleFormat[T],
    *,
    labels: Sequence[str] = (),
    report: Progress = lambda _: None,
) -> PreparedExamples:
    """Make or find the examples of a recipe's records.

    ``tokenizer`` is the recipe's section, or a tokenizer at hand; what ``form`` needs is added to it. ``labels`` are
    the classes in order, those of the training part where none are given; a record of another class is a bad one.
    Raises DataError, RecipeError where the training part has no example of one that is given, TokenizerError, and
    DeviceError where the disk is full.
    """
    report("Reading the records")
    if passed := skipped_files([*data.path, *data.valid_path]):
        report(f"Files passed over: {describe_skipped(passed)}")
    dealt = split(data, format)
    classes = choose_labels(dealt.label_counts(), labels)
    if isinstance(tokenizer, TokenizerConfig):
        tokenizer = load_or_train_tokenizer(tokenizer, partial(_training_texts, dealt), dealt.texts_hash, report)
    tokenizer = format.adapt(tokenizer)
    folder = cache_folder() / "examples" / _key(dealt, tokenizer, classes)
    manifest = _make(folder, dealt, tokenizer, classes, report)
    bad = _check(dealt, manifest)
    train, valid = (open_examples(folder, part) for part in PARTS)
    counted: Counter[int] = Counter([] if train.labels is None else train.labels.tolist())
    return PreparedExamples(
        folder=folder,
        train=train,
        valid=valid,
        tokenizer=tokenizer,
        labels=classes,
        label_counts=tuple(counted[number] for number in range(len(classes))),
        content_hash=dealt.content_hash,
        counts=_counts(dealt, manifest, bad),
        split=dealt.split,
        train_counts=_part_counts(manifest.parts["train"]),
        valid_counts=_part_counts(manifest.parts["valid"]),
    )


@dataclass(frozen=True)
class EvaluationItems(Generic[T]):
    """Items to evaluate with, all in memory."""

    items: list[T]
    locations: list[str]  # where each one's record stands: file:line
    bad_records: int  # left out; of a part of the same files, those of the files: what cannot be read is in no part


def read_evaluation_items(data: DataConfig, format: ExampleFormat[T]) -> EvaluationItems[T]:
    """Every item of ``path``. Raises DataError as ``prepare_examples`` does."""
    survey = index_items(data, format, "train")
    found = list(verified_items(data, format, "train", survey))
    return _with_places([("train", number, item) for number, item in found], {"train": survey})


def read_validation_items(data: DataConfig, format: ExampleFormat[T], content_hash: str | None) -> EvaluationItems[T]:
    """The items of the validation part as ``prepare_examples`` deals them.

    Raises DataError where ``content_hash``, of the data that was learned from, is another: what is held out of other
    data may have been learned from.
    """
    dealt = split(data, format)
    if content_hash not in (None, dealt.content_hash):
        raise DataError(
            f"{', '.join(data.path)} is not what the run learned from (its hash was {str(content_hash)[:12]}…, now "
            f"{dealt.content_hash[:12]}…).",
            "The validation part is told by the data the run began with, seen from the folder it was trained in.",
            "Restore the data and stand in that folder, or name other data: --data.path FILE.",
        )
    source: Part = "valid" if dealt.split == "files" else "train"
    return _with_places(list(dealt.items("valid")), {source: dealt.surveys[source]})


def _with_places(found: Sequence[tuple[Part, int, T]], surveys: Mapping[Part, ItemIndex]) -> EvaluationItems[T]:
    places = (surveys[source].location(number) for source, number, _ in found)
    return EvaluationItems(
        [item for _, _, item in found],
        [f"{file}:{line}" for file, line in places],
        sum(survey.bad.count for survey in surveys.values()),
    )


def _training_texts(dealt: SplitData[T]) -> Iterator[str]:
    for _, _, item in dealt.items("train"):
        yield from dealt.format.texts(item)


def _key(dealt: SplitData[T], tokenizer: Tokenizer, labels: Sequence[str]) -> str:
    return cache_key(
        _LAYOUT,
        dealt.content_hash,
        tokenizer.fingerprint(),
        repr(tokenizer.separator_id),  # what tokenizer_config.json names is no part of the fingerprint,
        repr(sorted(named_tokens(tokenizer).items())),  # and a template may write any of it
        repr(tokenizer.chat_template),
        dealt.format.settings,
        repr(tuple(labels)),
    )


def _make(folder: Path, dealt: SplitData[T], tokenizer: Tokenizer, labels: Sequence[str], report: Progress) -> Manifest:
    if (folder / MANIFEST).exists():
        return read_manifest(folder)
    with exclusive_lock(folder, report):
        if not (folder / MANIFEST).exists():
            report("Turning the records into examples")
            with atomic_folder(folder) as growing:
                _check(dealt, write_examples(growing, dealt, tokenizer, labels))
    return read_manifest(folder)


def _check(dealt: SplitData[T], manifest: Manifest) -> BadRecords:
    """All bad records, those that could not be read and those that no example could be made of, in order.

    Raises DataError where a source has more of them than ``allow_bad_records``, or a part has no example.
    """
    found = BadRecords()
    for source, survey in dealt.surveys.items():
        refused = manifest.refused[source]
        placed = [BadRecord(*survey.location(number), reason) for number, reason in sorted(refused.first)]
        first = [*survey.bad.first, *placed]
        count = survey.bad.count + refused.count
        check_bad_records(count, first, survey.records, dealt.data)
        found.extend(count, first)
    for part in PARTS:
        if not manifest.parts[part].examples:
            source: Part = "valid" if dealt.split == "files" and part == "valid" else "train"
            name = "training" if part == "train" else "validation"
            raise DataError(
                f"No example of the {name} part can be made of the records in {describe_source(dealt.data, source)}"
                + (f" (the first: {found.first[0]})." if found.first else "."),
                "At least one.",
                "Give more records, or mend those that cannot be used.",
            )
    return found


def _counts(dealt: SplitData[T], manifest: Manifest, bad: BadRecords) -> ExampleCounts:
    parts = manifest.parts.values()
    return ExampleCounts(
        records=sum(survey.records for survey in dealt.surveys.values()) - bad.count,
        characters=sum(part.characters for part in parts),
        bytes=sum(part.bytes for part in parts),
        bad_records=bad.count,
        bad=tuple(bad.first),
    )


def _part_counts(part: PartManifest) -> PartCounts:
    return PartCounts(part.examples, part.tokens, part.targets, part.truncated, part.bytes)


# MERGED data.examples.ready: What every task says of the examples it learns from: the tokenizer, the hash, and how
# many there are.
#
# In come prepared examples; out go the lines for the terminal and the counts for run.json. A task adds what is its
# own.


@dataclass(frozen=True)
class PreparedExampleData:
    """The examples of one recipe, prepared."""

    prepared: PreparedExamples

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer the examples were made with, with all that the task added to it."""
        return self.prepared.tokenizer

    @property
    def folder(self) -> Path:
        """Where in the cache they are kept."""
        return self.prepared.folder

    @property
    def content_hash(self) -> str:
        """A hash of the records and of how they are split."""
        return self.prepared.content_hash

    def records_summary(self, what: str) -> str:
        """How much was read, beginning with ``what`` it is."""
        counts = self.prepared.counts
        line = f"{what}: {counts.records:,} records, {counts.characters:,} characters"
        if counts.bad_records:
            line += f", {counts.bad_records:,} bad records left out (the first: {counts.bad[0]})"
        return line

    def targets_summary(self) -> str:
        """How many examples each part has, and how many of their tokens are learned."""
        parts = (self.prepared.train_counts, self.prepared.valid_counts)
        train, valid = (f"{part.examples:,} ({part.targets:,} of {part.tokens:,} tokens due)" for part in parts)
        return f"Examples: {train} to learn from, {valid} for validation, vocabulary {self.tokenizer.vocab_size:,}"

    @property
    def truncated(self) -> int:
        """How many examples lack a part of their record, which was too long."""
        return self.prepared.train_counts.truncated + self.prepared.valid_counts.truncated

    def info(self) -> dict[str, Any]:
        """Hashes and counts, for run.json."""
        counts = self.prepared.counts
        train, valid = self.prepared.train_counts, self.prepared.valid_counts
        return {
            "content_hash": self.content_hash,
            "tokenizer_hash": self.tokenizer.fingerprint(),
            "split": self.prepared.split,
            "records": counts.records,
            "bytes": counts.bytes,
            "bad_records": counts.bad_records,
            "train_examples": train.examples,
            "valid_examples": valid.examples,
            "train_tokens": train.tokens,
            "valid_tokens": valid.tokens,
        }

    def target_info(self) -> dict[str, int]:
        """How many tokens of each part are learned, for run.json."""
        return {
            "train_targets": self.prepared.train_counts.targets,
            "valid_targets": self.prepared.valid_counts.targets,
        }
