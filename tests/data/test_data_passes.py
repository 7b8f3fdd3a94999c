"""Passes: how often preparation reads and hashes a text, and that a change between two passes is noticed."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from penna.config.sections import DataConfig, TokenizerConfig
from penna.config.tasks import ClassifyTask
from penna.data import corpus as corpus_module
from penna.data import prepare as prepare_module
from penna.data import split as split_module
from penna.data.corpus import read_corpus
from penna.data.examples import split as items_module
from penna.data.examples.prepare import prepare_examples
from penna.data.prepare import prepare
from penna.data.sources import streams
from penna.data.split import TextChangedError, goes_to_validation, source_stamps
from penna.tasks.classify import ClassifyFormat

BPE = TokenizerConfig(kind="bpe", vocab_size=300)
FORMAT = ClassifyFormat(64, ClassifyTask().cut)
DOCUMENTS = [f"the {number}th sentence of a long text about {number % 7} towns" for number in range(60)]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENNA_CACHE", str(tmp_path / "cache"))


def written(file: Path, documents: list[str] = DOCUMENTS, *, age: float = 3600) -> str:
    """A file of records that was last changed ``age`` seconds ago."""
    lines = (json.dumps({"text": text, "label": number % 2}) + "\n" for number, text in enumerate(documents))
    file.write_text("".join(lines), encoding="utf-8")
    os.utime(file, (time.time() - age,) * 2)
    return str(file)


class Passes:
    """Counts how often files are opened, and documents hashed and assigned to a part."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.opened = self.hashed = self.split = 0
        patch.setattr(streams, "open", self._open, raising=False)
        for module in (corpus_module, items_module):
            patch.setattr(module, "_marked", self._counted(module._marked, "hashed"))
            patch.setattr(module, "goes_to_validation", self._counted(goes_to_validation, "split"))

    def _open(self, file: Path, mode: str) -> Any:
        self.opened += 1
        return open(file, mode)

    def _counted(self, function: Any, name: str) -> Any:
        def counted(*arguments: Any) -> Any:
            setattr(self, name, getattr(self, name) + 1)
            return function(*arguments)

        return counted

    def taken(self) -> tuple[int, int, int]:
        """The counts since the last call: files opened, documents hashed, documents split."""
        taken = self.opened, self.hashed, self.split
        self.opened = self.hashed = self.split = 0
        return taken


@pytest.mark.parametrize("split", ["document", "auto"])
def test_a_text_is_hashed_once_and_read_to_count_it_to_train_a_tokenizer_and_to_encode_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: Any
):
    data = DataConfig(path=written(tmp_path / "a.jsonl"), split=split, valid_fraction=0.3)
    passes = Passes(monkeypatch)
    tokenizer = prepare(data, BPE).tokenizer
    assert passes.taken() == (3, 60, 60)
    prepare(data, BPE)  # all in the cache
    assert passes.taken() == (1, 60, 60)
    monkeypatch.setenv("PENNA_CACHE", str(tmp_path / "other"))
    prepare(data, tokenizer)
    assert passes.taken() == (2, 60, 60)


def test_each_validation_file_is_read_to_count_and_to_encode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    data = DataConfig(path=written(tmp_path / "a.jsonl"), valid_path=written(tmp_path / "b.jsonl", DOCUMENTS[:9]))
    passes = Passes(monkeypatch)
    prepare(data, BPE)
    assert passes.taken() == (3 + 2, 69, 0)


def test_records_are_hashed_once_and_read_to_index_them_to_train_a_tokenizer_and_to_encode_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    data = DataConfig(path=written(tmp_path / "a.jsonl"), valid_fraction=0.3)
    passes = Passes(monkeypatch)
    tokenizer = prepare_examples(data, BPE, FORMAT).tokenizer
    opened, hashed, split = passes.taken()
    assert (opened, split) == (3, 60)
    prepare_examples(data, tokenizer, FORMAT)  # all in the cache
    assert passes.taken() == (1, hashed, 60)


def test_a_file_written_a_moment_ago_is_hashed_in_every_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    data = DataConfig(path=written(tmp_path / "a.jsonl", age=0), split="document")
    passes = Passes(monkeypatch)
    prepare(data, BPE)
    assert passes.taken() == (3, 180, 60)


def test_a_change_of_the_same_size_and_time_is_noticed(tmp_path: Path):
    file = tmp_path / "a.jsonl"
    corpus = read_corpus(DataConfig(path=written(file)))
    assert corpus.counts.stamps is not None
    times = file.stat()
    written(file, [text.replace("towns", "bowls") for text in DOCUMENTS])
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert file.stat().st_size == times.st_size
    with pytest.raises(TextChangedError, match=r"a\.jsonl changed while it was being prepared"):
        list(corpus.chunks("train"))


def test_a_file_that_is_only_touched_is_still_the_same_text(tmp_path: Path):
    file = tmp_path / "a.jsonl"
    corpus = read_corpus(DataConfig(path=written(file)))
    first = list(corpus.split_chunks())
    os.utime(file)
    assert list(corpus.split_chunks()) == first


@pytest.mark.parametrize("change", ["append", "remove", "another file"])
def test_a_change_in_the_middle_of_a_pass_is_noticed(tmp_path: Path, change: str):
    folder = tmp_path / "texts"
    folder.mkdir()
    written(folder / "a.jsonl")
    written(folder / "b.jsonl")
    corpus = read_corpus(DataConfig(path=str(folder)))
    chunks = corpus.split_chunks()
    next(chunks)
    match change:
        case "append":
            with open(folder / "a.jsonl", "a") as stream:
                stream.write('{"text": "more"}\n')
        case "remove":
            (folder / "a.jsonl").unlink()
        case _:
            written(folder / "c.jsonl")
    with pytest.raises(TextChangedError):
        list(chunks)


def test_hub_datasets_and_missing_files_have_no_stamps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert source_stamps(DataConfig(path="hf://owner/name"), "train") is None
    assert source_stamps(DataConfig(source="python"), "train") == ()
    gone = tmp_path / "gone.jsonl"
    monkeypatch.setattr(split_module, "find_sources", lambda *_: [gone])
    assert source_stamps(DataConfig(path=str(gone)), "train") is None


def test_chunks_of_one_part_are_those_that_a_common_pass_gives_it(tmp_path: Path):
    first, second = written(tmp_path / "a.jsonl"), written(tmp_path / "b.jsonl", DOCUMENTS[:9])
    for fields in ({"split": "document"}, {"split": "position"}, {"valid_path": second}):
        corpus = read_corpus(DataConfig(path=first, valid_fraction=0.3, **fields))
        together = list(corpus.split_chunks())
        for part in ("train", "valid"):
            assert list(corpus.chunks(part)) == [chunk for owner, chunk in together if owner == part]


def test_preparation_hands_both_parts_to_one_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    order: list[str] = []
    encode = prepare_module.encode_chunks
    monkeypatch.setattr(
        prepare_module,
        "encode_chunks",
        lambda chunks, *rest: encode((order.append(part) or (part, chunk) for part, chunk in chunks), *rest),
    )
    prepare(DataConfig(path=written(tmp_path / "a.jsonl"), split="document", valid_fraction=0.5), BPE)
    assert order != sorted(order) and len(order) == 60
