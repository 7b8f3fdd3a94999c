"""Runs that started from a pretrained model resume bit-identically, in every task."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import InterruptedByTest, assert_same_bits, at_step, interrupt, losses, python, tensors, words
from tiny_tasks import TASKS, task_recipe

from penna import api
from penna.api.recipes import with_init_from
from penna.config.recipe import build_recipe, recipe_toml
from penna.config.schema import Recipe
from penna.runs.folder import RunFolder
from penna.train.events import Event, Finished, Started

# Dropout, accumulation and two epochs and a half, so that resuming must restore the position in all of them.
SETTINGS = {
    "model.dropout": 0.1,
    "train.batch_size": 4,
    "train.accumulation": 2,
    "train.steps": 6,
    "train.checkpoint_every": 2,
    "train.patience": 9,
    "train.sample_tokens": 2,
    "train.prompts": ["abc"],
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A pretrained run for each kind of tokenizer, made when it is first needed."""
    made: dict[str, Path] = {}

    def of(case: str) -> Path:
        kind = TASKS[case].get("tokenizer.kind", "char") + ("" if TASKS[case].get("model.tie", True) else "-untied")
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)
            (folder / "base.txt").write_text("\n".join(words(seed, 40) for seed in range(20)), encoding="utf-8")
            fields = {
                "data.path": [str(folder / "base.txt")], "data.valid_path": [], "data.windows": "packed",
                "model.block_size": 64, "train.steps": 3, "tokenizer.kind": kind.split("-")[0],
                "model.tie": TASKS[case].get("model.tie", True),
            }  # fmt: skip
            run, _ = api.train_recipe(task_recipe(folder, "pretrain", fields), name="base", runs_dir=folder)
            made[kind] = run.path
        return made[kind]

    return of


def tuned_recipe(folder: Path, case: str, start: Path, overrides: dict[str, Any] | None = None) -> Recipe:
    """A recipe that starts from a run, as `penna train` completes it."""
    recipe = task_recipe(folder, case, {**SETTINGS, **(overrides or {})})
    table = recipe.model_dump(exclude_none=True)
    table["train"]["init_from"] = str(start)
    return build_recipe(with_init_from(table, folder))


def before_the_first_step(event: Event) -> None:
    if isinstance(event, Started):
        interrupt()


def stopped(recipe: Recipe, folder: Path, how: str) -> RunFolder:
    """A run that was stopped at step 3, crashed after it (its last checkpoint is of step 2), or crashed at once."""
    if how == "signal":
        act = at_step(3, lambda: os.kill(os.getpid(), signal.SIGTERM))
        run, end = api.train_recipe(recipe, name="cut", runs_dir=folder, on_event=act)
        assert end.step == 3
        return run
    on_event = before_the_first_step if how == "crash before the first checkpoint" else at_step(3, interrupt)
    with pytest.raises(InterruptedByTest):
        api.train_recipe(recipe, name="cut", runs_dir=folder, on_event=on_event)
    return RunFolder(folder / "cut")


def assert_same_run(whole: RunFolder, other: RunFolder) -> None:
    assert_same_bits(whole, other)
    for split in ("train", "valid"):
        assert losses(other, split) == losses(whole, split)
    assert other.samples() == whole.samples()
    for link in ("best", "last"):
        one, two = whole.checkpoint(link), other.checkpoint(link)
        assert one is not None
        assert two is not None
        assert one.name == two.name


@pytest.mark.parametrize("case", TASKS)
def test_a_fine_tuned_run_resumes_bit_identically(case: str, base: Callable[[str], Path], tmp_path: Path) -> None:
    start = base(case)
    recipe = tuned_recipe(tmp_path, case, start)
    whole, whole_end = api.train_recipe(recipe, name="whole", runs_dir=tmp_path)
    assert whole.info()["start"]["loaded"]
    assert whole_end == Finished(6, "the budget is spent", None)
    for number, how in enumerate(("signal", "crash", "crash before the first checkpoint")):
        folder = tmp_path / str(number)
        cut = stopped(recipe, folder, how)
        assert (cut.checkpoint("last") is None) == (how == "crash before the first checkpoint")
        resumed, end = api.resume("cut", runs_dir=folder)
        assert end == whole_end
        assert_same_run(whole, resumed)


def test_a_fine_tuned_run_resumes_without_its_pretrained_model(base: Callable[[str], Path], tmp_path: Path) -> None:
    start = base("chat")
    recipe = tuned_recipe(tmp_path, "chat", start)
    whole, _ = api.train_recipe(recipe, name="whole", runs_dir=tmp_path)
    stopped(recipe, tmp_path, "crash")
    away = start.with_name("away")
    start.rename(away)
    try:
        resumed, _ = api.resume("cut", runs_dir=tmp_path)
    finally:
        away.rename(start)
    assert_same_run(whole, resumed)


KILLED = """
import os, signal, sys
from pathlib import Path
from penna import api
from penna.config.recipe import load_recipe
def on_event(event):
    if type(event).__name__ == "Logged" and event.row["step"] == 3:
        os.kill(os.getpid(), signal.SIGKILL)
api.train_recipe(load_recipe(sys.argv[1]), name="cut", runs_dir=Path(sys.argv[2]), on_event=on_event)
"""


def test_a_killed_fine_tuned_run_resumes_bit_identically_in_another_process(
    base: Callable[[str], Path], tmp_path: Path
) -> None:
    recipe = tuned_recipe(tmp_path, "complete-seq2seq", base("complete-seq2seq"))
    (tmp_path / "recipe.toml").write_text(recipe_toml(recipe), encoding="utf-8")
    process = python("-c", KILLED, str(tmp_path / "recipe.toml"), str(tmp_path))
    _, err = process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL, err
    resumed, _ = api.resume("cut", runs_dir=tmp_path)
    whole, _ = api.train_recipe(recipe, name="whole", runs_dir=tmp_path)
    assert_same_run(whole, resumed)


def test_the_pretrained_model_affects_the_final_weights(base: Callable[[str], Path], tmp_path: Path) -> None:
    """Without this, the comparisons above would prove nothing."""
    recipe = tuned_recipe(tmp_path, "chat", base("chat"))
    tuned, _ = api.train_recipe(recipe, name="tuned", runs_dir=tmp_path)
    anew = recipe.model_copy(update={"train": recipe.train.model_copy(update={"init_from": None})})
    other, _ = api.train_recipe(anew, name="anew", runs_dir=tmp_path)
    assert tensors(tuned).keys() == tensors(other).keys()
    with pytest.raises(AssertionError, match="tensors differ"):
        assert_same_bits(tuned, other)
