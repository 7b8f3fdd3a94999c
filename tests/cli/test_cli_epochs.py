"""``penna epochs``: the table and JSON of one or several runs, and the table at the end of training."""

import io
import json
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from penna.cli.console import Page
from penna.cli.epochs import print_epochs
from penna.cli.main import run
from penna.errors import RunError
from penna.report.epochs import EpochMetrics, MeanMetrics, epoch_metrics
from penna.runs.folder import RunFolder
from penna.storage import to_json

TEXT = "To be, or not to be, that is the question:\nWhether 'tis nobler in the mind to suffer\n" * 30


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """runs/ with half, two (epochs and a half) and eight; what training printed stands in NAME.txt."""
    place = tmp_path_factory.mktemp("epochs")
    (place / "text.txt").write_text(TEXT, encoding="utf-8")
    for name, epochs, batch in (("half", "0.5", 8), ("two", "2.5", 8), ("eight", "8", 64)):
        options = (
            f"train {place}/text.txt --name {name} --runs-dir {place} --tokenizer.kind char --model.n-layer 1 "
            f"--model.n_head 2 --model.n-embd=16 --model.block-size 32 --train.epochs {epochs} --train.batch-size {batch} "
            "--train.evaluate-every epoch --train.threads 1 --train.sample-tokens 0 --train.log_every 5 "
            "--train.compile off --train.matmul blas --train.device cpu"
        )
        with redirect_stdout(io.StringIO()) as printed:
            assert run(options.split()) == 0
        (place / f"{name}.txt").write_text(printed.getvalue(), encoding="utf-8")
    return place


def epochs(*words: str) -> None:
    assert run(["epochs", *words, "--debug"]) == 0


def lines(capsys: pytest.CaptureFixture[str], *words: str) -> list[list[str]]:
    capsys.readouterr()
    epochs(*words)
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def row(number: str, epoch: EpochMetrics) -> list[str]:
    assert epoch.train.perplexity is not None
    assert epoch.train.accuracy is not None
    assert epoch.valid is not None
    assert epoch.valid.accuracy is not None
    return [
        *number.split(), f"{epoch.train.loss:.4f}", f"{epoch.train.perplexity:.2f}", f"{epoch.train.accuracy:.2%}",
        f"{epoch.valid.loss:.4f}", f"{epoch.valid.accuracy:.2%}", f"{epoch.minutes:.2f}",
    ]  # fmt: skip


def test_each_epoch_has_a_row_with_its_metrics(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two, three = epoch_metrics(RunFolder(runs / "two").metrics())
    assert lines(capsys, "two", "--runs-dir", str(runs)) == [
        ["train", "train", "train", "valid", "valid"],
        ["epoch", "loss", "ppl", "acc", "loss", "acc", "minutes"],
        row("1", one),
        row("2", two),
        row(f"3 ({three.share:.0%})", three),
        ["(…):", "the", "share", "of", "the", "epoch", "that", "was", "trained."],
    ]


def test_several_runs_share_one_table(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = lines(capsys, str(runs / "two"), str(runs / "eight"))
    assert [line[0] for line in found[1:]] == [
        "run", "two", "2", "3", "eight", *map(str, range(2, 9)), "(…):",
    ]  # fmt: skip
    of_eight = epoch_metrics(RunFolder(runs / "eight").metrics())
    assert found[5] == ["eight", *row("1", of_eight[0])]
    assert found[12] == row("8", of_eight[7])


def test_json_contains_the_metrics_of_every_run(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    epochs(str(runs / "half"), str(runs / "two"), "--json")
    told: Any = json.loads(capsys.readouterr().out)
    assert [each["run"] for each in told] == ["half", "two"]
    assert told[1]["epochs"] == [to_json(epoch) for epoch in epoch_metrics(RunFolder(runs / "two").metrics())]


def test_runs_of_the_same_name_are_distinguished_by_their_folders(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "half").mkdir()
    for file in ("recipe.toml", "metrics.jsonl"):
        (tmp_path / "half" / file).write_bytes((runs / "half" / file).read_bytes())
    found = lines(capsys, str(runs / "half"), str(tmp_path / "half"))
    assert [line[0] for line in found[2:4]] == ["half", str(tmp_path / "half")]


def test_logs_of_an_older_penna_are_marked(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old/recipe.toml").write_bytes((runs / "two/recipe.toml").read_bytes())
    rows = [{k: v for k, v in row.items() if k != "due"} for row in RunFolder(runs / "two").metrics()]
    (tmp_path / "old/metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    exact, found = (lines(capsys, str(folder)) for folder in (runs / "two", tmp_path / "old"))
    assert found[2] == [*exact[2][:1], *(f"≈{cell}" for cell in exact[2][1:4]), *exact[2][4:]]
    assert found[6][:7] == ["≈:", "some", "rows", "of", "the", "log", "are"]


def test_a_run_without_metrics_is_refused(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new/recipe.toml").write_bytes((runs / "two/recipe.toml").read_bytes())
    with pytest.raises(RunError, match="has no metrics yet"):
        epochs(str(tmp_path / "new"))


@pytest.mark.parametrize("columns", ["40", "80", "200"])
def test_no_metric_is_truncated_on_a_narrow_page(
    columns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    train = MeanMetrics(2.1234, 0.9012, 1.0, 0.3456, 5.6789, 0.2, None)
    valid = MeanMetrics(2.2345, 0.8765, 1.0, 0.4, 6.0, 0.2, 0.8642)
    figures = EpochMetrics(1, 1.0, 10, 99, 1234.5, train, valid, True)
    unseen = EpochMetrics(2, 0.25, 10, 99, 1.0, train, None, True)
    print_epochs(Page(), {"나의-아주-긴-이름의-분류-실험-하나": [figures, unseen], "b": [figures]})
    printed = capsys.readouterr().out
    assert "…" not in printed.replace("(…)", "")
    found = [line.split() for line in printed.splitlines()]
    assert found[1] == ["run", "epoch", "loss", "label", "LM", "acc", "loss", "acc", "macro", "F1", "minutes"]
    expected = ["2.1234", "0.3456", "5.6789", "90.12%", "2.2345", "87.65%", "0.8642", "1,234.50"]
    assert found[2] == ["나의-아주-긴-이름의-분류-실험-하나", "1", *expected]
    assert found[3] == ["2", "(25%)", *expected[:4], "–", "–", "–", "1.00"]
    assert "valid –: not evaluated" in printed


def test_training_prints_its_epochs_if_one_is_complete(runs: Path) -> None:
    half, two, eight = ((runs / f"{name}.txt").read_text(encoding="utf-8") for name in ("half", "two", "eight"))
    assert "Averages over" not in half
    assert "Run folder" in half
    one = epoch_metrics(RunFolder(runs / "two").metrics())[0]
    assert two.index("training, o validation") < two.index(f"{one.train.loss:.4f}") < two.index("Run folder")
    assert f"All epochs: penna epochs {runs}/eight" in eight
    of_eight = [f"{epoch.train.loss:.4f}" for epoch in epoch_metrics(RunFolder(runs / "eight").metrics())]
    assert [loss for loss in of_eight if loss in eight] == of_eight[2:]
