"""The metrics log, the choice of execution before the first step, and errors about losses that are not finite."""

import json
import math
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import BLOCK, assert_same_bits, at_step, losses, tensors, tiny_recipe

from penna import api
from penna.errors import TrainingError
from penna.runs.checkpoint import verify_checkpoint
from penna.runs.folder import RunFolder
from penna.train.events import Notice, Sampled, Started
from penna.train.trainer import Trainer

COMMON = {"step", "epoch", "tokens", "seconds", "split", "loss", "bits_per_byte", "accuracy", "learning_rate"}


def test_metrics_rows_hold_tokens_losses_and_learning_rate(tmp_path: Path) -> None:
    fields = {"train.steps": 8, "train.log_every": 2, "train.evaluate_every": 4, "train.checkpoint_every": 100,
              "schedule.kind": "linear", "optim.learning_rate": 1e-3}  # fmt: skip
    run, _ = api.train_recipe(tiny_recipe(tmp_path, fields), name="run", runs_dir=tmp_path)
    lines = (run.path / "metrics.jsonl").read_text().splitlines()
    rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
    assert [(row["step"], row["split"]) for row in rows] == [
        (0, "valid"), (2, "train"), (4, "train"), (4, "valid"), (6, "train"), (8, "train"), (8, "valid"),
    ]  # fmt: skip
    for row in rows:
        assert set(row) == (COMMON | {"tokens_per_second", "due"} if row["split"] == "train" else COMMON)
        assert row["tokens"] == row["step"] * 8 * BLOCK
        assert row["epoch"] == pytest.approx(row["step"] / 12, abs=1e-6)
        assert 0 <= row["accuracy"] <= 1
        # Characters of one byte each; the separator has none.
        assert row["bits_per_byte"] == pytest.approx(row["loss"] / math.log(2), rel=0.01)
        if row["step"]:
            assert row["learning_rate"] == pytest.approx(1e-3 * (1 - (row["step"] - 1) / 8))
    seconds = [row["seconds"] for row in rows]
    assert seconds == sorted(seconds)


def test_a_logged_loss_is_the_mean_over_its_steps(tmp_path: Path) -> None:
    each, _ = api.train_recipe(tiny_recipe(tmp_path, {"train.steps": 6}), name="each", runs_dir=tmp_path)
    fields = {"train.steps": 6, "train.log_every": 3, "train.evaluate_every": 6, "train.checkpoint_every": 6}
    third, _ = api.train_recipe(tiny_recipe(tmp_path, fields), name="third", runs_dir=tmp_path)
    single = losses(each, "train")
    assert losses(third, "train") == pytest.approx({3: (single[1] + single[2] + single[3]) / 3,
                                                    6: (single[4] + single[5] + single[6]) / 3})  # fmt: skip


def test_training_reduces_the_validation_loss(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, {"train.steps": 30, "optim.learning_rate": 0.02, "train.evaluate_every": 30})
    run, _ = api.train_recipe(recipe, name="run", runs_dir=tmp_path)
    valid = losses(run, "valid")
    assert valid[30] < valid[0] - 2  # nine letters of some 250 tokens


def test_samples_are_generated_at_each_evaluation_or_at_their_own_interval(tmp_path: Path) -> None:
    fields = {"train.sample_tokens": 3, "train.prompts": ["ab", "ca"], "train.steps": 4, "train.evaluate_every": 2}
    events: list[object] = []
    run, _ = api.train_recipe(tiny_recipe(tmp_path, fields), name="run", runs_dir=tmp_path, on_event=events.append)
    assert [(row["step"], row["prompt"]) for row in run.samples()] == [(s, p) for s in (0, 2, 4) for p in ("ab", "ca")]
    assert [row["text"] for row in run.samples()] == [event.text for event in events if isinstance(event, Sampled)]
    run, _ = api.train_recipe(
        tiny_recipe(tmp_path, {**fields, "train.sample_every": 3}), name="other", runs_dir=tmp_path
    )
    assert [row["step"] for row in run.samples()][::2] == [0, 3, 4]


# --- Decisions


def test_decisions_are_on_disk_before_the_first_step_and_repeated_on_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny_recipe(tmp_path, {"train.threads": None, "train.compile": "auto"})
    monkeypatch.setattr("penna.train.trainer.choose_threads", lambda *_: 1)
    found: list[dict[str, Any]] = []

    def on_event(event: object) -> None:
        if isinstance(event, Started):
            assert event.step == 0
            found.append(RunFolder(tmp_path / "run").decisions())
        at_step(2, lambda: os.kill(os.getpid(), signal.SIGTERM))(event)  # type: ignore[arg-type]

    run, _ = api.train_recipe(recipe, name="run", runs_dir=tmp_path, on_event=on_event)
    assert found == [{"matmul": "blas", "threads": 1, "compile": False}]
    run.save_decisions(threads=2)

    def measured_again(*_: Any) -> int:
        raise AssertionError

    monkeypatch.setattr("penna.train.trainer.choose_threads", measured_again)
    events: list[object] = []
    try:
        api.resume("run", runs_dir=tmp_path, on_event=events.append)
    finally:
        torch.set_num_threads(1)
    started = next(event for event in events if isinstance(event, Started))
    assert (started.step, started.threads, started.compiled) == (2, 2, False)
    assert Notice("Using 2 threads, as the run did when it began.") in events


def test_measuring_leaves_weights_unchanged(tmp_path: Path) -> None:
    given, _ = api.train_recipe(tiny_recipe(tmp_path, {"model.dropout": 0.1}), name="given", runs_dir=tmp_path)
    auto = tiny_recipe(tmp_path, {"model.dropout": 0.1, "train.compile": "auto", "train.threads": None})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
        measured, _ = api.train_recipe(auto, name="measured", runs_dir=tmp_path)
    assert_same_bits(given, measured)


@pytest.mark.parametrize("windows", ["packed", "documents"])
def test_compiling_is_tried_only_if_all_batches_have_one_shape(
    windows: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penna.train.trainer.choose_compile", lambda *_: True)  # the budget is long enough
    tried: list[object] = []
    monkeypatch.setattr("penna.train.trainer.Trainer._compiling_pays", lambda *_: bool(tried.append(None)))
    recipe = tiny_recipe(tmp_path, {"train.compile": "auto", "data.windows": windows})
    run, _ = api.train_recipe(recipe, name="run", runs_dir=tmp_path)
    assert bool(tried) is (windows == "packed")
    assert run.decisions()["compile"] is False


def test_a_compiled_step_is_timed_without_its_compilation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penna.train.trainer.choose_compile", lambda *_: True)
    monkeypatch.setattr("penna.train.trainer.Trainer._planned_seconds", lambda *_: 1000.0)
    monkeypatch.setattr("penna.train.device._LONG_PASS", 0.1)  # a longer first call is not repeated
    asked: list[Any] = []

    def trial(trainer: Any, module: Any, _: Any) -> None:
        eager = module is trainer._module
        time.sleep(0.05 if eager else 0.3 if module not in asked else 0.0)
        asked.append(module)

    monkeypatch.setattr("penna.train.trainer.Trainer._trial", trial)
    monkeypatch.setattr("penna.train.trainer.Trainer._compiled", lambda trainer: torch.nn.Sequential(trainer._module))

    class DecidedError(Exception):
        pass

    def on_event(event: object) -> None:
        if isinstance(event, Notice) and event.text.startswith("Compiling"):
            raise DecidedError(event.text)

    recipe = tiny_recipe(tmp_path, {"train.compile": "auto"})
    with pytest.raises(DecidedError, match=r": on\.$"):
        api.train_recipe(recipe, name="run", runs_dir=tmp_path, on_event=on_event)


@pytest.mark.slow
def test_a_compiled_run_has_the_same_losses_and_resumes_bit_identically(tmp_path: Path) -> None:
    wide = {"train.steps": 6, "train.matmul": "onednn", "model.n_embd": 96}
    fields = {**wide, "train.compile": "on"}
    eager, _ = api.train_recipe(tiny_recipe(tmp_path, wide), name="eager", runs_dir=tmp_path)
    whole, _ = api.train_recipe(tiny_recipe(tmp_path, fields), name="whole", runs_dir=tmp_path)
    assert whole.decisions()["compile"] is True
    assert losses(whole, "train") == pytest.approx(losses(eager, "train"), abs=1e-4)
    stop = at_step(3, lambda: os.kill(os.getpid(), signal.SIGTERM))
    api.train_recipe(tiny_recipe(tmp_path, fields), name="cut", runs_dir=tmp_path, on_event=stop)
    cut, _ = api.resume("cut", runs_dir=tmp_path)
    assert_same_bits(whole, cut)
    assert tensors(cut).keys() == tensors(eager).keys()  # names without the compiler's prefixes


# --- A loss that is not finite


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, float], None]:
    """poisoned(step, value) writes a value into the weights after that step."""

    def poison(at: int, value: float) -> None:
        real = Trainer._step

        def step(self: Trainer) -> None:
            real(self)
            if self.progress.step == at:
                with torch.no_grad():
                    self.model.ln_f.weight[0] = value  # type: ignore[index]

        monkeypatch.setattr(Trainer, "_step", step)

    return poison


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(("fields", "what", "step", "good"), [
    ({"train.checkpoint_every": 1}, "A weight became infinite or NaN", 3, 2),
    ({"train.checkpoint_every": 2}, "The training loss became nan", 4, 2),
    ({"train.checkpoint_every": 2, "train.evaluate_every": 3}, "The validation loss became nan", 3, 2),
    ({"train.checkpoint_every": 5, "train.log_every": 5}, "The training loss became nan", 5, 0),
])  # fmt: skip
def test_a_non_finite_value_ends_the_run_and_leaves_the_last_good_checkpoint(
    tmp_path: Path, poisoned: Callable[[int, float], None], value: float, fields: dict[str, Any], what: str, step: int,
    good: int,
) -> None:  # fmt: skip
    poisoned(3, value)
    recipe = tiny_recipe(tmp_path, {"train.steps": 9, "train.evaluate_every": 100, **fields})
    with pytest.raises(TrainingError) as raised:
        api.train_recipe(recipe, name="run", runs_dir=tmp_path)
    run = RunFolder(tmp_path / "run")
    last = run.checkpoint("last")
    assert last == run.checkpoints / f"step-{good:08d}"
    verify_checkpoint(last)
    assert raised.value.exit_code == 1
    assert raised.value.happened == f"{what} at step {step}."
    assert str(last) in raised.value.expected
    assert "optim.learning-rate" in raised.value.advice
    assert all(math.isfinite(row["loss"]) for row in run.metrics())


def test_non_finite_initial_weights_are_reported_before_anything_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init_weights(self: Any, seed: int) -> None:
        with torch.no_grad():
            self.wte.weight.fill_(math.nan)

    monkeypatch.setattr("penna.model.gpt.GPT.init_weights", init_weights)
    with pytest.raises(TrainingError, match="The validation loss became nan at step 0"):
        api.train_recipe(tiny_recipe(tmp_path), name="run", runs_dir=tmp_path)
    assert RunFolder(tmp_path / "run").checkpoint("last") is None


def test_learning_rate_far_too_high_ends_in_a_training_error(tmp_path: Path) -> None:
    wild = {"optim.learning_rate": 1e9, "optim.grad_clip": None, "train.steps": 60, "train.evaluate_every": 100}
    with pytest.raises(TrainingError, match="became"):
        api.train_recipe(tiny_recipe(tmp_path, wild), name="run", runs_dir=tmp_path)
    last = RunFolder(tmp_path / "run").checkpoint("last")
    assert last is not None
    verify_checkpoint(last)
    assert all(bool(tensor.isfinite().all()) for tensor in tensors(RunFolder(tmp_path / "run")).values())
