"""Corpora: exact splits by position, fair splits by document, and a hash of the text alone."""

import json
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penna.config.sections import DataConfig
from penna.data import corpus as module
from penna.data.corpus import Corpus, count_text, read_corpus
from penna.data.encode import count_words
from penna.data.sources import records
from penna.data.sources.records import BadRecord, TextChunk
from penna.data.split import TextChangedError
from penna.errors import DataError


def corpus_of(folder: Path, texts: list[str], **fields: object) -> Corpus:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "texts.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return read_corpus(DataConfig(path=str(file), **fields))


def joined(chunks: Iterable[TextChunk]) -> list[str]:
    """The documents that chunks form."""
    documents: list[str] = []
    for chunk in chunks:
        if chunk.starts:
            documents.append("")
        documents[-1] += chunk.text
    return documents


def parts(corpus: Corpus) -> tuple[list[str], list[str]]:
    return joined(corpus.chunks("train")), joined(corpus.chunks("valid"))


TEXTS = st.lists(st.text(alphabet="ab\n 가🙂", min_size=1, max_size=12), min_size=1, max_size=12).filter(
    lambda texts: any(text.strip() for text in texts)
)


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.floats(0.01, 0.99), st.integers(2, 20))
def test_a_split_by_position_is_exact_and_loses_nothing(tmp_path_factory, texts, fraction, longest):
    folder = tmp_path_factory.mktemp("c")
    whole = "".join(text for text in texts if text.strip())
    cut = int(len(whole) * (1 - fraction))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "CHUNK_CHARACTERS", longest)
        if cut == 0:
            with pytest.raises(DataError, match="none is left for training"):
                corpus_of(folder, texts, split="position", valid_fraction=fraction)
            return
        corpus = corpus_of(folder, texts, split="position", valid_fraction=fraction)
        train, valid = parts(corpus)
    assert "".join(train) == whole[:cut]
    assert "".join(valid) == whole[cut:]
    assert "" not in train + valid
    # The cut is one more border besides those of the documents.
    usable = [text for text in texts if text.strip()]
    borders = {sum(map(len, usable[:number])) for number in range(len(usable))}
    assert len(train) + len(valid) == len(borders | {cut})


def test_a_split_by_position_splits_at_most_one_document(tmp_path: Path):
    corpus = corpus_of(tmp_path, ["aaaa", "bbbb", "cccc"], split="position", valid_fraction=0.5)
    assert parts(corpus) == (["aaaa", "bb"], ["bb", "cccc"])


def test_a_split_by_document_keeps_documents_whole_and_in_order(tmp_path: Path):
    texts = [f"document {number}" for number in range(200)]
    train, valid = parts(corpus_of(tmp_path, texts, split="document", valid_fraction=0.3))
    assert sorted(train + valid) == sorted(texts)
    assert train == [text for text in texts if text in set(train)]
    assert valid == [text for text in texts if text in set(valid)]


@pytest.mark.parametrize("fraction", [0.02, 0.1, 0.5])
def test_by_document_the_fraction_is_roughly_kept(tmp_path: Path, fraction: float):
    texts = [f"text number {number}" for number in range(4000)]
    _, valid = parts(corpus_of(tmp_path, texts, split="document", valid_fraction=fraction))
    deviation = (4000 * fraction * (1 - fraction)) ** 0.5
    assert abs(len(valid) - 4000 * fraction) < 4 * deviation


def test_duplicates_are_in_the_same_part(tmp_path: Path):
    texts = [f"line {number % 40}" for number in range(400)]
    train, valid = parts(corpus_of(tmp_path, texts, split="document", valid_fraction=0.5))
    assert train
    assert valid
    assert not set(train) & set(valid)
    assert len(train) + len(valid) == 400


def test_the_part_of_a_text_does_not_depend_on_other_texts(tmp_path: Path):
    texts = [f"text {number}" for number in range(100)]
    _, valid = parts(corpus_of(tmp_path / "a", texts, split="document", valid_fraction=0.3))
    more = ["another", *reversed(texts), "one more"]
    _, valid_of_more = parts(corpus_of(tmp_path / "b", more, split="document", valid_fraction=0.3))
    assert set(valid_of_more) & set(texts) == set(valid)


def test_a_larger_fraction_only_adds_to_validation(tmp_path: Path):
    texts = [f"text {number}" for number in range(300)]
    _, few = parts(corpus_of(tmp_path, texts, split="document", valid_fraction=0.1))
    _, many = parts(corpus_of(tmp_path, texts, split="document", valid_fraction=0.3))
    assert set(few) < set(many)


@pytest.mark.parametrize(("count", "split"), [(1, "position"), (19, "position"), (20, "document")])
def test_auto_splits_by_document_from_twenty_on(tmp_path: Path, count: int, split: str):
    assert corpus_of(tmp_path, [f"text {number}" for number in range(count)]).split == split


def test_validation_files_of_their_own_are_read_and_nothing_is_split_off(tmp_path: Path):
    (tmp_path / "dev.txt").write_text("held\nout\n")
    corpus = corpus_of(tmp_path, ["one", "two"], valid_path=str(tmp_path / "dev.txt"), document="line", limit=2)
    assert corpus.split == "files"
    assert parts(corpus) == (["one", "two"], ["held", "out"])
    assert corpus.valid_counts is not None
    assert (corpus.valid_counts.documents, corpus.valid_counts.bytes) == (2, 7)


def test_an_empty_validation_file_is_named(tmp_path: Path):
    (tmp_path / "dev.txt").write_text("\n")
    with pytest.raises(DataError, match=r"no text in .*dev\.txt"):
        corpus_of(tmp_path, ["one"], valid_path=str(tmp_path / "dev.txt"))


def test_bad_records_count_in_validation_files_too(tmp_path: Path):
    (tmp_path / "dev.jsonl").write_text('{"text": "x"}\n{\n')
    with pytest.raises(DataError, match=r"dev\.jsonl:2: not JSON"):
        corpus_of(tmp_path, ["one"], valid_path=str(tmp_path / "dev.jsonl"))


def test_counts_are_of_documents_characters_utf8_bytes_and_words(tmp_path: Path):
    counts = corpus_of(tmp_path, ["abc", "한글\n이다", "🙂", " "]).counts
    assert (counts.documents, counts.characters, counts.bytes, counts.empty) == (3, 9, 3 + 13 + 4, 1)
    assert counts.words == 1 + 3 + 1


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.text(alphabet="ab \n가🙂", max_size=30), st.sets(st.integers(1, 29))), min_size=1, max_size=5)
)
def test_counts_and_hash_do_not_depend_on_the_chunks(documents):
    def counted(pieces: list[TextChunk]):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(records, "CHUNK_CHARACTERS", 7)
            patch.setattr(module, "read_texts", lambda *_: iter(pieces))
            patch.setattr(module, "source_stamps", lambda *_: None)
            return count_text(DataConfig(path="x"))

    whole = [TextChunk("some text", True)] + [TextChunk(text, True) for text, _ in documents]
    cut = [TextChunk("some", True), TextChunk(" text", False)]
    for text, places in documents:
        borders = [0, *sorted(place for place in places if place < len(text)), len(text)]
        cut += [TextChunk(text[start:end], start == 0) for start, end in pairwise(borders)]
    counts = counted(whole)
    assert counted(cut) == counts
    usable = [piece.text for piece in whole if piece.text.strip()]
    assert counts.documents == len(usable)
    assert counts.empty == len(whole) - len(usable)
    assert counts.characters == sum(map(len, usable))
    assert counts.bytes == len("".join(usable).encode())
    assert counts.words == sum(map(count_words, usable))


def test_a_long_document_goes_whole_to_the_part_of_its_first_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(records, "CHUNK_CHARACTERS", 10)
    texts = [f"number {number}\n{'more and more ' * 5}" for number in range(100)]
    corpus = corpus_of(tmp_path, texts, split="document", valid_fraction=0.3)
    assert any(not piece.starts for piece in corpus.chunks("valid"))
    train, valid = parts(corpus)
    assert train
    assert valid
    assert sorted(train + valid) == sorted(texts)


def test_of_many_bad_records_all_are_counted_and_the_first_are_kept(tmp_path: Path):
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "x"}\n' * 20 + "{\n" * 150)
    counts = read_corpus(DataConfig(path=str(file), allow_bad_records=1)).counts
    assert counts.bad_records == 150
    assert [record.line for record in counts.bad] == list(range(21, 121))
    assert all(isinstance(record, BadRecord) for record in counts.bad)


@pytest.mark.parametrize("bad", [3, 9])
def test_too_many_bad_records_are_an_error_with_their_locations(tmp_path: Path, bad: int):
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "x"}\n' * 5 + '{"text": " "}\n' + "{\n" * bad)
    with pytest.raises(DataError) as caught:
        read_corpus(DataConfig(path=str(file), allow_bad_records=0.3))
    assert caught.value.happened.startswith(f"{bad} of {6 + bad} records cannot be used:\n  {file}:7: not JSON")
    assert caught.value.happened.count(f"{file}:") == min(bad, 5)
    assert ("and 4 more" in caught.value.happened) == (bad == 9)
    assert read_corpus(DataConfig(path=str(file), allow_bad_records=bad / (6 + bad))).counts.bad_records == bad


@pytest.mark.parametrize(
    "change", [lambda file: file.write_text("other text"), lambda file: file.write_text("a text.")]
)
def test_a_text_that_changed_after_it_was_counted_is_refused(tmp_path: Path, change):
    file = tmp_path / "a.txt"
    file.write_text("some text.")
    for fields in ({"split": "position"}, {"split": "document"}, {"valid_path": str(file)}):
        file.write_text("some text.")
        corpus = read_corpus(DataConfig(path=str(file), **fields))
        assert "".join(parts(corpus)[0] + parts(corpus)[1]).startswith("some text.")
        change(file)
        for part in ("train", "valid"):
            with pytest.raises(TextChangedError, match=r"a\.txt changed while"):
                list(corpus.chunks(part))


def test_the_content_hash_does_not_depend_on_paths(tmp_path: Path):
    texts = ["first text", "second text"]
    here = corpus_of(tmp_path / "here", texts).content_hash
    assert corpus_of(tmp_path / "there", texts).content_hash == here
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.txt").write_text(text)
    assert read_corpus(DataConfig(path=[str(tmp_path / "0.txt"), str(tmp_path / "1.txt")])).content_hash == here


def test_the_content_hash_changes_with_any_byte_border_order_or_split(tmp_path: Path):
    (tmp_path / "dev.txt").write_text("dev")
    (tmp_path / "other.txt").write_text("dew")
    variants = [
        (["first text", "second text"], {}),
        (["first text", "second texu"], {}),
        (["first texts", "econd text"], {}),
        (["second text", "first text"], {}),
        (["first textsecond text"], {}),
        (["first text", "second text", "second text"], {}),
        (["first text", "second text"], {"valid_fraction": 0.2}),
        (["first text", "second text"], {"split": "document"}),
        (["first text", "second text"], {"valid_path": str(tmp_path / "dev.txt")}),
        (["first text", "second text"], {"valid_path": str(tmp_path / "other.txt")}),
    ]
    hashes = {corpus_of(tmp_path, texts, **fields).content_hash for texts, fields in variants}
    assert len(hashes) == len(variants)
