"""Runs that Penna 0.1 began and did not finish: resumed, evaluated and sampled today, they give its results.

``tests/fixtures/runs-0.1`` holds three runs of eight steps that a signal stopped after the third. ``expected.json``
holds what version 0.1 reached when it resumed copies of them: every logged loss, the samples, the hashes of the final
weights and optimizer, an evaluation, and a generated text or the classes of two texts.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from penna import api
from penna.cli.main import run as run_command
from penna.runs.checkpoint import MODEL, OPTIMIZER
from penna.runs.folder import RunFolder
from penna.storage import sha256

FIXTURES = Path(__file__).parents[1] / "fixtures" / "runs-0.1"
EXPECTED: dict[str, dict[str, Any]] = json.loads((FIXTURES / "expected.json").read_text(encoding="utf-8"))
OUTPUT_OPTIONS = ["--max-new-tokens", "12", "--seed", "3", "--temperature", "0.8", "--json"]


@pytest.fixture(params=EXPECTED)
def resumed(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A copy of a run of 0.1, resumed to its end. Its recipe names the text relative to the working directory."""
    shutil.copytree(FIXTURES, tmp_path, symlinks=True, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    run, end = api.resume(request.param)
    assert (end.step, end.reason) == (8, "the budget is spent")
    return run


def is_same_machine(run: RunFolder) -> bool:
    """Whether float sums may be expected to be bit-identical: same version of torch, same processor."""
    expected, machine = EXPECTED[run.name], run.info()["machine"]
    return (torch.__version__, machine["processor"]) == (expected["torch"], expected["processor"])


def json_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    capsys.readouterr()
    assert run_command([*arguments, "--device", "cpu"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_resumed_run_of_0_1_gives_its_losses_weights_metrics_and_outputs(
    resumed: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = EXPECTED[resumed.name]
    rows = [{name: row[name] for name in expected["rows"][0]} for row in resumed.metrics()]
    assert [row["step"] for row in rows] == [row["step"] for row in expected["rows"]]
    for row, old in zip(rows, expected["rows"], strict=True):
        assert row == (old if is_same_machine(resumed) else {**old, "loss": pytest.approx(old["loss"], rel=1e-5)})
    best, last = resumed.checkpoint("best"), resumed.checkpoint("last")
    assert best is not None
    assert last is not None
    assert (best.name, last.name) == (expected["best"], "step-00000008")
    if is_same_machine(resumed):
        assert {name: sha256(last / name) for name in (MODEL, OPTIMIZER)} == expected["sha256"]
        assert resumed.samples() == expected["samples"]

    metrics = json_of(capsys, "evaluate", resumed.name, "--json", "--runs-dir", ".")
    assert {name: metrics[name] for name in expected["evaluation"]} == pytest.approx(expected["evaluation"], rel=1e-5)

    if resumed.name == "classify":
        output = json_of(
            capsys, "classify", resumed.name, "abc dead", "beef fade", "--format", "json", "--runs-dir", "."
        )
        found, old = ([row["probabilities"]["odd"] for row in rows] for rows in (output, expected["output"]))
        assert found == pytest.approx(old, abs=1e-5)
    else:
        (output,) = json_of(capsys, "generate", resumed.name, "--prompt", "abc", *OUTPUT_OPTIONS, "--runs-dir", ".")
        (old,) = expected["output"]
        assert output["text"] == old["text"]
        assert output["logprob"] == pytest.approx(old["logprob"], rel=1e-4)
