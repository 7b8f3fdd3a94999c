"""Items to a folder of examples: encoded some thousands at a time, written as they come.

What no example can be made of, such as a record of an unknown class, or whose target is beyond the block, is counted in
the manifest with its number and the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from penna.data.bad_records import KEPT
from penna.data.examples.example import Example, Form, T
from penna.data.examples.split import PARTS, Dealt, unknown_label
from penna.data.examples.store import Manifest, PartManifest, Refused
from penna.data.examples.writer import PartWriter, dtype_for, write_manifest
from penna.data.reading.sources import Part
from penna.text.tokenizer import Tokenizer

_BATCH_ITEMS = 4096  # encoded side by side, or
_BATCH_CHARACTERS = 1 << 22  # as many as have so much text


def write_examples(folder: Path, dealt: Dealt[T], tokenizer: Tokenizer, labels: Sequence[str]) -> Manifest:
    """Write the examples of both parts and their manifest, which counts what no example could be made of.

    Raises TextChangedError where the items are not the ones that were surveyed, and DeviceError where the disk is full.
    """
    refused: dict[Part, _Refusals] = {source: _Refusals() for source in dealt.surveys}
    parts: dict[str, PartManifest] = {}
    for part in PARTS:
        with PartWriter(folder, part, tokenizer.vocab_size) as writer:
            for batch in _batches(_of_known_class(dealt, dealt.items(part), labels, refused), dealt.form):
                items = [item for _, _, item in batch]
                encoded = dealt.form.encode(items, tokenizer, labels)
                kept: list[Example] = []
                texts: list[str] = []
                for (source, number, item), example in zip(batch, encoded, strict=True):
                    if isinstance(example, str):
                        refused[source].add(number, example)
                    else:
                        kept.extend([example] if isinstance(example, Example) else example)
                        texts.extend(dealt.form.texts(item))
                writer.write(kept, sum(map(len, texts)), sum(len(text.encode("utf-8")) for text in texts))
            parts[part] = writer.finish()
    manifest = Manifest(
        dtype=dtype_for(tokenizer.vocab_size),
        tokenizer_hash=tokenizer.fingerprint(),
        content_hash=dealt.content_hash,
        labels=list(labels),
        parts=parts,
        refused={source: Refused(found.count, found.first) for source, found in refused.items()},
    )
    write_manifest(folder, manifest)
    return manifest


class _Refusals:
    """Items of one source that no example could be made of: by number, since the same items may lie elsewhere."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[tuple[int, str]] = []

    def add(self, number: int, reason: str) -> None:
        self.count += 1
        if len(self.first) < KEPT:
            self.first.append((number, reason))


def _of_known_class(
    dealt: Dealt[T], items: Iterable[tuple[Part, int, T]], labels: Sequence[str], refused: dict[Part, _Refusals]
) -> Iterator[tuple[Part, int, T]]:
    """Items without those of a class that is not learned."""
    known = frozenset(labels)
    for source, number, item in items:
        label = dealt.form.label(item)
        if label is None or label in known:
            yield source, number, item
        else:
            refused[source].add(number, unknown_label(label, labels))


def _batches(items: Iterable[tuple[Part, int, T]], form: Form[T]) -> Iterator[list[tuple[Part, int, T]]]:
    batch: list[tuple[Part, int, T]] = []
    characters = 0
    for found in items:
        batch.append(found)
        characters += sum(map(len, form.texts(found[2])))
        if len(batch) == _BATCH_ITEMS or characters >= _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
