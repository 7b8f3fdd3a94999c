"""Preparation of examples: split, labels, bad records, and a cache entry that is complete or absent."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penna.config.sections import DataConfig, TokenizerConfig
from penna.data.examples import encode
from penna.data.examples.encode import PartWriter, write_manifest
from penna.data.examples.example import Example
from penna.data.examples.prepare import PreparedExamples, prepare_examples, read_evaluation_items, read_validation_items
from penna.data.examples.store import Examples, Manifest, file_name, id_dtype, open_examples
from penna.data.sources.fields import LabeledText, labeled_text_of
from penna.data.sources.records import BadRecord, Record
from penna.data.split import TextChangedError
from penna.errors import DataError, RecipeError
from penna.tokenizer.special_tokens import with_special_tokens
from penna.tokenizer.tokenizer import Tokenizer
from penna.tokenizer.train import train_tokenizer

CHAR = TokenizerConfig(kind="char")


@dataclass(frozen=True)
class Form:
    """Labeled texts; a text longer than ``most`` ids is refused."""

    most: int = 1000
    labeled: bool = True

    @property
    def settings(self) -> str:
        return f"test {self.most} {self.labeled}"

    def read(self, record: Record, data: DataConfig) -> LabeledText | BadRecord:
        return labeled_text_of(record, data)

    def texts(self, item: LabeledText) -> Sequence[str]:
        return (item.text,)

    def label(self, item: LabeledText) -> str | None:
        return item.label if self.labeled else None

    def adapt(self, tokenizer: Tokenizer) -> Tokenizer:
        return with_special_tokens(tokenizer, ["<|end|>"])

    def encode(
        self, items: Sequence[LabeledText], tokenizer: Tokenizer, labels: Sequence[str]
    ) -> Sequence[Example | str]:
        assert tokenizer.separator_id is not None
        examples: list[Example | str] = []
        for item, text in zip(items, tokenizer.encode_batch([item.text for item in items]), strict=True):
            ids = [tokenizer.separator_id, *text, tokenizer.special_tokens["<|end|>"]]
            label = labels.index(item.label) if self.labeled else None
            refusal = f"{len(ids)} ids are more than {self.most}"
            examples.append(Example(ids, label=label) if len(ids) <= self.most else refusal)
        return examples


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENNA_CACHE", str(tmp_path / "cache"))


ROWS = [(f"text {number % 97} {'long ' * (number % 5)}", "pos" if number % 3 else "neg") for number in range(200)]
ROWS[5] = ("", "pos")


def written(file: Path, rows: Sequence[tuple[str, Any]] = ROWS) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps({"text": text, "label": label}) + "\n" for text, label in rows)
    file.write_text("".join(lines), encoding="utf-8")
    return str(file)


def decoded(prepared: PreparedExamples, part: str) -> list[tuple[str, str]]:
    """The texts and labels of a part, read back from its ids."""
    examples: Examples = getattr(prepared, part)
    rows: list[tuple[str, str]] = []
    for number in range(len(examples)):
        start, count = int(examples.starts[number]), int(examples.lengths[number])
        ids = examples.ids[start : start + count].tolist()
        assert ids[0] == prepared.tokenizer.separator_id
        assert ids[-1] == prepared.tokenizer.special_tokens["<|end|>"]
        assert examples.target_mask[start : start + count].tolist() == [0] + [1] * (count - 1)
        assert examples.labels is not None
        rows.append((prepared.tokenizer.decode(ids[1:-1]), prepared.labels[examples.labels[number]]))
    return rows


def held_out(text: str, fraction: float) -> bool:
    return int(hashlib.blake2b(text.encode(), digest_size=8).hexdigest(), 16) / 2**64 < fraction


def test_examples_are_the_records_split_by_a_hash_of_their_texts(tmp_path: Path):
    data = DataConfig(path=written(tmp_path / "a.jsonl"), valid_fraction=0.3)
    prepared = prepare_examples(data, CHAR, Form())
    assert decoded(prepared, "valid") == [row for row in ROWS if held_out(row[0], 0.3)]
    assert decoded(prepared, "train") == (train := [row for row in ROWS if not held_out(row[0], 0.3)])
    assert ("", "pos") in ROWS
    assert prepared.split == "document"
    assert prepared.labels == ("neg", "pos")
    assert prepared.label_counts == tuple(sum(label == name for _, label in train) for name in ("neg", "pos"))
    texts = "".join(text for text, _ in ROWS)
    counts = prepared.counts
    assert (counts.records, counts.characters, counts.bytes) == (200, len(texts), len(texts.encode()))
    assert (counts.bad_records, counts.bad) == (0, ())
    part = prepared.train_counts
    assert part.examples == len(prepared.train) == len(train)
    assert part.tokens == prepared.train.tokens == sum(len(text) + 2 for text, _ in train)
    assert part.targets == prepared.train.targets == part.tokens - len(train)
    assert part.bytes == sum(len(text.encode()) for text, _ in train)


def test_by_position_the_last_records_are_kept_for_validation(tmp_path: Path):
    file = written(tmp_path / "a.jsonl")
    given = prepare_examples(DataConfig(path=file, split="position", valid_fraction=0.25), CHAR, Form())
    assert (decoded(given, "train"), decoded(given, "valid")) == (ROWS[:150], ROWS[150:])
    few = prepare_examples(DataConfig(path=file, limit=8, valid_fraction=0.25), CHAR, Form())
    assert few.split == "position"
    assert (decoded(few, "train"), decoded(few, "valid")) == (ROWS[:6], ROWS[6:8])


def test_a_validation_file_is_used_whole_up_to_its_limit(tmp_path: Path):
    data = DataConfig(
        path=written(tmp_path / "a.jsonl"),
        valid_path=written(tmp_path / "b.jsonl", ROWS[50:]),
        limit=30,
        valid_limit=4,
    )
    prepared = prepare_examples(data, CHAR, Form())
    assert prepared.split == "files"
    assert (decoded(prepared, "train"), decoded(prepared, "valid")) == (ROWS[:30], ROWS[50:54])


def test_the_tokenizer_is_trained_on_the_training_part_alone_and_then_adapted(tmp_path: Path):
    training = written(tmp_path / "a.jsonl")
    unseen = written(tmp_path / "b.jsonl", [("ξενος", "pos"), ("ουρανος", "neg")])
    prepared = prepare_examples(DataConfig(path=training, valid_path=unseen), CHAR, Form())
    learned = train_tokenizer(CHAR, [text for text, _ in ROWS])
    assert prepared.tokenizer.fingerprint() == Form().adapt(learned).fingerprint()
    again = prepare_examples(DataConfig(path=training, valid_path=unseen), prepared.tokenizer, Form())
    assert again.tokenizer.fingerprint() == prepared.tokenizer.fingerprint()
    assert again.content_hash == prepared.content_hash


@pytest.mark.parametrize(
    ("names", "expected"),
    [(["10", "9", "-1"], ("-1", "9", "10")), (["b", "10", "9"], ("10", "9", "b")), ([True, False], ("False", "True"))],
)
def test_labels_are_sorted_by_number_if_all_are_whole_numbers(
    tmp_path: Path, names: list[Any], expected: tuple[str, ...]
):
    rows = [(f"text {number}", names[number % len(names)]) for number in range(60)]
    file = written(tmp_path / "a.jsonl", rows)
    assert prepare_examples(DataConfig(path=file, valid_path=file), CHAR, Form()).labels == expected


def test_labels_that_are_given_keep_their_order(tmp_path: Path):
    file = written(tmp_path / "a.jsonl")
    prepared = prepare_examples(DataConfig(path=file), CHAR, Form(), labels=["pos", "neg"])
    assert prepared.labels == ("pos", "neg")
    assert prepared.label_counts[0] > prepared.label_counts[1]
    assert sorted(decoded(prepared, "train") + decoded(prepared, "valid")) == sorted(ROWS)


def test_records_without_labels_make_examples_without_them(tmp_path: Path):
    prepared = prepare_examples(DataConfig(path=written(tmp_path / "a.jsonl")), CHAR, Form(labeled=False))
    assert (prepared.labels, prepared.label_counts) == ((), ())
    assert prepared.train.labels is None


@pytest.mark.parametrize(
    ("labels", "missing"),
    [(["a", "c"], "task.labels names 'c', but"), (["c", "b", "d"], "task.labels names 'c', 'd', but")],
)
def test_a_label_that_is_given_has_an_example_to_learn_from(tmp_path: Path, labels: list[str], missing: str):
    file = written(tmp_path / "a.jsonl", [(f"{n}", "ab"[n % 2]) for n in range(40)])
    unseen = written(tmp_path / "b.jsonl", [(f"{n}", "abcd"[n % 4]) for n in range(40)])
    with pytest.raises(RecipeError) as caught:
        prepare_examples(DataConfig(path=file, valid_path=unseen), CHAR, Form(), labels=labels)
    assert caught.value.happened.startswith(missing)
    assert caught.value.expected == "Its classes are 'a', 'b'."
    assert caught.value.advice


def test_a_single_class_is_refused(tmp_path: Path):
    rows = [(f"{n}", "a") for n in range(40)]
    with pytest.raises(DataError, match="a single class, 'a'"):
        prepare_examples(DataConfig(path=written(tmp_path / "a.jsonl", rows)), CHAR, Form())


def test_bad_records_are_counted_with_location_and_reason_every_time(tmp_path: Path):
    file = Path(written(tmp_path / "a.jsonl", ROWS[:40]))
    with open(file, "a") as stream:
        stream.write('{"text": 3, "label": "pos"}\n' + json.dumps({"text": "x" * 90, "label": "pos"}) + "\n")
    unseen = written(tmp_path / "b.jsonl", [*ROWS[:10], ("text", "third")])
    data = DataConfig(path=str(file), valid_path=unseen, allow_bad_records=0.2)
    first, second = (prepare_examples(data, CHAR, Form(most=50)) for _ in range(2))
    assert first.counts == second.counts
    assert (first.counts.records, first.counts.bad_records) == (50, 3)
    places = [(Path(record.file).name, record.line) for record in first.counts.bad]
    assert places == [("a.jsonl", 41), ("a.jsonl", 42), ("b.jsonl", 11)]
    assert "92 ids are more than 50" in first.counts.bad[1].reason
    assert "'third'" in first.counts.bad[2].reason
    assert "'neg', 'pos'" in first.counts.bad[2].reason
    # The same data elsewhere are found in the cache, and the places are where they lie now.
    moved = replace_path(data, file.rename(tmp_path / "moved.jsonl"))
    assert str(prepare_examples(moved, CHAR, Form(most=50)).counts.bad[1]).startswith(f"{tmp_path}/moved.jsonl:42: 92")
    with pytest.raises(DataError, match="2 of 42 records cannot be used"):
        prepare_examples(moved.model_copy(update={"allow_bad_records": 0.03}), CHAR, Form(most=50))


def replace_path(data: DataConfig, file: Path) -> DataConfig:
    return data.model_copy(update={"path": [str(file)]})


def test_too_many_refusals_stop_and_leave_nothing(tmp_path: Path):
    data = DataConfig(path=written(tmp_path / "a.jsonl"))
    with pytest.raises(DataError, match=r"records cannot be used[\s\S]*a.jsonl:\d+: \d+ ids are more than 10"):
        prepare_examples(data, CHAR, Form(most=10))
    assert left_in_cache(tmp_path) == []
    allowed = data.model_copy(update={"allow_bad_records": 1.0})
    with pytest.raises(DataError, match="make no training example"):
        prepare_examples(allowed, CHAR, Form(most=1))


def left_in_cache(tmp_path: Path) -> list[str]:
    return [entry.name for entry in (tmp_path / "cache" / "examples").iterdir() if entry.suffix != ".lock"]


@pytest.mark.parametrize(
    ("rows", "fraction", "message"),
    [
        ([("same", label) for label in "ab" * 30], 0.1, "part is empty"),
        (ROWS[:1], 0.5, "the training part is empty"),
        ([], 0.1, "no usable record"),
        ([(f"{n}", "ab"[n % 2]) for n in range(20)], 1e-9, "the validation part is empty"),
    ],
)
def test_a_part_without_a_record_is_refused(tmp_path: Path, rows: Any, fraction: float, message: str):
    data = DataConfig(path=written(tmp_path / "a.jsonl", rows), valid_fraction=fraction)
    with pytest.raises(DataError, match=message) as caught:
        prepare_examples(data, CHAR, Form())
    assert caught.value.advice


def test_after_a_kill_nothing_is_left_and_the_next_attempt_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    data = DataConfig(path=written(tmp_path / "a.jsonl"))
    finish = PartWriter.finish

    def killed(writer: PartWriter) -> Any:
        finish(writer)
        raise KeyboardInterrupt

    monkeypatch.setattr(PartWriter, "finish", killed)
    with pytest.raises(KeyboardInterrupt):
        prepare_examples(data, CHAR, Form())
    assert left_in_cache(tmp_path) == []
    monkeypatch.setattr(PartWriter, "finish", finish)
    (half,) = (tmp_path / "cache" / "examples").iterdir()  # the lock, under the name of what it guards
    partial = half.with_name(half.name.replace(".lock", ".partial"))  # as a kill -9 leaves it
    partial.mkdir()
    (partial / file_name("train", "ids")).write_bytes(b"half")
    assert len(prepare_examples(data, CHAR, Form()).train)
    assert not partial.exists()


@pytest.mark.parametrize("array", ["ids", "target_mask", "lengths", "labels"])
def test_a_damaged_file_is_refused(tmp_path: Path, array: str):
    data = DataConfig(path=written(tmp_path / "a.jsonl"))
    prepare_examples(data, CHAR, Form())
    (name,) = left_in_cache(tmp_path)
    file = tmp_path / "cache" / "examples" / name / file_name("train", array)
    content = bytearray(file.read_bytes())
    content[7] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match="damaged: it is truncated or altered"):
        prepare_examples(data, CHAR, Form())


def test_prepared_examples_are_reused_and_other_settings_are_encoded_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    data = DataConfig(path=written(tmp_path / "a.jsonl"))
    said: list[str] = []
    first = prepare_examples(data, CHAR, Form(), report=said.append)
    assert said == ["Reading the records", "Training a char tokenizer", "Tokenizing the records"]
    prepare_examples(data, CHAR, Form(most=500))
    prepare_examples(data, CHAR, Form(), labels=["pos", "neg"])
    prepare_examples(data.model_copy(update={"valid_fraction": 0.2}), CHAR, Form())
    assert len(left_in_cache(tmp_path)) == 4
    monkeypatch.setattr(Form, "encode", None)
    said.clear()
    again = prepare_examples(data, CHAR, Form(), report=said.append)
    assert said == ["Reading the records"]
    assert (again.train_counts, again.counts) == (first.train_counts, first.counts)
    assert np.array_equal(again.train.ids, first.train.ids)


def test_records_in_batches_of_any_size_give_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    data = DataConfig(path=written(tmp_path / "a.jsonl"))

    def files(cache: str) -> dict[str, bytes]:
        monkeypatch.setenv("PENNA_CACHE", str(tmp_path / cache))
        prepare_examples(data, CHAR, Form())
        (folder,) = (entry for entry in (tmp_path / cache / "examples").iterdir() if entry.suffix != ".lock")
        return {file.name: file.read_bytes() for file in folder.iterdir()}

    whole = files("one")
    monkeypatch.setattr(encode, "_BATCH_ITEMS", 7)
    assert files("two") == whole


def test_records_that_change_during_preparation_are_refused_and_leave_no_examples(tmp_path: Path):
    file = tmp_path / "a.jsonl"
    data = DataConfig(path=written(file))

    def changing(rows: Sequence[tuple[str, str]]) -> Callable[[str], None]:
        return lambda said: None if said != "Tokenizing the records" else void(written(file, rows))

    for rows in ([*ROWS[:-1], ("changed", "pos")], ROWS[:-1], [*ROWS, ("more", "neg")]):
        with pytest.raises(TextChangedError, match="changed while it was being prepared"):
            prepare_examples(data, CHAR, Form(), report=changing(rows))
        assert left_in_cache(tmp_path) == []
        written(file)


def void(_: object) -> None: ...


def test_evaluation_items_have_their_locations(tmp_path: Path):
    data = DataConfig(path=written(tmp_path / "a.jsonl"), valid_fraction=0.3)
    read = read_evaluation_items(data, Form())
    assert [(item.text, item.label) for item in read.items] == ROWS
    assert read.locations == [f"{tmp_path}/a.jsonl:{line}" for line in range(1, 201)]
    read = read_validation_items(data, Form(), None)
    expected = [number for number, (text, _) in enumerate(ROWS) if held_out(text, 0.3)]
    assert [(item.text, item.label) for item in read.items] == [ROWS[number] for number in expected]
    assert read.locations == [f"{tmp_path}/a.jsonl:{number + 1}" for number in expected]
    apart = data.model_copy(update={"valid_path": [written(tmp_path / "b.jsonl", ROWS[:3])]})
    assert read_validation_items(apart, Form(), None).locations == [f"{tmp_path}/b.jsonl:{line}" for line in (1, 2, 3)]


def test_the_validation_part_of_other_data_is_refused(tmp_path: Path) -> None:
    data = DataConfig(path=written(tmp_path / "a.jsonl"), valid_fraction=0.3)
    learned = prepare_examples(data, CHAR, Form()).content_hash
    assert read_validation_items(data, Form(), learned) == read_validation_items(data, Form(), None)
    written(tmp_path / "a.jsonl", ROWS[1:])
    with pytest.raises(DataError, match=r"a\.jsonl is not the data that the run was trained on"):
        read_validation_items(data, Form(), learned)


def test_sources_and_masks_are_read_back_from_disk(tmp_path: Path):
    for vocab_size in (10, 70_000):
        folder = tmp_path / str(vocab_size)
        folder.mkdir()
        given = [Example([1, 2, vocab_size - 1], [False, False, True], source=[4]), Example([3], source=[5, 6])]
        with PartWriter(folder, "train", vocab_size) as writer:
            writer.write(given[:1], 1, 1)
            writer.write(given[1:], 1, 1)
            with pytest.raises(ValueError, match="outside the vocabulary"):
                writer.write([Example([vocab_size])], 1, 1)
            part = writer.finish()
        write_manifest(folder, Manifest(id_dtype(vocab_size), "t", "c", [], {"train": part}, {}))
        examples = open_examples(folder, "train")
        assert examples.ids.tolist() == [1, 2, vocab_size - 1, 3]
        assert examples.target_mask.tolist() == [0, 0, 1, 0]
        assert examples.source_ids.tolist() == [4, 5, 6]
        assert examples.source_lengths is not None
        assert examples.source_lengths.tolist() == [1, 2]
        assert (examples.targets, examples.tokens, part.source_tokens) == (1, 4, 3)
        with pytest.raises(DataError, match="no part 'valid'"):
            open_examples(folder, "valid")
        write_manifest(folder, Manifest(id_dtype(10), "t", "c", [], {"train": replace(part, examples=3)}, {}))
        with pytest.raises(DataError, match="damaged"):
            open_examples(folder, "train")


AT_ONCE = """
import sys
sys.path.insert(0, sys.argv[2])
from test_data_examples_prepare import CHAR, DataConfig, Form, prepare_examples
sys.stdin.readline()
prepared = prepare_examples(DataConfig(path=sys.argv[1]), CHAR, Form(), report=print)
print(prepared.train_counts)
"""


def test_of_two_processes_one_does_the_work_and_both_get_the_result(tmp_path: Path):
    file = written(tmp_path / "a.jsonl")
    command = [sys.executable, "-c", AT_ONCE, file, str(Path(__file__).parent)]
    pipe = subprocess.PIPE
    both = [subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(2)]
    for process in both:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    lines = [out.splitlines() for out, _ in outputs]
    assert lines[0][-1] == lines[1][-1]
    assert sum(each.count("Tokenizing the records") for each in lines) == 1
