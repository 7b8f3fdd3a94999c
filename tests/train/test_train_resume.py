"""A run resumed from a checkpoint is bit-identical to one that never stopped."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import InterruptedByTest, assert_same_bits, at_step, interrupt, losses, tiny_recipe, words

from penna import api
from penna.errors import DataError, RunError
from penna.model.gpt import GPT
from penna.train.objective import Batch, NextTokenObjective

# 300 words are 93 rows: 12 steps of 8 rows, 4 steps of 3 x 8.
ACCUMULATION = {"train.accumulation": 3}
SHORT_EPOCH = {"train.batch_size": 32}  # 3 steps
DROPOUT = {"model.dropout": 0.1}
MUON = {"optim.kind": "muon"}


def multi_step(**fields: Any) -> dict[str, Any]:
    return {"schedule.kind": "multi_step", **{f"schedule.{name}": value for name, value in fields.items()}}


CASES = {
    "steps, constant": ({"train.steps": 6, "schedule.kind": "constant"}, 3),
    "steps, linear with warm-up": ({"train.steps": 6, "schedule.warmup_steps": 4}, 2),
    "steps, cosine, dropout": ({"train.steps": 6, "schedule.kind": "cosine", **DROPOUT}, 3),
    "steps, trapezoid, inside its fall": ({"train.steps": 6, "schedule.kind": "trapezoid"}, 5),
    "steps, multi-step by step": ({"train.steps": 6, **multi_step(milestones=[2, 4])}, 3),
    "epochs, multi-step by epoch, after epoch 1": (
        {"train.epochs": 3, **SHORT_EPOCH, **multi_step(every=1, unit="epoch")},
        4,
    ),
    "epochs, cosine, at the epoch's end": ({"train.epochs": 2, **SHORT_EPOCH, "schedule.kind": "cosine"}, 3),
    "epochs, mid-epoch, dropout, accumulation": ({"train.epochs": 1.5, **ACCUMULATION, **DROPOUT}, 2),
    "tokens, linear": ({"train.tokens": 700}, 3),
    "tokens, after epoch 1, accumulation, dropout": ({"train.tokens": 2200, **ACCUMULATION, **DROPOUT}, 5),
    "muon, trapezoid, dropout": ({"train.steps": 6, **MUON, **DROPOUT, "schedule.kind": "trapezoid"}, 3),
    "muon, epochs, accumulation": ({"train.epochs": 1.5, **MUON, **ACCUMULATION}, 5),
    "muon, tokens, cosine": ({"train.tokens": 700, **MUON, "schedule.kind": "cosine"}, 2),
    "modern layout, two layers": ({"train.steps": 5, "model.preset": "modern", "model.n_layer": 2, **DROPOUT}, 3),
    "products through oneDNN on two threads": (
        {"train.steps": 5, "train.matmul": "onednn", "train.threads": 2, "model.n_embd": 96, **DROPOUT},
        3,
    ),
    "documents in rows of their own, dropout, after epoch 1": (
        {"train.epochs": 2.5, **SHORT_EPOCH, "data.windows": "documents", "data.document": "line", **DROPOUT},
        7,
    ),
    "samples and best checkpoints between": ({"train.steps": 6, "train.sample_tokens": 3, "train.sample_every": 1}, 3),
}


@pytest.mark.parametrize(("overrides", "stop"), CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("how", ["signal", "crash"])
def test_resumed_run_is_bit_identical_to_an_uninterrupted_one(
    tmp_path: Path, overrides: dict[str, Any], stop: int, how: str
) -> None:
    lines = words(0, 300).replace("a ", "\n")  # 37 documents of about 45 characters, if the recipe reads documents
    recipe = tiny_recipe(tmp_path, overrides, text=lines if "data.document" in overrides else None)
    whole, whole_end = api.train_recipe(recipe, name="whole", runs_dir=tmp_path)
    if how == "signal":
        act = at_step(stop, lambda: os.kill(os.getpid(), signal.SIGTERM))
        cut, cut_end = api.train_recipe(recipe, name="cut", runs_dir=tmp_path, on_event=act)
        assert cut_end.step == stop < whole_end.step
    else:
        with pytest.raises(InterruptedByTest):
            api.train_recipe(recipe, name="cut", runs_dir=tmp_path, on_event=at_step(stop, interrupt))
    cut, end = api.resume("cut", runs_dir=tmp_path)
    assert end == whole_end
    assert_same_bits(whole, cut)
    assert losses(cut, "train") == losses(whole, "train")
    assert losses(cut, "valid") == losses(whole, "valid")
    assert cut.samples() == whole.samples()
    for link in ("best", "last"):
        one, other = whole.checkpoint(link), cut.checkpoint(link)
        assert one is not None
        assert other is not None
        assert one.name == other.name


def test_a_run_stopped_after_every_step_is_bit_identical(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, {"train.steps": 5, **DROPOUT, **MUON})
    whole, _ = api.train_recipe(recipe, name="whole", runs_dir=tmp_path)

    def stop(event: object) -> None:
        if type(event).__name__ == "Logged":
            os.kill(os.getpid(), signal.SIGINT)

    api.train_recipe(recipe, name="cut", runs_dir=tmp_path, on_event=stop)
    ends = [api.resume("cut", runs_dir=tmp_path, on_event=stop)[1].step for _ in range(4)]
    cut, _ = api.resume("cut", runs_dir=tmp_path)
    assert ends == [2, 3, 4, 5]
    assert_same_bits(whole, cut)


@pytest.mark.parametrize("event", ["Started", "Evaluated", "Saved"])
def test_a_run_that_crashed_before_its_first_step_resumes_bit_identically(tmp_path: Path, event: str) -> None:
    # Validation never improves (the rate is about 0), so an evaluation counted twice would end the run earlier.
    frozen = {"optim.learning_rate": 1e-30, "train.steps": 9, "train.patience": 2}
    recipe = tiny_recipe(tmp_path, frozen)
    whole, whole_end = api.train_recipe(recipe, name="whole", runs_dir=tmp_path)

    def crash(raised: object) -> None:
        if type(raised).__name__ == event:
            raise InterruptedByTest

    with pytest.raises(InterruptedByTest):
        api.train_recipe(recipe, name="cut", runs_dir=tmp_path, on_event=crash)
    cut, end = api.resume("cut", runs_dir=tmp_path)
    assert end == whole_end
    assert_same_bits(whole, cut)
    assert losses(cut, "valid") == losses(whole, "valid")


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path)
    run, end = api.train_recipe(recipe, name="run", runs_dir=tmp_path)
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file() and path.name != "run.json"}
    again, second = api.resume("run", runs_dir=tmp_path)
    assert second == end
    assert {path: path.read_bytes() for path in before} == before
    assert again.info()["state"] == "finished"


@pytest.mark.parametrize("overrides", [{"train.evaluate_every": 1}, {"train.evaluate_every": 100}, {"train.log_every": 3},
    {"train.checkpoint_every": 4}, {"train.sample_tokens": 5}, {"train.sample_tokens": 2, "train.sample_every": 1}],
    ids=str)  # fmt: skip
def test_evaluating_logging_and_saving_never_change_the_weights(tmp_path: Path, overrides: dict[str, Any]) -> None:
    base = {"train.steps": 6, **DROPOUT}
    plain, _ = api.train_recipe(tiny_recipe(tmp_path, base), name="plain", runs_dir=tmp_path)
    looked, _ = api.train_recipe(tiny_recipe(tmp_path, {**base, **overrides}), name="looked", runs_dir=tmp_path)
    assert_same_bits(plain, looked)


def test_another_seed_gives_other_weights(tmp_path: Path) -> None:
    one, _ = api.train_recipe(tiny_recipe(tmp_path), name="one", runs_dir=tmp_path)
    other, _ = api.train_recipe(tiny_recipe(tmp_path, {"train.seed": 1}), name="other", runs_dir=tmp_path)
    with pytest.raises(AssertionError, match="tensors differ"):
        assert_same_bits(one, other)


def test_every_micro_batch_of_every_step_and_seed_draws_its_own_dropout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[bytes] = []
    real = NextTokenObjective.sums

    def sums(self: NextTokenObjective, model: GPT, batch: Batch) -> dict[str, torch.Tensor]:
        if model.training:
            drawn.append(torch.default_generator.get_state().numpy().tobytes())
        return real(self, model, batch)

    monkeypatch.setattr(NextTokenObjective, "sums", sums)
    for seed in (1, 2):
        recipe = tiny_recipe(tmp_path, {"train.seed": seed, "train.steps": 3, **ACCUMULATION, **DROPOUT})
        run_of = len(drawn)
        api.train_recipe(recipe, runs_dir=tmp_path)
        del drawn[run_of:-9]  # those measured before the first step
    assert len(set(drawn)) == len(drawn) == 2 * 3 * 3


def test_resuming_with_changed_text_is_an_error(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path)
    api.train_recipe(recipe, name="run", runs_dir=tmp_path, on_event=at_step(2, lambda: os.kill(os.getpid(), 15)))
    tiny_recipe(tmp_path, text=words(1, 300))
    with pytest.raises(DataError, match="was changed after the run began"):
        api.resume("run", runs_dir=tmp_path)


def test_resuming_with_a_changed_recipe_is_an_error(tmp_path: Path) -> None:
    run, _ = api.train_recipe(tiny_recipe(tmp_path), name="run", runs_dir=tmp_path)
    with pytest.raises(RunError, match="train.steps from 4 to 5"):
        api.resume("run", runs_dir=tmp_path, changes={"train.steps": 5})
    file = run.path / "recipe.toml"
    file.write_text(file.read_text().replace("steps = 4", "steps = 5"))
    with pytest.raises(RunError, match="was changed after the run began"):
        api.resume("run", runs_dir=tmp_path)
