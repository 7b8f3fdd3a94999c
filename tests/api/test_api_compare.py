"""Comparing real runs of a few steps: arms, texts of every task, experiments that are not finished, and refusals."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from penna.api.compare import compare, comparison_folder, write_comparison
from penna.api.generate import DEFAULT_CONFIG, generate_stream
from penna.api.models import load
from penna.api.train import train_recipe
from penna.config.recipe import build_recipe, merge
from penna.errors import RunError
from penna.report.experiments.comparison import Comparison
from penna.runs.experiment import ExperimentFolder, PlannedRun, new_experiment
from penna.runs.folder import RunFolder, find_run

LABELS = ("good", "bad")
RATE = "optim.learning_rate"


def text(count: int, seed: int = 0) -> str:
    source = random.Random(seed)
    return " ".join("".join(source.choices("abcdefgh", k=source.randint(2, 7))) for _ in range(count))


def table(folder: Path) -> dict[str, Any]:
    return {
        "data": {"path": [str(folder / "text.txt")], "split": "position", "valid_fraction": 0.2},
        "tokenizer": {"kind": "char"},
        "model": {"n_layer": 1, "n_head": 2, "n_embd": 16, "block_size": 32},
        "optim": {"kind": "adamw", "learning_rate": 3e-3},
        "train": {"device": "cpu", "matmul": "blas", "threads": 1, "compile": "off", "steps": 4, "batch_size": 4,
                  "log_every": 1, "evaluate_every": 2, "sample_tokens": 6, "prompts": ["ab", "", "cd ef"]},
    }  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """runs/ with plain-s1, plain-s2, fast-s1, fast-s2, and label-, chat- and complete-s1."""
    folder = tmp_path_factory.mktemp("comparing")
    (folder / "text.txt").write_text(text(300), encoding="utf-8")
    rows = [{"text": f"{text(3, number)} {LABELS[number % 2]}", "label": LABELS[number % 2]} for number in range(40)]
    (folder / "labels.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    turns = [
        {"messages": [{"role": "user", "content": text(2, number)}, {"role": "assistant", "content": "cd"}]}
        for number in range(40)
    ]
    (folder / "chat.jsonl").write_text("\n".join(map(json.dumps, turns)), encoding="utf-8")
    pairs = [{"prompt": text(3, number), "completion": "ab cd"} for number in range(40)]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)), encoding="utf-8")
    changes: dict[str, dict[str, Any]] = {
        "plain": {},
        "fast": {"optim.learning_rate": 1e-2},
        "label": {"task.kind": "classify", "data.path": [str(folder / "labels.jsonl")]},
        "chat": {"task.kind": "chat", "data.path": [str(folder / "chat.jsonl")]},
        "complete": {"task.kind": "complete", "data.path": [str(folder / "pairs.jsonl")]},
    }
    for name, own in changes.items():
        for seed in (1, 2) if name in ("plain", "fast") else (1,):
            recipe = build_recipe(merge(table(folder), {**own, "train.seed": seed}))
            train_recipe(recipe, name=f"{name}-s{seed}", runs_dir=folder / "runs")
    return folder / "runs"


@pytest.fixture(scope="module")
def compared(runs: Path) -> Comparison:
    return compare(["plain-s1", "plain-s2", "fast-s2", "fast-s1"], runs_dir=runs, command="penna compare …")


def test_runs_are_compared_by_the_metrics_in_their_logs(runs: Path, compared: Comparison) -> None:
    assert [(arm.name, arm.seeds) for arm in compared.arms] == [("plain", (1, 2)), ("fast", (1, 2))]
    assert compared.title == "Comparison of plain, fast"
    assert compared.warnings == ()
    (column,) = compared.main_columns
    fast = compared.difference(compared.arms[1], column)
    assert fast is not None
    last = {name: find_run(name, runs).metrics()[-1]["loss"] for name in ("plain-s1", "plain-s2", "fast-s1", "fast-s2")}
    expected = (last["fast-s1"] - last["plain-s1"] + last["fast-s2"] - last["plain-s2"]) / 2
    assert fast.mean == pytest.approx(expected)
    assert [row.field for row in compared.recipe] == ["optim.learning_rate"]


def test_samples_come_from_the_first_seed_with_equal_prompts_and_seeds(runs: Path, compared: Comparison) -> None:
    assert [(texts.prompt, texts.seed) for texts in compared.texts] == [("ab", 0), ("", 1), ("cd ef", 2)]
    assert [text.run for text in compared.texts[2].texts] == ["plain-s1", "fast-s1"]
    config = DEFAULT_CONFIG.model_copy(update={"max_new_tokens": 6})
    pieces = generate_stream(load(str(runs / "fast-s1")), ["cd ef"], config, seed=2)
    assert compared.texts[2].texts[1].text == "".join(piece.text for piece in pieces)
    assert compared.provenance.texts.startswith("continuations of at most 6 tokens, temperature 0.8, seeds from 0")


def test_prompts_length_and_seed_can_be_chosen(runs: Path) -> None:
    found = compare(["plain-s1"], runs_dir=runs, prompts=["hgf"], max_new_tokens=3, seed=7)
    (texts,) = found.texts
    assert (texts.prompt, texts.seed) == ("hgf", 7)
    assert texts.texts[0].text is not None
    assert len(texts.texts[0].text) <= 3
    assert compare(["plain-s1"], runs_dir=runs, prompts=[]).texts == ()


def test_a_classifier_shows_its_label_probabilities(runs: Path) -> None:
    found = compare(["label-s1"], runs_dir=runs)
    assert [texts.prompt for texts in found.texts] == ["ab", "cd ef"]  # nothing is no text to be classified
    lines = (found.texts[0].texts[0].text or "").splitlines()
    shares = {line.split()[0]: float(line.split()[1].rstrip("%")) for line in lines}
    assert shares.keys() == {"good", "bad"}
    assert sum(shares.values()) == pytest.approx(100, abs=0.2)
    assert {column.name for column in found.main_columns} == {"accuracy"}


@pytest.mark.parametrize(("name", "what"), [("chat-s1", "replies"), ("complete-s1", "completions")])
def test_chat_models_reply_and_completion_models_complete(runs: Path, name: str, what: str) -> None:
    found = compare([name], runs_dir=runs, prompts=["ab"], max_new_tokens=4)
    assert found.provenance.texts.startswith(what)
    assert found.texts[0].texts[0].text is not None


def test_an_arm_that_cannot_generate_has_a_note_with_the_reason(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "bare-s1").mkdir()
    for file in ("recipe.toml", "run.json", "metrics.jsonl"):
        (tmp_path / "bare-s1" / file).write_bytes((runs / "fast-s1" / file).read_bytes())
    found = compare([str(runs / "plain-s1"), str(tmp_path / "bare-s1")], prompts=["ab"])
    one, other = found.texts[0].texts
    assert one.text is not None
    assert other.text is None
    assert "has no checkpoint yet" in other.note
    replies = compare([str(runs / "chat-s1")], prompts=[" "])
    assert "The prompt is empty" in replies.texts[0].texts[0].note


def test_a_run_named_twice_is_used_once(runs: Path) -> None:
    found = compare(["plain-s1", str(runs / "plain-s1"), "plain-s2"], runs_dir=runs, prompts=[])
    assert [run.name for run in found.arms[0].runs] == ["plain-s1", "plain-s2"]
    assert [warning.kind for warning in found.warnings] == ["named-twice"]


def test_runs_of_different_tasks_are_rejected_by_name(runs: Path) -> None:
    with pytest.raises(RunError, match=r"have different tasks \(pretrain: plain-s1; classify: label-s1\)"):
        compare(["plain-s1", "label-s1"], runs_dir=runs)


def test_a_target_that_is_not_a_run_is_rejected(runs: Path) -> None:
    with pytest.raises(RunError, match="'nothing' is not a run"):
        compare(["plain-s1", "nothing"], runs_dir=runs)
    with pytest.raises(RunError, match="There is nothing to compare"):
        compare([], runs_dir=runs)


def test_an_unknown_baseline_is_rejected_before_anything_is_generated(runs: Path) -> None:
    said: list[str] = []
    with pytest.raises(RunError, match="no arm 'slow'(.|\n)*plain, fast"):
        compare(["plain-s1", "fast-s1"], runs_dir=runs, baseline="slow", report=said.append)
    assert said == []


def test_files_are_written_next_to_the_first_run(runs: Path, compared: Comparison, tmp_path: Path) -> None:
    files = write_comparison(compared, tmp_path / "deep/er", by="seconds")
    assert [file.name for file in files[:5]] == [
        "report.html", "comparison.md", "comparison.csv", "comparison.tex", "comparison.json",
    ]  # fmt: skip
    assert {file.name for file in files[5:]} == {
        f"{name}.{ending}" for name in (*(f"curves-by-{by}" for by in ("step", "tokens", "seconds", "epoch")), "finals")
        for ending in ("svg", "png")
    }  # fmt: skip
    assert all(file.stat().st_size for file in files)
    assert {file.name for file in (tmp_path / "deep/er").iterdir()} == {file.name for file in files}
    told = json.loads(files[4].read_text(encoding="utf-8"))
    assert told["made"]["command"] == "penna compare …"
    assert comparison_folder(["plain-s1"], runs_dir=runs) == runs / "comparison"


@pytest.fixture
def experiment(runs: Path, tmp_path: Path) -> ExperimentFolder:
    """An experiment of which plain is finished, one run of fast failed, and one has not begun."""
    planned = [
        PlannedRun("base", 1, True, {}, {}, "finished"),
        *(PlannedRun("fast", seed, False, {"rate": 0.01}, {RATE: 0.01}, "finished" if seed == 1 else "failed",
                     None if seed == 1 else "the loss became nan") for seed in (1, 2)),
        *(PlannedRun("plain", seed, False, {"rate": 0.003}, {RATE: 0.003}, "finished") for seed in (1, 2)),
        PlannedRun("slow", 1, False, {"rate": 0.1}, {}),
    ]  # fmt: skip
    text = (
        'description = "Two rates"\nbase = "shakespeare-lr"\n[axes]\n"optim.learning_rate" = [0.01, 0.003]\n'
        '[compare]\nprompts = "gh"\nmax_new_tokens = 5\nbaseline = "plain"\n'
    )
    made = new_experiment(tmp_path, "rates", text, planned, lambda _, __: {})
    for run in ("plain-s1", "plain-s2", "fast-s1", "fast-s2"):
        (made.path / run).symlink_to(runs / run)
    return made


def test_an_experiment_is_compared_as_planned_with_warnings_about_missing_runs(experiment: ExperimentFolder) -> None:
    found = compare(["rates"], runs_dir=experiment.path.parent)
    assert (found.title, found.description, found.baseline.name) == ("rates", "Two rates", "plain")
    assert [(arm.name, arm.seeds) for arm in found.arms] == [("fast", (1,)), ("plain", (1, 2))]
    assert found.arms[0].values == {"rate": 0.01}
    told = [(warning.kind, warning.text) for warning in found.warnings[:2]]
    assert told == [
        ("run-failed", "fast-s2 failed and is left out: the loss became nan."),
        ("run-waiting", "slow-s1 has not begun and is left out."),
    ]
    assert [texts.prompt for texts in found.texts] == ["gh"]
    assert "at most 5 tokens" in found.provenance.texts
    assert comparison_folder(["rates"], runs_dir=experiment.path.parent) == experiment.path / "comparison"


def test_runs_of_an_experiment_can_be_named_individually(experiment: ExperimentFolder) -> None:
    names = [str(experiment.path / name) for name in ("plain-s1", "fast-s1")]
    assert [arm.name for arm in compare(names, prompts=[]).arms] == ["plain", "fast"]


def test_an_experiment_with_other_targets_or_a_group_is_rejected(experiment: ExperimentFolder) -> None:
    with pytest.raises(RunError, match="cannot be compared with other targets"):
        compare([str(experiment.path), str(experiment.path / "plain-s1")])
    with pytest.raises(RunError, match="--group 'x' has no effect"):
        compare([str(experiment.path)], group="x")


def test_an_experiment_that_has_not_begun_is_rejected(tmp_path: Path) -> None:
    new_experiment(tmp_path, "new", "", [PlannedRun("a", 1, False, {}, {})], lambda _, __: {})
    with pytest.raises(RunError, match="No run of the experiment .* has begun: a-s1 has not begun"):
        compare(["new"], runs_dir=tmp_path)


def test_equal_conditions_are_listed_and_unexpected_differences_are_warnings(
    experiment: ExperimentFolder,
) -> None:
    found = compare([str(experiment.path)], prompts=[])
    names = [line.partition(":")[0] for line in found.identical]
    assert names == ["recipe", "data", "initial weights", "batch order"]
    assert found.identical[0] == f"recipe: equal except for {RATE}"
    fast = experiment.path / "fast-s1"
    source = fast.resolve()
    fast.unlink()
    shutil.copytree(source, fast, symlinks=True)
    RunFolder(fast).update_info(batch_order="another")
    found = compare([str(experiment.path)], prompts=[])
    (warning,) = [warning for warning in found.warnings if warning.kind == "not-identical"]
    assert warning.text.startswith("batch order: NOT equal")
    assert len(found.identical) == 3
