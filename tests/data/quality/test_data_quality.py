"""The data report, compared with brute force."""

import json
import os
import unicodedata
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penna.config.sections import DataConfig, TokenizerConfig
from penna.data.quality.inspect import inspect_text
from penna.data.quality.result import DataReport
from penna.data.sources.records import CHUNK_CHARACTERS
from penna.storage import to_json
from penna.tokenizer.train import train_tokenizer

LETTERS = "ab é가나中文ひカ\u3000\n\t\u00a0😀дب"
TEXTS = st.lists(st.text(alphabet=LETTERS, max_size=12), min_size=1, max_size=40)
real_data = pytest.mark.skipif("PENNA_DATA" not in os.environ, reason="PENNA_DATA names no folder of data sets")


def write_records(file: Path, records: list[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return file


def report_on(folder: Path, texts: list[str], test: list[str] | None = None, **fields: Any) -> DataReport:
    path = write_records(folder / "train.jsonl", [{"text": text} for text in texts])
    if test is not None:
        fields["valid_path"] = str(write_records(folder / "test.jsonl", [{"text": text} for text in test]))
    return inspect_text(DataConfig(path=[str(path)], **fields))


def report_on_text(folder: Path, text: str, **fields: Any) -> DataReport:
    (folder / "text.txt").write_text(text, encoding="utf-8", newline="")
    return inspect_text(DataConfig(path=[str(folder / "text.txt")], **fields))


@settings(max_examples=60, deadline=None)
@given(TEXTS)
def test_counts_duplicates_and_scripts_agree_with_brute_force(texts: list[str]) -> None:
    with TemporaryDirectory() as folder:
        seen = report_on(Path(folder), texts)
    used = [text for text in texts if text.strip()]
    whole = "".join(used)
    assert seen.amount.documents == len(used)
    assert seen.amount.empty == len(texts) - len(used)
    assert seen.amount.characters == len(whole)
    assert seen.amount.bytes == len(whole.encode())
    assert seen.amount.words == sum(len(text.split()) for text in used)
    assert seen.amount.distinct_characters == len(set(whole))
    assert seen.duplicates.repeats == len(used) - len(set(used))
    counts = Counter(used)
    assert [repeated.count for repeated in seen.duplicates.most] == sorted(
        (count for count in counts.values() if count > 1), reverse=True
    )[:5]
    assert all(counts[repeated.text] == repeated.count for repeated in seen.duplicates.most)
    first_words = Counter(unicodedata.name(letter).split()[0] for letter in whole if letter.isalpha())
    named = {"CJK": "Han"}
    expected = {named.get(word, word.title()): count for word, count in first_words.items()}
    assert {script: round(share * seen.scripts.letters) for script, share in seen.scripts.shares.items()} == expected


def shares_by_hand(train: list[str], test: list[str], by_words: bool) -> tuple[int, int, int, int]:
    def runs(text: str) -> list[tuple[str, ...]]:
        units = text.split() if by_words else [letter for letter in text if not letter.isspace()]
        return [tuple(units[place : place + 13]) for place in range(len(units) - 12)]

    known = {run for text in train for run in runs(text)}
    tests = [found for text in test if (found := runs(text))]
    hits = [sum(run in known for run in found) for found in tests]
    return len(tests), sum(hit > 0 for hit in hits), sum(map(len, tests)), sum(hits)


PROSE = st.lists(st.lists(st.sampled_from(["a", "bc", "cb", "b"]), max_size=20).map(" ".join), min_size=1, max_size=8)
CHINESE = st.lists(st.text(alphabet="中文 \n", max_size=24), min_size=1, max_size=8)


@settings(max_examples=80, deadline=None)
@given(st.one_of(st.tuples(PROSE, PROSE), st.tuples(CHINESE, CHINESE)))
def test_overlap_agrees_with_brute_force(texts: tuple[list[str], list[str]]) -> None:
    train, test = texts
    with TemporaryDirectory() as folder:
        overlap = report_on(Path(folder), train, test).overlap
    assert overlap is not None
    by_words = overlap.unit == "words"
    if any(letter.isalpha() for text in test for letter in text):
        assert by_words == ("中" not in "".join(test) and "文" not in "".join(test))
    figures = (overlap.comparable, overlap.sharing, overlap.ngrams, overlap.ngrams_seen)
    assert figures == shares_by_hand(train, test, by_words)
    blank = any(not text.strip() for text in train)
    filled = {text for text in train if text.strip()}
    assert overlap.exact_empty == sum(not text.strip() for text in test if blank)
    assert overlap.exact == overlap.exact_empty + sum(text in filled for text in test)
    assert overlap.documents == len(test)


def test_hashes_with_the_same_prefix_are_kept_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penna.data.quality.overlap._PREFILTER_BITS", 1)
    train, test = ([f"{side}{n} " * 15 + f"{side} {n} " * 10 for n in range(20)] for side in ("train", "test"))
    overlap = report_on(tmp_path, train, [*test, train[0]]).overlap
    assert overlap is not None
    assert (overlap.comparable, overlap.sharing) == (21, 1)


LABELED = st.lists(st.tuples(st.sampled_from("xyz"), st.sampled_from([0, 1, "2"])), min_size=1, max_size=20)


@settings(max_examples=60, deadline=None)
@given(LABELED, LABELED)
def test_labels_that_contradict_each_other_are_found(
    train: list[tuple[str, int | str]], test: list[tuple[str, int | str]]
) -> None:
    with TemporaryDirectory() as folder:
        paths = [
            str(write_records(Path(folder) / name, [{"text": text, "label": label} for text, label in part]))
            for name, part in (("train.jsonl", train), ("test.jsonl", test))
        ]
        seen = inspect_text(DataConfig(path=paths[:1], valid_path=paths[1:]))
    assert seen.labels is not None and seen.overlap is not None
    assert seen.labels.counts == Counter(str(label) for _, label in train)
    several = {text for text, _ in train if len({str(label) for other, label in train if other == text}) > 1}
    assert seen.labels.contradictory_texts == len(several)
    assert seen.labels.contradictory_documents == sum(text in several for text, _ in train)
    texts, pairs = {text for text, _ in train}, {(text, str(label)) for text, label in train}
    assert seen.overlap.other_label == sum(text in texts and (text, str(label)) not in pairs for text, label in test)


def test_records_without_a_label_take_no_part_in_contradictions(tmp_path: Path) -> None:
    records = [{"text": "a", "label": 1}, {"text": "a"}, {"text": "a"}]
    seen = inspect_text(DataConfig(path=[str(write_records(tmp_path / "mixed.jsonl", records))]))
    assert seen.amount.shapes == {"text": 2, "labeled": 1}
    assert seen.labels is not None and seen.labels.contradictory_texts == 0


def test_bad_records_are_counted_and_the_first_are_named(tmp_path: Path) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text('{"text": "fine"}\nno json\n{"text": 3}\n' + "[]\n" * 9, encoding="utf-8")
    amount = inspect_text(DataConfig(path=[str(file)])).amount
    assert (amount.documents, amount.bad) == (1, 11)
    assert [example.split(": ")[0] for example in amount.bad_examples] == [f"{file}:{line}" for line in range(2, 7)]


def test_every_kind_of_character_issue_is_found_at_its_line(tmp_path: Path) -> None:
    lines = [
        "plain", "daddyâ€™s tie", "lost \ufffd bytes", "a bell \x07 rings", "joined\ufeffhere", "a\u00a0b\u3000c",
        "cafe\u0301", "“quoted” café, 中文、한국어", "line\u2028end",
    ]  # fmt: skip
    seen = report_on_text(tmp_path, "\n".join(lines), document="line")
    found = {trouble.kind: trouble for trouble in seen.character_issues}
    places = {kind: [example.location for example in trouble.examples] for kind, trouble in found.items()}
    assert places == {
        kind: [f"{tmp_path / 'text.txt'}:{line}" for line in numbers]
        for kind, numbers in {
            "mojibake": [2], "replacement": [3], "control": [4], "byte order mark": [5], "white space": [6, 9],
            "not NFC": [7],
        }.items()
    }  # fmt: skip
    assert found["mojibake"].examples[0].repaired == "daddy’s tie"
    assert (found["mojibake"].times, found["mojibake"].repairable) == (1, 1)
    assert (found["white space"].times, found["white space"].documents) == (3, 2)
    assert found["not NFC"].share == pytest.approx(1 / len(lines))


def test_the_location_in_a_text_file_is_its_line(tmp_path: Path) -> None:
    text = "some words\n" * (2 * CHUNK_CHARACTERS // 11) + "lost \ufffd here\n" + "more\n" * 200_000 + "\ufffd"
    seen = report_on_text(tmp_path, text)
    assert seen.amount.documents == 1
    (trouble,) = seen.character_issues
    assert trouble.examples[0].location == f"{tmp_path / 'text.txt'}:{2 * CHUNK_CHARACTERS // 11 + 1}"
    assert (trouble.documents, trouble.times) == (1, 2)
    assert trouble.examples[0].text.startswith("lost \ufffd here\nmore")


def test_a_text_file_of_many_chunks_is_one_document(tmp_path: Path) -> None:
    word = "가나다 라마바\n"
    text = word * (3 * CHUNK_CHARACTERS // len(word))
    for name, end in (("a", "end"), ("b", "end"), ("c", "other")):
        (tmp_path / f"{name}.txt").write_text(text + end, encoding="utf-8")
    (tmp_path / "empty.txt").write_text(" \n", encoding="utf-8")
    config = DataConfig(path=[str(tmp_path)], valid_path=str(tmp_path / "b.txt"))
    seen = inspect_text(config)
    assert (seen.amount.documents, seen.amount.empty) == (3, 1)
    assert [seen.lengths[0].minimum, seen.lengths[0].maximum] == [len(text) + 3, len(text) + 5]
    assert seen.amount.words == 3 * len((text + "end").split())
    (most,) = seen.duplicates.most
    assert (seen.duplicates.repeats, most.count) == (1, 2)
    assert text.startswith(most.text) and most.location == f"{tmp_path / 'a.txt'}:1"
    assert seen.overlap is not None
    assert (seen.overlap.documents, seen.overlap.exact) == (1, 1)
    assert seen.overlap.ngrams == seen.overlap.ngrams_seen == len((text + "end").split()) - 12
    one = inspect_text(config.model_copy(update={"limit": 1}))
    assert one.amount.documents == 1


def test_ngrams_continue_across_chunks(tmp_path: Path) -> None:
    words = [f"{number:06}" for number in range(CHUNK_CHARACTERS // 4)]  # each once, in four pieces
    (tmp_path / "train.txt").write_text(" ".join(words), encoding="utf-8")
    (tmp_path / "test.txt").write_text("x " + " ".join(words), encoding="utf-8")  # cut elsewhere
    seen = inspect_text(DataConfig(path=str(tmp_path / "train.txt"), valid_path=str(tmp_path / "test.txt")))
    assert seen.overlap is not None
    assert seen.overlap.ngrams - seen.overlap.ngrams_seen == 1
    assert seen.overlap.ngrams_seen == len(words) - 12


def test_messages_give_turns_and_roles_and_a_wrong_order_is_a_bad_record(tmp_path: Path) -> None:
    def turns(*roles: str) -> dict[str, Any]:
        return {"messages": [{"role": role, "content": f"I am {role}"} for role in roles]}

    dialogues = [turns("user", "assistant")] * 2 + [
        turns("system", "user", "assistant", "user"),
        turns("assistant", "user"),
    ]
    seen = inspect_text(DataConfig(path=[str(write_records(tmp_path / "chat.jsonl", dialogues))]))
    assert seen.amount.shapes == {"messages": 3} and seen.amount.bad == 1
    assert seen.dialogues is not None
    assert seen.dialogues.roles == {"user": 4, "assistant": 3, "system": 1}
    assert (seen.dialogues.turns.minimum, seen.dialogues.turns.maximum) == (2, 4)
    assert seen.dialogues.characters.total == 4 * 9 + 3 * 14 + 11
    assert seen.dialogues.ending_unanswered == 1


def test_blocks_of_lines_are_read_as_dialogues_and_single_lines_are_not(tmp_path: Path) -> None:
    seen = report_on_text(tmp_path, "hello\nhi\n\nhow are you\nfine\nand you\n\n", document="block")
    assert seen.dialogues is not None and seen.dialogues.source == "lines"
    assert (seen.dialogues.turns.total, seen.dialogues.ending_unanswered) == (5, 1)
    assert report_on_text(tmp_path, "one paragraph\n\nanother\n\nthird\n", document="block").dialogues is None


def test_completions_are_measured_in_both_parts(tmp_path: Path) -> None:
    pairs = [{"article": "long " * 50, "summary": "short"}, {"article": "x" * 10, "summary": "y" * 7}]
    path = str(write_records(tmp_path / "pairs.jsonl", pairs))
    tokenizer = train_tokenizer(TokenizerConfig(kind="char"), ["long short xy \n"])
    completions = inspect_text(DataConfig(path=[path]), tokenizer, "chars").completions
    assert completions is not None
    for lengths in (completions.prompts, completions.completions):
        assert [(part.unit) for part in lengths] == ["characters", "tokens"]
        assert asdict(lengths[0]) == {**asdict(lengths[1]), "unit": "characters"}
    assert (completions.prompts[0].maximum, completions.completions[0].maximum) == (250, 7)


def test_tokenization_statistics_agree_with_encoding_each_text(tmp_path: Path) -> None:
    texts = ["한국어 문장 하나", "다른 문장", "문장"]
    tokenizer = train_tokenizer(TokenizerConfig(vocab_size=300), texts)
    path = str(write_records(tmp_path / "ko.jsonl", [{"text": text} for text in texts]))
    seen = inspect_text(DataConfig(path=[path]), tokenizer, "mine")
    encoded = [tokenizer.encode(text) for text in texts]
    tokens = sum(map(len, encoded))
    assert seen.tokenization is not None
    assert (seen.tokenization.tokenizer, seen.tokenization.tokens, seen.tokenization.vocab_size) == (
        "mine",
        tokens,
        tokenizer.vocab_size,
    )
    assert seen.tokenization.tokens_per_word == pytest.approx(tokens / 6)
    assert seen.tokenization.tokens_per_character == pytest.approx(tokens / sum(map(len, texts)))
    assert seen.tokenization.bytes_per_token == pytest.approx(sum(len(text.encode()) for text in texts) / tokens)
    assert seen.tokenization.used == len({index for ids in encoded for index in ids})
    assert seen.lengths[1].unit == "tokens"
    assert (seen.lengths[1].minimum, seen.lengths[1].maximum) == (min(map(len, encoded)), max(map(len, encoded)))


def test_languages_are_guessed_on_a_sample_of_documents(tmp_path: Path) -> None:
    english, korean = (
        "The cat sat on the mat and looked at the moon.",
        "고양이가 매트 위에 앉아서 달을 바라보고 있었다.",
    )
    seen = report_on(tmp_path, [english, korean, english, "short"])
    assert seen.languages.documents == 3
    assert seen.languages.shares == pytest.approx({"en": 2 / 3, "ko": 1 / 3})


def test_the_report_is_deterministic_and_has_a_json_form(tmp_path: Path) -> None:
    texts = [f"document {number} of several hundred" for number in range(900)]
    first, second = report_on(tmp_path, texts), report_on(tmp_path, texts)
    assert first == second
    assert json.loads(json.dumps(to_json(first)))["languages"]["documents"] == 500


def test_blank_documents_alone_are_no_error(tmp_path: Path) -> None:
    seen = report_on(tmp_path, ["", " \n"])
    assert (seen.amount.documents, seen.amount.empty) == (0, 2)
    assert [finding.topic for finding in seen.findings] == ["no text"]


def test_a_long_text_reports_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penna.data.quality.inspect._REPORT_EVERY", 1 << 19)
    (tmp_path / "long.txt").write_text("word " * 250_000, encoding="utf-8")
    said: list[str] = []
    inspect_text(DataConfig(path=str(tmp_path / "long.txt")), report=said.append)
    assert said and all(line.startswith("Read 1 document, ") for line in said)


@real_data
@pytest.mark.slow
def test_nsmc_has_the_documented_duplicates() -> None:
    folder = Path(os.environ["PENNA_DATA"]) / "nsmc"
    seen = inspect_text(DataConfig(path=str(folder / "train.tsv.gz"), valid_path=str(folder / "test.tsv.gz")))
    assert seen.labels is not None and seen.overlap is not None
    assert seen.amount.documents + seen.amount.empty == 150_000
    assert seen.amount.empty == 5 and seen.amount.bad == 0
    assert (seen.overlap.documents, seen.overlap.exact, seen.overlap.exact_empty) == (50_000, 1_571, 3)
    assert sum(seen.labels.counts.values()) == 149_995
    assert next(iter(seen.scripts.shares)) == "Hangul" and seen.languages.shares["ko"] > 0.95


@real_data
@pytest.mark.parametrize(("part", "stories"), [("train", 58), ("test", 1)])
def test_tinystories_has_the_documented_mojibake(part: str, stories: int) -> None:
    seen = inspect_text(DataConfig(path=str(Path(os.environ["PENNA_DATA"]) / "tinystories" / f"{part}.jsonl")))
    (mojibake,) = [trouble for trouble in seen.character_issues if trouble.kind == "mojibake"]
    assert (mojibake.documents, mojibake.repairable) == (stories, stories)
