"""``penna classify``, and the evaluation of a classifier, on a run of a few steps."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from penna.api import load
from penna.api.classify import classify, evaluate_classification
from penna.api.evaluation_data import evaluation_data
from penna.api.train import train_recipe
from penna.cli.evaluate import print_classification
from penna.cli.main import parse, run
from penna.config.recipe import build_recipe
from penna.config.tasks import ChatTask
from penna.errors import DataError, PennaError, RunError

TEXTS = ["warm and bright", "cold", "", "a much longer text, which is cold and grey and slow all through"]


def write_rows(file: Path, numbers: range, extra: list[dict[str, Any]] | None = None) -> None:
    words = {"good": ["warm", "bright", "fine"], "bad": ["cold", "grey", "slow"]}
    rows = [
        {"text": f"{words[label][number % 3]} {'and so on ' * (number % 4)}{number}", "label": label}
        for number in numbers
        for label in words
    ]
    file.write_text("\n".join(map(json.dumps, [*rows, *(extra or [])])), encoding="utf-8")


def train(place: Path, name: str, task: dict[str, Any], data: dict[str, Any] | None = None) -> None:
    write_rows(place / "train.jsonl", range(60))
    table = {
        "data": {"path": [str(place / "train.jsonl")], "valid_fraction": 0.2, **(data or {})},
        "tokenizer": {"kind": "char"},
        "model": {"n_layer": 1, "n_head": 2, "n_embd": 16, "block_size": 64},
        "task": task,
        "optim": {"learning_rate": 5e-3},
        "train": {
            "device": "cpu", "threads": 1, "matmul": "blas", "compile": "off", "steps": 30, "batch_size": 16,
            "evaluate_every": 15, "checkpoint_every": 15, "sample_tokens": 0,
        },
    }  # fmt: skip
    train_recipe(build_recipe(table), name=name, runs_dir=place / "runs")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.jsonl, runs/moods and runs/pairs, trained for a few steps."""
    place = tmp_path_factory.mktemp("classify")
    train(place, "moods", {"kind": "classify", "lm_weight": 0.0})
    train(place, "pairs", {"kind": "classify"}, {"text_column": "text", "pair_column": "text"})
    return place


def penna_classify(place: Path, *words: str) -> int:
    return run(["classify", *words, "--runs-dir", str(place / "runs"), "--debug"])


def expected(place: Path, texts: list[str]) -> list[dict[str, float]]:
    """The probabilities of each text, classified alone."""
    loaded = load("moods", runs_dir=place / "runs", device="cpu")
    assert loaded.model.score is not None
    separator = loaded.tokenizer.separator_id
    rows: list[dict[str, float]] = []
    for text in texts:
        ids = torch.tensor([[separator, *loaded.tokenizer.encode(text)[:62], separator]])
        with torch.no_grad():
            probabilities = loaded.model.score(loaded.model.hidden(ids)[0, -1]).softmax(0).tolist()
        rows.append(dict(zip(("bad", "good"), probabilities, strict=True)))
    return rows


def test_json_contains_all_probabilities_in_the_order_of_the_texts(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert penna_classify(place, "moods", *TEXTS, "--format", "json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["text"] for row in found] == TEXTS
    for row, probabilities in zip(found, expected(place, TEXTS), strict=True):
        assert row["probabilities"] == pytest.approx(probabilities, abs=1e-5)
        assert row["label"] == max(probabilities, key=probabilities.__getitem__)
        assert row["probability"] == pytest.approx(max(probabilities.values()), abs=1e-5)


def test_tsv_has_a_line_for_each_line_of_the_file(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "lines.txt").write_bytes("\ufeff".encode() + "\r\n".join([*TEXTS, 'has "quotes" and\ta tab']).encode())
    monkeypatch.setattr("penna.cli.classify._BATCH", 2)  # the same in parts
    assert penna_classify(place, "moods", "--file", str(place / "lines.txt"), "--format", "tsv") == 0
    table = list(csv.reader(io.StringIO(capsys.readouterr().out), delimiter="\t", quoting=csv.QUOTE_NONE))
    assert table[0] == ["label", "p(bad)", "p(good)", "text"]
    assert [row[3] for row in table[1:]] == [*TEXTS, 'has "quotes" and a tab']
    for row, probabilities in zip(table[1:], expected(place, TEXTS), strict=False):
        assert [float(row[1]), float(row[2])] == pytest.approx(list(probabilities.values()), abs=1e-5)


def test_text_output_has_a_line_per_text_or_for_one_text_a_line_per_class(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert penna_classify(place, "moods", "cold") == 0
    (probabilities,) = expected(place, ["cold"])
    ranked = sorted(probabilities, key=probabilities.__getitem__, reverse=True)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [[label, f"{probabilities[label]:.4f}"] for label in ranked]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"cold\n\nwarm\n")))
    assert penna_classify(place, "moods") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0].split() == [ranked[0], f"{probabilities[ranked[0]]:.4f}", "cold"]


def test_pairs_are_read_from_options_and_from_lines_with_a_tab(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert penna_classify(place, "pairs", "cold", "--pair", "cold air", "--format", "json") == 0
    (one,) = json.loads(capsys.readouterr().out)
    assert (one["text"], one["pair"]) == ("cold", "cold air")
    (place / "pairs.txt").write_text("cold\tcold air\n", encoding="utf-8")
    assert penna_classify(place, "pairs", "--file", str(place / "pairs.txt"), "--format", "json") == 0
    assert json.loads(capsys.readouterr().out) == [one]
    assert penna_classify(place, "pairs", "--file", str(place / "pairs.txt"), "--format", "tsv") == 0
    header, row = csv.reader(io.StringIO(capsys.readouterr().out), delimiter="\t")
    assert dict(zip(header, row, strict=True)) == {
        "label": one["label"],
        **{f"p({label})": f"{probability:.6f}" for label, probability in one["probabilities"].items()},
        "text": "cold",
        "pair": "cold air",
    }


def test_a_broken_pipe_is_not_reported_as_an_unreadable_file(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    (place / "lines.txt").write_text("cold\nwarm\n", encoding="utf-8")
    monkeypatch.setattr("sys.stdout", Broken())
    arguments = parse(["classify", "moods", "--file", str(place / "lines.txt"), "--runs-dir", str(place / "runs")])
    with pytest.raises(BrokenPipeError):
        arguments.function(arguments)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("moods", "a", "--pair", "b"), "was trained on single texts (got pairs)"),
        (("pairs", "a"), "was trained on pairs of texts (got single texts)"),
        (("pairs", "a", "b", "--pair", "c"), "2 texts and 1 second text were given."),
        (("moods", "--pair", "c"), "--pair needs a text on the command line"),
        (("moods", "a", "--file", "b"), "Both texts and the file b were given"),
        (("moods", "--file", "{place}/none.txt"), "none.txt cannot be read"),
        (("moods", "--file", "{place}/reviews.tsv"), "reviews.tsv contains records"),
        (("pairs", "--file", "{place}/reviews.jsonl"), "reviews.jsonl contains records"),
        (("moods", "--file", "{place}/empty.txt"), "There is nothing to classify in"),
        (("moods", "--file", "{place}/latin.txt"), "Line 2 of"),
        (("pairs", "--file", "{place}/latin.txt"), "Line 1 of {place}/latin.txt has one text"),
    ],
)
def test_invalid_input_is_refused_in_three_parts(place: Path, words: tuple[str, ...], why: str) -> None:
    (place / "empty.txt").write_bytes(b"")
    (place / "latin.txt").write_bytes(b"fine\ncaf\xe9\n")
    with pytest.raises(PennaError) as caught:
        penna_classify(place, *(word.format(place=place) for word in words))
    assert why.format(place=place) in caught.value.happened
    assert caught.value.expected
    assert caught.value.advice


def test_a_model_without_classes_is_refused(place: Path) -> None:
    train(place, "words", {"kind": "pretrain"})
    with pytest.raises(RunError, match=r"is not a classifier: its task is pretrain"):
        penna_classify(place, "words", "cold")


def test_evaluating_the_validation_split_gives_the_metrics_of_the_log(place: Path) -> None:
    figures = evaluate_classification("moods", runs_dir=place / "runs", device="cpu")
    run = load("moods", runs_dir=place / "runs", device="cpu").require_run()
    step = int(run.checkpoint("best").name.removeprefix("step-"))
    logged = next(row for row in run.metrics() if row["split"] == "valid" and row["step"] == step)
    assert figures.accuracy == pytest.approx(logged["accuracy"])
    assert figures.macro_f1 == pytest.approx(logged["macro_f1"])
    assert figures.log_loss == pytest.approx(logged["loss"], rel=1e-4)
    assert figures.parts == ()


def test_evaluation_separates_texts_that_were_trained_on(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = [{"text": "cold again", "label": "good"}, {"text": "warm again", "label": "bad"}]
    write_rows(place / "test.jsonl", range(50, 70), odd)
    figures = evaluate_classification(
        "moods", {"data.path": [str(place / "test.jsonl")]}, runs_dir=place / "runs", device="cpu"
    )
    assert figures.count == 42
    assert [(part.name, part.count) for part in figures.parts] == [
        ("not in the training data", 22),
        ("also in the training data", 20),
    ]
    loaded = load("moods", runs_dir=place / "runs", device="cpu")
    kept = json.loads((place / "runs/moods/evaluations/test.json").read_text())
    assert kept["accuracy"] == figures.accuracy
    assert {path.name for path in (place / "runs/moods/figures/test").iterdir()} >= {"confusion.svg", "reliability.png"}
    rows = [json.loads(line) for line in (place / "test.jsonl").read_text().splitlines()]
    found = classify(loaded, [row["text"] for row in rows])
    right = np.array([label == row["label"] for (label, _), row in zip(found.predictions, rows, strict=True)])
    assert figures.accuracy == pytest.approx(right.mean())
    wrong = {f"{place}/test.jsonl:{number}" for number in np.flatnonzero(~right) + 1}
    assert {mistake.place for mistake in figures.worst} <= wrong
    worst = figures.worst[0].place
    assert worst is not None
    print_classification(figures)
    printed = capsys.readouterr().out
    for part in (
        f"{figures.accuracy:.4f}",
        "macro F1",
        "(ECE)",
        "precision",
        "true \\ predicted",
        worst,
    ):
        assert part in printed


def test_unknown_labels_are_refused_or_skipped_if_allowed(place: Path) -> None:
    write_rows(place / "odd.jsonl", range(70, 90), [{"text": "odd", "label": "ugly"}] * 2)
    given = {"data.path": [str(place / "odd.jsonl")]}
    with pytest.raises(DataError, match=r"odd.jsonl:41: the label 'ugly' is not one of the classes 'bad', 'good'"):
        evaluate_classification("moods", given, runs_dir=place / "runs", device="cpu")
    said: list[str] = []
    figures = evaluate_classification(
        "moods", {**given, "data.allow_bad_records": 0.5}, runs_dir=place / "runs", device="cpu", report=said.append
    )
    assert figures.count == 40
    assert said == ["Skipped 2 texts with a label that the model does not know."]
    assert figures.bad_records == 0


def test_bad_records_are_counted_in_the_metrics_and_the_output(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(place / "torn.jsonl", range(70, 90))
    with open(place / "torn.jsonl", "a", encoding="utf-8") as file:
        file.write('\n{"text": "cut off\n{"text": 3, "label": "good"}\n')
    given = {"data.path": [str(place / "torn.jsonl")], "data.allow_bad_records": 0.5}
    figures = evaluate_classification("moods", given, runs_dir=place / "runs", device="cpu")
    assert (figures.count, figures.bad_records) == (40, 2)
    assert json.loads((place / "runs/moods/evaluations/torn.json").read_text())["bad_records"] == 2
    print_classification(figures)
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  bad records")]
    assert row.split() == ["bad", "records", "2", "skipped"]


def test_a_file_is_read_with_the_runs_fields_only_for_the_same_task(place: Path) -> None:
    pairs = load("pairs", runs_dir=place / "runs", device="cpu")
    named = {"data.path": ["other.jsonl"], "data.limit": 3}
    same, another = evaluation_data(pairs, pairs.task, named), evaluation_data(pairs, ChatTask(), named)
    assert (same.data.pair_column, same.data.valid_fraction) == ("text", 0.2)
    assert (another.data.pair_column, another.data.valid_fraction) == (None, 0.1)
    for asked in (same, another):
        assert (asked.data.path, asked.data.limit) == (["other.jsonl"], 3)
        assert (asked.is_own, asked.name, asked.content_hash) == (False, "other", None)
    own, less = evaluation_data(pairs, pairs.task, {}), evaluation_data(pairs, pairs.task, {"data.limit": 90})
    assert own.data == pairs.require_run().recipe().data
    assert own.content_hash == pairs.require_run().info()["data"]["content_hash"]
    assert (less.data.limit, less.content_hash) == (90, None)  # other data than the run's: no hash they could have
    assert own.is_own and own.name == less.name == "validation-part"
