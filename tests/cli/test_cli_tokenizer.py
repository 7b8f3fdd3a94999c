"""``penna tokenizer train`` and ``penna tokenizer inspect``."""

import json
import os
from pathlib import Path

import pytest
from rich.cells import cell_len

from penna.cli.main import run
from penna.cli.tokenizer import short_names
from penna.tokenizer.tokenizer import Tokenizer

STORY = (
    "The cat sat on the mat, and the dog sat by the cat.\n" * 40 + "고양이가 매트 위에 앉아 있다. 猫坐在垫子上。\n" * 20
)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    file = tmp_path / "story.txt"
    file.write_text(STORY, encoding="utf-8")
    return file


@pytest.fixture
def words(tmp_path: Path) -> Path:
    folder = tmp_path / "words"
    folder.mkdir()
    letters = sorted({letter for letter in STORY.lower() if letter.strip()})
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[SEP]", "the", *letters[:-3]]), encoding="utf-8")
    return folder


def penna(*words: str | Path) -> int:
    return run([str(word) for word in words])


@pytest.mark.parametrize(("kind", "words"), [("bpe", "byte-level BPE"), ("char", "characters"), ("unigram", "unigram")])
def test_the_trained_tokenizer_is_written_and_described(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, words: str
) -> None:
    output = tmp_path / "mine"
    assert penna("tokenizer", "train", text, "--kind", kind, "--vocab-size", "300", "--output", output) == 0
    tokenizer = Tokenizer.load(output)
    tokens = len(tokenizer.encode(STORY))
    printed = capsys.readouterr().out
    assert f"{output}: {words}" in printed
    assert f"{tokenizer.vocab_size:,}" in printed
    assert f"{len(STORY.encode()) / tokens:.2f}  {tokens:,} tokens for the text" in printed
    assert f"{len(STORY):,}  characters, {len(STORY.encode()):,} bytes, 1 document\n" in printed
    assert f"penna tokenizer inspect {output} --text {text}" in printed


def test_a_small_text_gives_a_smaller_vocabulary_with_a_note(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert penna("tokenizer", "train", text, "--vocab-size", "5000", "--output", tmp_path / "mine") == 0
    size = Tokenizer.load(tmp_path / "mine").vocab_size
    said = capsys.readouterr()
    assert f"The text is too small for 5,000 tokens: the vocabulary has {size}." in said.err
    assert f"{size}  of 5,000 requested: the text has no more" in said.out


def test_records_are_read_with_the_data_fields(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "records.jsonl"
    file.write_text("\n".join(json.dumps({"body": f"only {n} bodies"}) for n in range(50)), encoding="utf-8")
    learn = ("tokenizer", "train", file, "--kind", "char", "--output", tmp_path / "mine")
    assert penna(*learn, "--data.text-column", "body", "--data.limit", "7") == 0
    assert "7 documents" in capsys.readouterr().out
    assert penna(*learn, "--data.text-colum", "body") == 2
    assert "text_column" in capsys.readouterr().err


def test_only_tokenizers_are_overwritten(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "mine"
    learn = ("tokenizer", "train", text, "--vocab-size", "280", "--output", output)
    assert penna(*learn) == 0
    assert penna(*learn, "--kind", "char") == 0
    assert Tokenizer.load(output).kind == "characters"
    (output / "model.safetensors").touch()
    capsys.readouterr()
    assert penna(*learn) == 2
    told = capsys.readouterr().err
    assert "contains other files: model.safetensors" in told and "--output" in told
    assert Tokenizer.load(output).kind == "characters"
    assert penna("tokenizer", "train", text, "--output", text) == 2
    assert "is a file" in capsys.readouterr().err


def test_the_tokenizer_of_a_run_is_not_overwritten(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "run" / "tokenizer"
    assert penna("tokenizer", "train", text, "--vocab-size", "280", "--output", output) == 0
    (tmp_path / "run" / "run.json").write_text("{}")
    assert penna("tokenizer", "train", text, "--vocab-size", "290", "--output", output) == 2
    assert "is the tokenizer of the run run" in capsys.readouterr().err
    assert Tokenizer.load(tmp_path / "run").vocab_size <= 280


@pytest.mark.parametrize("paths", [["nowhere.txt"], []])
def test_a_missing_text_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], paths: list[str]) -> None:
    assert penna("tokenizer", "train", *paths, "--output", tmp_path / "mine") == 2
    assert "penna: " in capsys.readouterr().err
    assert not (tmp_path / "mine").exists()


@pytest.fixture
def learned(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert penna("tokenizer", "train", text, "--vocab-size", "300", "--output", tmp_path / "learned") == 0
    capsys.readouterr()
    return tmp_path / "learned"


def test_tokenizers_are_compared_side_by_side_in_80_columns(
    text: Path, learned: Path, words: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert penna("tokenizer", "inspect", learned, words, "--text", text) == 0
    printed = capsys.readouterr().out
    rows = {line.strip().split("  ")[0]: line.split() for line in printed.splitlines() if line.strip()}
    tokens = [len(Tokenizer.load(folder).encode(STORY)) for folder in (learned, words)]
    assert rows["tokens"][-2:] == [f"{count:,}" for count in tokens]
    assert rows["bytes per token"][-2:] == [f"{len(STORY.encode()) / count:.2f}" for count in tokens]
    assert rows["kind"][-3:] == ["byte-level", "BPE", "WordPiece"]
    assert rows["lossless"][-2:] == ["yes", "no"]
    assert rows["decodes to the text"][-2:] == ["exactly", "changed"]
    assert "The first difference:" in printed
    assert "the│" in printed and "[UNK]" in printed
    shown = [line for line in printed.splitlines() if str(text) not in line]
    assert max(map(cell_len, shown)) <= 80


def test_json_contains_the_printed_metrics(
    text: Path, learned: Path, words: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert penna("tokenizer", "inspect", learned, words, "--text", text, "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert content["text_size"] == {
        "characters": len(STORY), "words": len(STORY.split()), "bytes": len(STORY.encode()),
    }  # fmt: skip
    assert [found["name"] for found in content["tokenizers"]] == [str(learned), str(words)]
    first, second = (found["metrics"] for found in content["tokenizers"])
    assert first["tokens"] == len(Tokenizer.load(learned).encode(STORY))
    assert first["exact"] and first["unknown"] == 0
    assert not second["exact"] and second["unknown"] > 0
    assert second["sample"][0] == "the"


def test_without_a_text_the_structure_is_shown(learned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert penna("tokenizer", "inspect", learned) == 0
    printed = capsys.readouterr().out
    assert "byte-level BPE" in printed and "the longest tokens" in printed and "--text FILE" in printed
    assert penna("tokenizer", "inspect", learned, "--json") == 0
    assert json.loads(capsys.readouterr().out)["text_size"] is None


def test_an_invalid_tokenizer_is_refused(tmp_path: Path, text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for target, words in ((tmp_path / "nowhere", "There is no file"), (text, "has no [UNK]")):
        assert penna("tokenizer", "inspect", target) == 2
        assert words in capsys.readouterr().err


def test_names_are_as_short_as_possible() -> None:
    paths = ["runs/a/tokenizer", "runs/b/tokenizer", "x/vocab.txt", "gpt2", "deep/gpt2", "한" * 20]
    assert short_names(paths) == ["a/tokenizer", "b/tokenizer", "x/vocab.txt", "gpt2", "deep/gpt2", "…" + "한" * 8]
    assert all(cell_len(name) <= 18 for name in short_names(paths))


def test_korean_and_chinese_tables_are_aligned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if "PENNA_DATA" not in os.environ:
        pytest.skip("PENNA_DATA is not set")
    data = Path(os.environ["PENNA_DATA"])
    monkeypatch.setenv("COLUMNS", "80")
    for source in ("korean-text/valid.jsonl", "zh-text/valid.jsonl", "human-text/ptb.valid.txt"):
        targets = [data / "bert-chinese-vocab", data / "gpt2-tokenizer"]
        assert penna("tokenizer", "inspect", *targets, "--text", data / source, "--data.limit", "20") == 0
        lines = [line for line in capsys.readouterr().out.splitlines() if str(data) not in line]
        assert max(map(cell_len, lines)) <= 80
        assert any("bert-chinese-vocab" in line and "gpt2-tokenizer" in line for line in lines)
