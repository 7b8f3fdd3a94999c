"""Accumulation and two real processes equal one large batch, in every task, even if a rank has fewer rows."""

import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from tiny_runs import losses, python, tensors
from tiny_tasks import TASKS, task_recipe
from torch.distributed import TCPStore

from penna import api
from penna.config.recipe import recipe_toml
from penna.config.schema import Recipe
from penna.runs.folder import RunFolder

# Rows at a time over all ranks, and how often: 2 x 4 leaves the second rank without a row at the end of an epoch, where
# an odd number of rows is left, and 8 x 1 gives it two of five (or one of three).
PARTED = {"8x1": (8, 1), "2x4": (2, 4)}

ON_A_RANK = """
import os, sys
from pathlib import Path
from penna import api
from penna.config.recipe import load_recipe
folder = Path(sys.argv[1])
for met in sys.argv[2:]:
    name, os.environ["MASTER_PORT"] = met.split(":")
    api.train_recipe(load_recipe(str(folder / f"{name}.toml")), name=name, runs_dir=folder)
"""


def on_two_ranks(recipes: dict[str, Recipe], folder: Path) -> None:
    """Train one recipe after another in the same two processes, in the environment that torchrun gives them."""
    for name, recipe in recipes.items():
        (folder / f"{name}.toml").write_text(recipe_toml(recipe), encoding="utf-8")
    # Each run meets in a store of its own; the kernel chooses its port, and nobody else can take that.
    stores = {name: TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False) for name in recipes}
    meet = [f"{name}:{store.port}" for name, store in stores.items()]
    environment = {"MASTER_ADDR": "127.0.0.1", "WORLD_SIZE": "2", "TORCHELASTIC_USE_AGENT_STORE": "True"}
    with ExitStack() as stack:
        processes: list[subprocess.Popen[str]] = []
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for rank in ("0", "1"):
            own = {"RANK": rank, "LOCAL_RANK": rank}
            for variable, value in (environment | own).items():
                patch.setenv(variable, value)
            processes.append(stack.enter_context(python("-c", ON_A_RANK, str(folder), *meet)))
            stack.callback(processes[-1].kill)
        for process in processes:
            out, err = process.communicate(timeout=300)
            assert process.returncode == 0, out + err


# AdamW would do nearly the same with all gradients halved: a large eps and no clipping let it be seen.
FIELDS = {"optim.eps": 1e-2, "optim.grad_clip": None, "optim.learning_rate": 3e-2, "train.checkpoint_every": 100}


def parted(folder: Path, case: str, rows: int, times: int) -> Recipe:
    return task_recipe(folder, case, {**FIELDS, "train.batch_size": rows, "train.accumulation": times})


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of every task on two ranks, for each of ``PARTED``."""
    folder = tmp_path_factory.mktemp("ranks")
    recipes = {
        f"{case}-{how}": parted(folder, case, rows, times) for case in TASKS for how, (rows, times) in PARTED.items()
    }
    on_two_ranks(recipes, folder)
    return folder


def assert_agree(first: RunFolder, second: RunFolder) -> None:
    """The losses of both parts and the weights agree to 1e-5, what was counted to the last token."""
    for split in ("train", "valid"):
        assert losses(second, split) == pytest.approx(losses(first, split), abs=1e-5, rel=0)
    counted = [[(row["step"], row["split"], row["tokens"]) for row in run.metrics()] for run in (first, second)]
    assert counted[0] == counted[1]
    one, other = tensors(first), tensors(second)
    assert one.keys() == other.keys()
    for name in one:
        if name.startswith("model"):
            torch.testing.assert_close(other[name], one[name], atol=1e-5, rtol=0, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("case", TASKS)
def test_accumulation_and_two_ranks_equal_one_large_batch(case: str, two_ranks: Path, tmp_path: Path) -> None:
    whole, _ = api.train_recipe(parted(tmp_path, case, 8, 1), name="whole", runs_dir=tmp_path)
    tokens = [row["tokens"] for row in whole.metrics() if row["split"] == "train"]
    assert len({after - before for before, after in zip([0, *tokens], tokens, strict=False)}) > 2, "unequal counts"
    examples = whole.info()["data"].get("train_examples", whole.info()["data"].get("documents"))
    assert examples % 8 % 2 == 1, "an epoch's last step has an odd number of rows"
    assert len(tokens) * 8 > examples + 8, "and is not the last of all"
    alone, _ = api.train_recipe(parted(tmp_path, case, 1, 8), name="alone", runs_dir=tmp_path)
    assert_agree(whole, alone)
    for how in PARTED:
        assert_agree(whole, RunFolder(two_ranks / f"{case}-{how}"))
