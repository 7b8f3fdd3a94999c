"""``penna experiment``: its progress, its results and exit codes."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from rich.console import Console

from penna.api import experiment_runner
from penna.api.experiment_runner import RunStatus
from penna.cli.console import duration
from penna.cli.experiment import seconds_left, status_table
from penna.cli.main import run
from penna.config import experiment as experiment_config
from penna.runs.experiment import PlannedRun

STAND_IN = Path(__file__).parent.parent / "api" / "stand_in_training.py"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment_runner, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(experiment_runner, "COMMAND", (sys.executable, "-S", str(STAND_IN)))


def written(place: Path, *arms: tuple[str, dict[str, Any]], **more: Any) -> Path:
    (place / "text.txt").write_text("to be or not to be " * 300, encoding="utf-8")
    recipe = {
        "data": {"path": [str(place / "text.txt")]},
        "tokenizer": {"kind": "char"},
        "model": {"n_layer": 1, "n_head": 2, "n_embd": 16, "block_size": 16},
        "train": {"device": "cpu", "matmul": "blas", "threads": 1, "steps": 4, "sample_tokens": 0},
    }
    (place / "base.toml").write_text(tomli_w.dumps(recipe))
    file = place / "trial.toml"
    table = {"base": "base.toml", "arms": [{"name": name, "set": fields} for name, fields in arms], **more}
    file.write_text(tomli_w.dumps(table))
    return file


def typed(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `penna experiment`."""
    capsys.readouterr()
    code = run(["experiment", *map(str, words)])
    said = capsys.readouterr()
    return code, said.out, said.err


GOOD, OTHER, BAD = ("good", {"optim.beta1": 0.8}), ("other", {"optim.beta1": 0.7}), ("bad", {"train.prompts": ["fail"]})


def test_progress_and_results_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, runs = written(tmp_path, GOOD, OTHER), tmp_path / "runs"
    code, out, err = typed(capsys, file, "--runs-dir", runs, "--workers", 2)
    assert code == 0
    assert "good-s42: training\n" in err
    assert "good-s42: finished, step 4 (100%), validation loss 2.0000, 0:02" in err
    assert f"2 of 2 runs are finished in {runs}/trial" in out
    assert "recipe: equal except for optim.beta1" in out
    assert out.rstrip().endswith(f"penna compare {runs}/trial")


def test_failures_are_reported_at_the_end_and_in_the_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    after = ("after", {"train.init_from": "arm:bad"})
    code, out, err = typed(capsys, written(tmp_path, BAD, after, GOOD), "--runs-dir", tmp_path / "runs")
    assert code == 1
    assert "1 of 3 runs are finished" in out
    assert "  bad-s42 failed: It broke at step 3. Something else. Fix it." in out
    assert "  after-s42 skipped: It starts from bad-s42, which was not trained." in out
    assert "bad-s42: failed: It broke" in err


def test_a_stopped_experiment_can_be_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, runs = written(tmp_path, GOOD, ("hang", {"train.prompts": ["hang"]})), tmp_path / "runs"
    ready = runs / "trial" / "hang-s42" / "ready"
    sent: list[int] = []

    def looked(seconds: float) -> None:
        if ready.exists() and not sent:
            sent.append(signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(experiment_runner.time, "sleep", looked)
    code, _, err = typed(capsys, file, "--runs-dir", runs)
    assert code == 130
    assert "1 of 2 runs are finished; the active ones were saved" in err
    assert f"To continue: penna experiment {runs}/trial" in err
    code, out, _ = typed(capsys, runs / "trial")
    assert code == 0 and "2 of 2 runs are finished" in out
    assert typed(capsys, "trial", "--runs-dir", runs)[0] == 0


def test_a_dry_run_estimates_the_cost_and_creates_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penna.api.estimate._startup_seconds", lambda: 1.0)
    file = written(tmp_path, GOOD, ("longer", {"train.steps": 1234}), seeds=[1, 2])
    code, out, _ = typed(capsys, file, "--runs-dir", tmp_path / "runs", "--dry-run", "--workers", 2)
    assert code == 0
    assert "trial: 4 runs. Nothing was trained." in out
    lines = [line.split() for line in out.splitlines()]
    assert ["longer", "1,", "2", "1,234"] in [line[:4] for line in lines]
    assert "with 2 runs at a time, and" in out and "Free disk space" in out
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--workers", "0"], "--workers must be at least 1 (got 0)"),
        (["--name", "a/b"], "is not a valid run name"),
    ],
)
def test_invalid_arguments_are_refused(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = typed(capsys, written(tmp_path, GOOD), "--runs-dir", tmp_path / "runs", *words)
    assert code == 2 and said in err


def test_options_of_a_new_experiment_are_refused_for_a_started_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, runs = written(tmp_path, GOOD), tmp_path / "runs"
    assert typed(capsys, file, "--runs-dir", runs, "--name", "mine")[0] == 0
    for word in ("--dry-run", "--overwrite"):
        code, _, err = typed(capsys, runs / "mine", word)
        assert code == 2 and f"{word} only applies to a new experiment" in err
    assert typed(capsys, file, "--runs-dir", runs, "--name", "mine", "--overwrite")[0] == 0


def test_without_an_argument_shipped_experiments_are_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one.toml").write_text('description = "What it shows"\n')
    monkeypatch.setattr(experiment_config, "shipped_experiments", lambda: {"one": tmp_path / "one.toml"})
    code, out, err = typed(capsys)
    assert code == 0 and out == "one  What it shows\n" and "--dry-run" in err


def status(name: str, doing: str, share: float = 0.0, seconds: float = 0.0) -> RunStatus:
    valid = {"loss": 1.5, "accuracy": 0.25, "macro_f1": 0.2} if share else None
    return RunStatus(PlannedRun(name, 1, False, {}, {}), doing, round(100 * share), share, valid, seconds)


def test_the_remaining_time_is_estimated_from_started_runs() -> None:
    begun = [status("a", "finished", 1.0, 100), status("b", "training", 0.25, 25)]
    assert seconds_left([status("a", "waiting")], 1) is None
    assert seconds_left(begun, 1) == 75
    assert seconds_left([*begun, status("c", "waiting")], 1) == 175
    assert seconds_left([*begun, status("c", "waiting")], 2) == pytest.approx(87.5)
    assert seconds_left([*begun, status("c", "waiting")], 100) == 75


def test_a_small_screen_shows_active_runs_first() -> None:
    statuses = [status(f"a{number}", "finished", 1.0, 9) for number in range(9)]
    statuses += [status("now", "training", 0.5, 5), *(status(f"w{number}", "waiting") for number in range(9))]
    console = Console(width=120, height=12, record=True, file=open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    console.print(status_table(statuses, 1, 5))
    shown = console.export_text()
    assert "now-s1" in shown and "a8-s1" in shown and "a0-s1" not in shown
    assert "loss 1.5000, accuracy 25.00%" in shown
    assert "9 of 19 finished" in shown
    console.file.close()


def test_durations_are_formatted_like_a_clock() -> None:
    assert [duration(seconds) for seconds in (0, 61, 3599, 3661)] == ["0:00", "1:01", "59:59", "1:01:01"]
