"""A run killed twenty times at random moments is bit-identical to one that never stopped."""

import random
import time
from pathlib import Path

import pytest
from tiny_runs import assert_same_bits, losses, python, tiny_recipe

from penna import api
from penna.config.recipe import recipe_toml
from penna.runs.checkpoint import verify_checkpoint
from penna.runs.folder import RunFolder

GO_ON = """
import sys
from pathlib import Path
from penna import api
from penna.config.recipe import load_recipe
def on_event(event):
    if type(event).__name__ == "Started":
        print("started", flush=True)
folder = Path(sys.argv[2])
if (folder / "run" / "recipe.toml").exists():
    api.resume("run", runs_dir=folder, on_event=on_event)
else:
    api.train_recipe(load_recipe(sys.argv[1]), name="run", runs_dir=folder, on_event=on_event)
"""
KILLS = 20


@pytest.mark.slow
def test_run_killed_twenty_times_at_random_moments_is_bit_identical(tmp_path: Path) -> None:
    recipe = tiny_recipe(
        tmp_path,
        {"train.steps": 3000, "train.checkpoint_every": 5, "train.evaluate_every": 50, "train.log_every": 7,
         "model.dropout": 0.1, "optim.kind": "muon", "optim.learning_rate": 1e-4, "train.sample_tokens": 1},
    )  # fmt: skip
    (tmp_path / "recipe.toml").write_text(recipe_toml(recipe))
    run, moments = RunFolder(tmp_path / "run"), random.Random(0)
    reached: list[int] = []
    for _ in range(KILLS):
        process = python("-c", GO_ON, str(tmp_path / "recipe.toml"), str(tmp_path))
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        time.sleep(moments.uniform(0.0, 0.5))
        assert process.poll() is None, "it ended before it was killed: give it more steps"
        process.kill()
        process.communicate()
        last = run.checkpoint("last")
        if last is not None:
            verify_checkpoint(last)
            reached.append(int(last.name.removeprefix("step-")))
    assert reached == sorted(reached)
    assert reached[-1] > 0
    api.resume("run", runs_dir=tmp_path)
    whole, _ = api.train_recipe(recipe, name="whole", runs_dir=tmp_path)
    assert_same_bits(whole, run)
    for split in ("train", "valid"):
        assert losses(run, split) == losses(whole, split)
    assert run.samples() == whole.samples()
