"""``penna compare``: its output in each format, its files and errors."""

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from penna.api.train import train_recipe
from penna.cli.main import run
from penna.cli.parser import UsageError
from penna.config.recipe import build_recipe, merge
from penna.errors import PennaError, RecipeError, RunError
from penna.runs.folder import find_run

TEXT = "To be, or not to be, that is the question:\nWhether 'tis nobler in the mind to suffer\n" * 20


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("compare")
    (place / "text.txt").write_text(TEXT, encoding="utf-8")
    table: dict[str, Any] = {
        "data": {"path": [str(place / "text.txt")]},
        "tokenizer": {"kind": "char"},
        "model": {"n_layer": 1, "n_head": 2, "n_embd": 16, "block_size": 16},
        "train": {"device": "cpu", "matmul": "blas", "threads": 1, "compile": "off", "steps": 4, "batch_size": 4,
                  "log_every": 2, "evaluate_every": 2, "sample_tokens": 4},
    }  # fmt: skip
    for seed in (1, 2):
        for name, rate in (("느린", 1e-3), ("fast", 1e-2)):
            recipe = build_recipe(merge(table, {"train.seed": seed, "optim.learning_rate": rate}))
            train_recipe(recipe, name=f"{name}-s{seed}", runs_dir=place / "runs")
    return place / "runs"


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots take seconds and are tested elsewhere."""
    monkeypatch.setattr(sys.modules["penna.api.compare"], "draw_comparison", lambda _: [])


def compare(*words: str) -> int:
    return run(["compare", *words, "--debug"])


ALL = ("느린-s1", "느린-s2", "fast-s1", "fast-s2")


def test_the_terminal_shows_differences_metrics_and_the_report_path(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert compare(*ALL, "--runs-dir", str(runs), "--output", str(tmp_path / "out"), "--prompt", "to be") == 0
    out = capsys.readouterr().out
    lines = [line.split() for line in out.splitlines()]
    assert ["optim.learning_rate", "0.001", "0.01"] in lines
    loss = {name: find_run(name, runs).metrics()[-1]["loss"] for name in ALL}
    mean = (loss["느린-s1"] + loss["느린-s2"]) / 2
    (row,) = [line for line in lines if line[:2] == ["느린", "2"]]
    assert row[2:] == [f"{mean:.4f}", "±", f"{abs(loss['느린-s1'] - loss['느린-s2']) / 2**0.5:.4f}", "baseline"]
    assert "After 'to be'" in out
    assert f"Report: {tmp_path}/out/report.html" in out
    assert (tmp_path / "out/report.html").is_file()
    assert (tmp_path / "out/curves-by-epoch.svg").is_file()
    tables = [line for line in out.splitlines() if "validation loss, last" in line]
    assert tables
    assert all(len(line) <= 80 for line in tables)


@pytest.mark.usefixtures("no_figures")
def test_warnings_are_printed_before_the_metrics(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compare("느린-s1", "fast-s2", "--runs-dir", str(runs), "--output", str(tmp_path), "--no-texts")
    printed = capsys.readouterr()
    assert "The seeds differ (느린: 1; fast: 2)" in " ".join(printed.out.split())
    assert printed.out.index("Warnings") < printed.out.index("All metrics")
    assert "Texts of" not in printed.err


@pytest.mark.parametrize("form", ["markdown", "csv", "latex", "json"])
@pytest.mark.usefixtures("no_figures")
def test_other_formats_print_nothing_else(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    words = (*ALL, "--runs-dir", str(runs), "--output", str(tmp_path), "--no-texts", "--format", form)
    assert compare(*words, "--baseline", "fast") == 0
    printed = capsys.readouterr()
    ending = {"markdown": "md", "latex": "tex"}.get(form, form)
    assert printed.out == (tmp_path / f"comparison.{ending}").read_text(encoding="utf-8")
    assert f"The report is {tmp_path}/report.html" in printed.err
    if form == "json":
        assert json.loads(printed.out)["baseline"] == "fast"
    if form == "csv":
        assert {row["arm"] for row in csv.DictReader(io.StringIO(printed.out))} == {"느린", "fast"}


@pytest.mark.usefixtures("no_figures")
def test_arms_are_grouped_by_a_pattern(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--runs-dir", str(runs), "--output", str(tmp_path), "--no-texts", "--format", "json", "--group", r"s\d$")
    compare(*ALL, *words)
    told = json.loads(capsys.readouterr().out)
    assert [(arm["name"], len(arm["runs"])) for arm in told["arms"]] == [("s1", 2), ("s2", 2)]
    assert "arm-mixed" in {warning["kind"] for warning in told["warnings"]}


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (("fast-s1", "--max-new-tokens", "0"), UsageError, r"--max-new-tokens must be at least 1 \(got 0\)"),
        (("fast-s1", "--no-texts", "--prompt", "a"), RecipeError, "were both given"),
        (("fast-s1", "--baseline", "x"), RunError, "no arm 'x'"),
        (("missing",), RunError, "'missing' is not a run"),
        (("fast-s1", "--group", "("), RunError, "not a valid regular expression"),
    ],
)
def test_invalid_input_is_refused_and_nothing_is_written(
    runs: Path, tmp_path: Path, words: tuple[str, ...], error: type[PennaError], message: str
) -> None:
    with pytest.raises(error, match=message):
        compare(*words, "--runs-dir", str(runs), "--output", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("no_figures")
def test_by_default_files_are_written_beside_the_first_run(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compare("fast-s1", "--runs-dir", str(runs), "--no-texts")
    assert (runs / "comparison/comparison.md").is_file()
