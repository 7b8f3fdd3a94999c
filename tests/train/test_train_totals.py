"""Accumulation and many ranks are one big batch: the same losses, the same weights."""

import math
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tiny_runs import BLOCK, assert_same_bits, losses, python, tensors, tiny_recipe

from penna import api
from penna.config.recipe import recipe_toml
from penna.config.sections import ModelConfig
from penna.data.batches import TrainingWindows
from penna.data.prepare import prepare
from penna.data.shards import TokenStream
from penna.model.gpt import GPT
from penna.runs.folder import RunFolder
from penna.train.objective import IGNORE_INDEX, NextTokenObjective, weighted_loss

# 300 words are 93 rows, the last of them not full: an epoch of 8 rows a step is 11 full steps and one of 5 rows.
AN_EPOCH_AND_A_STEP = {"train.steps": 13, "train.evaluate_every": 6, "optim.learning_rate": 1e-3}


def assert_close(first: RunFolder, second: RunFolder) -> None:
    """Losses and weights agree to 1e-5."""
    for split in ("train", "valid"):
        assert losses(first, split) == pytest.approx(losses(second, split), abs=1e-5, rel=0)
    one, other = tensors(first), tensors(second)
    assert one.keys() == other.keys()
    for name in one:
        if name.startswith("model"):
            torch.testing.assert_close(one[name], other[name], atol=1e-5, rtol=0)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_accumulated_batches_equal_one_large_batch(
    tmp_path: Path, optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penna.train.optimizers._product_dtype", lambda _: torch.float32)
    fields = {**AN_EPOCH_AND_A_STEP, "optim.kind": optimizer}
    runs: list[RunFolder] = []
    for rows, times in [(8, 1), (1, 8), (2, 4), (3, 3)]:
        recipe = tiny_recipe(tmp_path, {**fields, "train.batch_size": rows, "train.accumulation": times})
        runs.append(api.train_recipe(recipe, name=f"{rows}x{times}", runs_dir=tmp_path)[0])
    stream = TokenStream(prepare(recipe.data, recipe.tokenizer).folder, "train")
    assert len(stream) % BLOCK != 0, "the text must leave a window that is not full"
    assert_close(runs[0], runs[1])
    assert_close(runs[0], runs[2])
    with pytest.raises(AssertionError):  # 9 rows are another batch, so the comparison can fail
        assert_close(runs[0], runs[3])


def test_the_first_loss_is_the_mean_over_all_tokens_of_the_step(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, {"train.steps": 12, "train.batch_size": 2, "train.accumulation": 4})
    run, _ = api.train_recipe(recipe, name="run", runs_dir=tmp_path)
    prepared = prepare(recipe.data, recipe.tokenizer)
    windows = TrainingWindows(TokenStream(prepared.folder, "train"), BLOCK, recipe.train.seed)
    model = GPT(run.recipe().model)
    model.init_weights(recipe.train.seed)
    with torch.no_grad():
        batch = windows.batch(0, range(8))
        expected = F.cross_entropy(model(batch["ids"]).flatten(0, 1), batch["targets"].flatten())
    assert losses(run, "train")[1] == pytest.approx(float(expected), abs=1e-5)
    tokens = {row["step"]: row["tokens"] for row in run.metrics() if row["split"] == "train"}
    assert tokens[1] == 8 * BLOCK
    assert tokens[12] == prepared.manifest.parts["train"].tokens  # an epoch is every token once


def masked_batch() -> dict[str, torch.Tensor]:
    return {"ids": torch.ones(2, 4, dtype=torch.long), "targets": torch.full((2, 4), IGNORE_INDEX)}


def test_a_batch_without_targets_adds_zero_to_loss_and_gradient() -> None:
    torch.manual_seed(0)
    model = GPT(ModelConfig(n_layer=1, n_head=1, n_embd=8, block_size=4, vocab_size=5))
    model.init_weights(0)
    objective = NextTokenObjective(torch.ones(5, dtype=torch.long))
    empty = masked_batch()
    full = {"ids": torch.tensor([[1, 2, 3, 4]]), "targets": torch.tensor([[2, 3, 4, IGNORE_INDEX]])}
    assert objective.counts(empty) == {"loss": 0, "correct": 0, "tokens": 0, "bytes": 0}
    loss = weighted_loss(objective, objective.sums(model, empty), objective.counts(empty))
    loss.backward()
    assert loss.item() == 0.0
    assert all(float(p.grad.abs().max()) == 0.0 for p in model.parameters() if p.grad is not None)
    model.zero_grad()
    totals = objective.counts(full)
    for batch in (full, empty):
        weighted_loss(objective, objective.sums(model, batch), totals).backward()
    both = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    F.cross_entropy(model(full["ids"])[0, :3], full["targets"][0, :3]).backward()
    alone = [p.grad for p in model.parameters() if p.grad is not None]
    for one, other in zip(both, alone, strict=True):
        torch.testing.assert_close(one, other)


def test_report_gives_nats_per_token_bits_per_byte_and_accuracy() -> None:
    objective = NextTokenObjective(torch.tensor([0, 1, 3]))
    counts = objective.counts({"targets": torch.tensor([[0, 1, 2], [2, IGNORE_INDEX, IGNORE_INDEX]])})
    assert counts == {"loss": 4, "correct": 4, "tokens": 4, "bytes": 7}
    figures = objective.metrics({"loss": 14 * math.log(2), "correct": 1.0}, counts)
    assert figures == pytest.approx({"loss": 3.5 * math.log(2), "accuracy": 0.25, "bits_per_byte": 2.0})
    assert "bits_per_byte" not in objective.metrics(
        {"loss": 1.0, "correct": 0.0}, {"loss": 2, "correct": 2, "bytes": 0}
    )


ON_A_RANK = """
import os, signal, sys
from pathlib import Path
from penna import api
from penna.config.recipe import load_recipe
recipe, folder, stop = load_recipe(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
def on_event(event):
    if type(event).__name__ == "Logged" and event.row["step"] == stop:
        os.kill(os.getpid(), signal.SIGTERM)
if (folder / "ranks" / "recipe.toml").exists():
    api.resume("ranks", runs_dir=folder, on_event=on_event)
else:
    api.train_recipe(recipe, name="ranks", runs_dir=folder, on_event=on_event)
"""


def on_two_ranks(tmp_path: Path, fields: dict[str, Any], *, stop: int = 0) -> RunFolder:
    """Train (or go on) as torchrun would with two processes; ``stop`` signals rank 0 alone at that step."""
    (tmp_path / "recipe.toml").write_text(recipe_toml(tiny_recipe(tmp_path, fields)))
    script = tmp_path / "on_a_rank.py"
    script.write_text(ON_A_RANK)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = python(
        "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1", "--master-port",
        str(port), str(script), str(tmp_path / "recipe.toml"), str(tmp_path), str(stop),
    )  # fmt: skip
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, out + err
    return RunFolder(tmp_path / "ranks")


# Two rows at a time: the last micro-batch of the epoch is a single row, so the second rank has none.
TWO_ROWS = {**AN_EPOCH_AND_A_STEP, "train.batch_size": 2, "train.accumulation": 4}


def test_two_ranks_equal_one_even_if_one_of_them_has_no_rows(tmp_path: Path) -> None:
    one, _ = api.train_recipe(tiny_recipe(tmp_path, TWO_ROWS), name="one", runs_dir=tmp_path)
    assert_close(one, on_two_ranks(tmp_path, TWO_ROWS))


@pytest.mark.slow
def test_two_ranks_stopped_by_a_signal_to_one_resume_bit_identically(tmp_path: Path) -> None:
    fields = {**TWO_ROWS, "model.dropout": 0.1, "train.steps": 6}
    cut = on_two_ranks(tmp_path, fields, stop=3)
    last = cut.checkpoint("last")
    assert last is not None
    assert last.name == "step-00000003"
    assert cut.info()["state"] == "stopped"
    on_two_ranks(tmp_path, fields)
    cut.path.rename(tmp_path / "cut")
    assert_same_bits(RunFolder(tmp_path / "cut"), on_two_ranks(tmp_path, fields))
