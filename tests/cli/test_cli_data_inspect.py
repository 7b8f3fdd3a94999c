"""``penna data inspect``: its report, JSON, plot and errors."""

import io
import json
import unicodedata
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest

from penna.api.data import inspect_data
from penna.cli.main import run
from penna.cli.parser import UsageError
from penna.config.sections import TokenizerConfig
from penna.errors import DataError, RecipeError, TokenizerError
from penna.storage import to_json
from penna.tokenizer.train import train_tokenizer

KOREAN = "한국어로 쓴 아주 긴 문장이 여기에 있고 그 뒤에 또 다른 말이 이어진다. "
CHINESE = "这是一个很长的中文句子，后面还有别的话。"


def inspect(*words: str) -> int:
    return run(["data", "inspect", *words, "--debug"])


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Labelled reviews to train on and to test with."""
    for name, count in (("train", 60), ("test", 12)):
        rows = [f"{i}\t{KOREAN * (i % 9 + 1)}{CHINESE if i % 7 else ''}{i % 40}\t{i % 2}" for i in range(count)]
        rows[3] = "3\t\t1"
        text = "id\tdocument\tlabel\n" + "\n".join(rows) + "\n"
        (tmp_path / f"{name}.tsv").write_text(text, encoding="utf-8")
    return tmp_path


def cells(line: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in line)


def test_all_sections_fit_80_columns(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train_tokenizer(TokenizerConfig(kind="char"), [KOREAN, CHINESE, "0123456789"]).save(corpus / "chars")
    code = inspect(
        str(corpus / "train.tsv"), "--test", str(corpus / "test.tsv"), "--tokenizer", str(corpus / "chars"),
        "--figure", str(corpus / "figures" / "lengths.svg"),
    )  # fmt: skip
    assert code == 0
    printed = capsys.readouterr()
    for title in (
        "Lengths", "Documents by length in tokens", "Scripts and languages", "Damaged and unusual characters",
        "Exact duplicates", "Overlap of test text and training text", "Labels", "What this means for training",
    ):  # fmt: skip
        assert f"\n{title}\n" in printed.out
    lines = printed.out.splitlines()
    assert all(cells(line) <= 80 for line in lines if "/" not in line)
    assert all(line == line.rstrip() for line in lines)
    figures = [line for line in lines if line.startswith(("  documents   ", "  characters   ", "  words   "))]
    assert len({line.index(line.split()[1]) + len(line.split()[1]) for line in figures}) == 1  # set right
    assert "Read 12 test documents." in printed.err and "Wrote " in printed.err
    ElementTree.parse(corpus / "figures" / "lengths.svg")


def test_the_first_records_are_printed_as_training_reads_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "reviews.tsv"
    file.write_text("text\tlabel\n좋은 영화\tgood\nno label\na dull one\tbad\n那部电影\tgood\n", encoding="utf-8")
    assert inspect(str(file), "--records", "3") == 0
    beginning = capsys.readouterr().out.split("\n\n")[0].strip().splitlines()[1:]
    assert [line.strip() for line in beginning] == [
        f"{file}:2: with a label", "text: 좋은 영화", "label: good",
        f"{file}:3: cannot be used: 1 column instead of 2",
        f"{file}:4: with a label", "text: a dull one", "label: bad",
    ]  # fmt: skip
    assert inspect(str(file), "--records", "3", "--json") == 0
    told = json.loads(capsys.readouterr().out)["records"]
    assert [record["location"] for record in told] == [f"{file}:{line}" for line in (2, 3, 4)]
    assert dict(told[2]["parts"]) == {"text": "a dull one", "label": "bad"}
    with pytest.raises(UsageError, match=r"--records must be at least 1 \(got 0\)"):
        inspect(str(file), "--records", "0")


def test_json_is_the_result_of_the_api(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train, test = str(corpus / "train.tsv"), str(corpus / "test.tsv")
    assert inspect(train, "--test", test, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    seen = inspect_data([train], test=[test])
    assert printed == json.loads(json.dumps(to_json(seen)))
    assert printed["amount"]["documents"] == 59 and printed["overlap"]["documents"] == 12
    assert printed["overlap"]["exact"] == 12 and printed["overlap"]["exact_empty"] == 1


def test_fields_of_the_section_data_apply(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "talk.txt").write_text("你好\n你好吗\n\n再见\n再见了\n\n", encoding="utf-8")
    assert inspect(str(tmp_path / "talk.txt"), "--data.document", "block", "--data.limit", "1", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["amount"]["documents"] == 1 and printed["dialogues"]["turns"]["total"] == 2
    with pytest.raises(RecipeError, match="document"):
        inspect(str(tmp_path / "talk.txt"), "--data.document", "page")


def test_valid_path_is_also_a_test_text(corpus: Path) -> None:
    seen = inspect_data([str(corpus / "train.tsv")], {"data.valid_path": [str(corpus / "test.tsv")]})
    assert seen.overlap is not None and seen.overlap.exact == 12


def test_standard_input_can_be_inspected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Stream(io.BytesIO):
        def isatty(self) -> bool:
            return False

    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=Stream(b'{"text": "one two"}\n{"text": "three"}\n')))
    assert inspect("-", "--json") == 0
    assert json.loads(capsys.readouterr().out)["amount"]["words"] == 3


def test_a_run_can_be_named_for_its_tokenizer(corpus: Path) -> None:
    train_tokenizer(TokenizerConfig(kind="char"), [KOREAN]).save(corpus / "runs" / "mine" / "tokenizer")
    seen = inspect_data([str(corpus / "train.tsv")], tokenizer="mine", runs_dir=corpus / "runs")
    assert seen.tokenization is not None and seen.tokenization.tokenizer == "mine"
    with pytest.raises(TokenizerError, match="yours"):
        inspect_data([str(corpus / "train.tsv")], tokenizer="yours", runs_dir=corpus / "runs")


@pytest.mark.parametrize("name", ["lengths.pdf", "lengths"])
def test_an_unknown_plot_format_is_refused_before_anything_is_read(corpus: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"must end with \.svg or \.png"):
        inspect_data([str(corpus / "missing.tsv")], figure=corpus / name)


def test_a_single_document_can_be_plotted(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("just this", encoding="utf-8")
    inspect_data([str(tmp_path / "one.txt")], figure=tmp_path / "one.png")
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no file"):
        inspect(str(tmp_path / "nothing.txt"))


def test_a_text_without_documents_is_reported_without_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "blank.txt").write_text("\n\n", encoding="utf-8")
    assert inspect(str(tmp_path / "blank.txt")) == 0
    assert "The data set contains no text." in capsys.readouterr().out


def test_long_chinese_texts_are_truncated_to_fit_beside_their_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [json.dumps({"text": CHINESE * 4})] * 3
    (tmp_path / "poems.jsonl").write_text("\n".join(rows), encoding="utf-8")
    assert inspect(str(tmp_path / "poems.jsonl")) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.endswith("poems.jsonl:1")]
    times, text, _ = line.split()
    assert times == "3" and text == (CHINESE * 4)[:19] + "…"


def test_examples_are_printed_without_escape_sequences_and_markup(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text("red \x1b[31m [bold]text[/bold]\n" * 3, encoding="utf-8")
    assert inspect(str(tmp_path / "a.txt"), "--data.document", "line") == 0
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "red \\x1b[31m [bold]text[/bold]" in printed
