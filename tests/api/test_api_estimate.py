"""Estimates of experiments match the steps, disk space and schedule of real runs."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from penna.api.estimate import estimate_experiment, total_seconds
from penna.api.experiment import checkpoint_bytes, min_parameters, plan_experiment
from penna.api.train import train_recipe
from penna.config.experiment_plan import RunPlan
from penna.config.recipe import load_recipe, shipped_recipes
from penna.model.gpt import count_parameters
from penna.model.seq2seq import build_model


@pytest.fixture(autouse=True)
def _starts_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penna.api.estimate._startup_seconds", lambda: 1.0)


def a_file(place: Path, **more: Any) -> Path:
    (place / "text.txt").write_text("to be or not to be " * 300, encoding="utf-8")
    recipe = {
        "data": {"path": [str(place / "text.txt")]},
        "tokenizer": {"kind": "char"},
        "model": {"n_layer": 1, "n_head": 2, "n_embd": 16, "block_size": 16},
        "train": {"device": "cpu", "matmul": "blas", "threads": 1, "batch_size": 8, "evaluate_every": 50,
                  "epochs": 0.5, "sample_tokens": 0},
    }  # fmt: skip
    (place / "base.toml").write_text(tomli_w.dumps(recipe))
    file = place / "trial.toml"
    file.write_text(tomli_w.dumps({"base": "base.toml", **more}))
    return file


def test_estimated_steps_and_disk_match_the_runs(tmp_path: Path) -> None:
    starts = [{"name": "pre", "base": "base.toml", "set": {"train.tokens": 3000}}]
    file = a_file(tmp_path, axes={"train.init_from": ["none", "arm:pre"], "train.batch_size": [4, 8]}, starts=starts)
    plan = plan_experiment(str(file))
    messages: list[str] = []
    estimate = estimate_experiment(plan, workers=2, report=messages.append)
    by_name = {run.name: run for run in estimate.runs}
    assert list(by_name) == [run.name for run in plan.runs]
    for name in ("pre-s42", "scratch-batch-size-4-s42", "scratch-batch-size-8-s42"):
        recipe = plan.recipes[name.removesuffix("-s42")]
        run, finished = train_recipe(recipe, name=name, runs_dir=tmp_path / "runs")
        assert by_name[name].steps == finished.step
        checkpoint = run.checkpoint("last")
        assert checkpoint is not None
        on_disk = sum((checkpoint / file).stat().st_size for file in ("model.safetensors", "optimizer.safetensors"))
        kept = recipe.train.keep_checkpoints + 1
        assert by_name[name].disk == pytest.approx(kept * on_disk, rel=0.4)  # headers weigh much in so small a model
    assert all(run.seconds > 0 for run in estimate.runs)
    assert estimate.seconds >= max(run.seconds for run in estimate.runs)
    assert sum(line.startswith("Measuring") for line in messages) == 4  # the start has the shape of one arm
    assert not list(tmp_path.glob("runs/measured*"))


def test_a_budget_in_minutes_is_used_as_it_is(tmp_path: Path) -> None:
    file = a_file(tmp_path, set={"train.minutes": 3.0}, axes={"model.positions": ["learned", "rotary"]})
    for run in estimate_experiment(plan_experiment(str(file))).runs:
        assert 180 < run.seconds < 240
        assert run.steps > 100


def test_min_parameters_is_a_close_lower_bound() -> None:
    for name in shipped_recipes():
        recipe = load_recipe(name)
        if recipe.model.n_embd > 400:
            continue
        learned = recipe.tokenizer.vocab_size if recipe.tokenizer.kind in ("bpe", "unigram") else 64
        whole = count_parameters(build_model(recipe.model.model_copy(update={"vocab_size": learned})))
        assert 0.9 * whole <= min_parameters(recipe) <= whole, name


def test_checkpoint_bytes_count_the_newest_and_the_best() -> None:
    recipe = load_recipe("demo", {"train.keep_checkpoints": 3})
    assert checkpoint_bytes(recipe, 100) == 4 * 12 * 100


def simulated(runs: list[RunPlan], seconds: dict[str, int], workers: int) -> int:
    """The total time, found by simulating every second."""
    left, at_work, ended = list(runs), dict[str, int](), set[str]()
    for now in count():
        for name in [name for name, end in at_work.items() if end == now]:
            del at_work[name]
            ended.add(name)
        for run in list(left):
            if len(at_work) < workers and set(run.references.values()) <= ended:
                left.remove(run)
                at_work[run.name] = now + seconds[run.name]
        if not left and not at_work:
            return now
    raise AssertionError


@given(
    st.lists(st.tuples(st.integers(1, 9), st.one_of(st.none(), st.integers(0, 7))), min_size=1, max_size=8),
    st.integers(1, 4),
)
def test_total_seconds_equals_a_simulation(rows: list[tuple[int, int | None]], workers: int) -> None:
    names = [f"a{number}" for number in range(len(rows))]
    runs = [
        RunPlan(name, 1, False, {}, {}, {}, {} if need is None or need >= place else {"f": f"{names[need]}-s1"})
        for place, (name, (_, need)) in enumerate(zip(names, rows, strict=True))
    ]
    seconds = {run.name: length for run, (length, _) in zip(runs, rows, strict=True)}
    assert total_seconds(runs, seconds, workers) == simulated(runs, seconds, workers)


def test_an_experiment_without_runs_takes_no_time() -> None:
    assert total_seconds([], {}, 2) == 0
