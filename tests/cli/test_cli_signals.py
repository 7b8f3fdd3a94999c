"""After a signal, the step is finished, the run is saved, and the exit code tells the signal."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from penna.cli.main import run


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_the_run_and_the_exit_code_names_it(number: signal.Signals, code: int, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("The rain in Spain stays mainly in the plain.\n" * 50, encoding="utf-8")
    command = (
        "train text.txt --name run --tokenizer.kind char --model.n-layer 1 --model.n-head 1 --model.n-embd 8 "
        "--model.block-size 8 --train.steps 1000000 --train.threads 1 --train.sample-tokens 0 --train.log-every 1"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "penna", *command.split()],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PENNA_CACHE": str(tmp_path / "cache")},
    )
    metrics = tmp_path / "runs" / "run" / "metrics.jsonl"
    deadline = time.monotonic() + 300  # on a crowded machine
    while not (metrics.exists() and metrics.read_text().count("\n") > 3):
        assert time.monotonic() < deadline, "training did not begin"
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code
    assert "To continue: penna resume runs/run" in said
    folder = tmp_path / "runs" / "run"
    state = json.loads((folder / "last" / "state.json").read_text())
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert state["step"] == max(row["step"] for row in rows)
    assert json.loads((folder / "run.json").read_text())["state"] == "stopped"


def test_ctrl_c_before_training_exits_with_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from penna.cli import recipes

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(recipes, "list_recipes", interrupted)
    assert run(["recipes"]) == 130
    assert capsys.readouterr().err == "penna: stopped.\n"
