"""Helpers of the training tests: runs so small that they take a twentieth of a second."""

import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from penna.config.recipe import build_recipe, merge
from penna.config.schema import Recipe
from penna.runs.checkpoint import MODEL, OPTIMIZER
from penna.runs.folder import RunFolder
from penna.train.events import Event, Logged

BLOCK = 16


class InterruptedByTest(BaseException):
    """Raised by an event handler to simulate a crash."""


def words(seed: int, count: int) -> str:
    """Deterministic nonsense text of about 5.5 characters per word."""
    source = random.Random(seed)
    return " ".join("".join(source.choices("abcdefgh", k=source.randint(2, 7))) for _ in range(count))


def tiny_recipe(tmp_path: Path, overrides: dict[str, Any] | None = None, *, text: str | None = None) -> Recipe:
    """A recipe for 300 words (about 93 rows of 16), one layer of width 16, logging and saving at every step."""
    file = tmp_path / "text.txt"
    file.write_text(text if text is not None else words(0, 300), encoding="utf-8")
    table = {
        "data": {"path": [str(file)]},
        "tokenizer": {"kind": "char"},
        "model": {"n_layer": 1, "n_head": 2, "n_embd": 16, "block_size": BLOCK},
        "optim": {"kind": "adamw", "learning_rate": 3e-3},
        "train": {
            "device": "cpu",
            "matmul": "blas",
            "threads": 1,
            "compile": "off",
            "steps": 4,
            "batch_size": 8,
            "log_every": 1,
            "evaluate_every": 2,
            "checkpoint_every": 1,
            "sample_tokens": 0,
        },
    }
    return build_recipe(merge(table, overrides or {}))


def tensors(run: RunFolder, link: str = "last") -> dict[str, Tensor]:
    """The weights and optimizer tensors of a run's checkpoint in one dictionary."""
    checkpoint = run.checkpoint(link)
    assert checkpoint is not None
    return {
        f"{file}:{name}": tensor for file in (MODEL, OPTIMIZER) for name, tensor in load_file(checkpoint / file).items()
    }


def assert_same_bits(first: RunFolder, second: RunFolder) -> None:
    """Assert that both runs have the same last weights and optimizer state, byte for byte."""
    one, other = tensors(first), tensors(second)
    assert one.keys() == other.keys()
    different = [name for name in one if one[name].numpy().tobytes() != other[name].numpy().tobytes()]
    assert not different, f"{len(different)} of {len(one)} tensors differ, first {different[0]}"


def losses(run: RunFolder, split: str) -> dict[int, float]:
    """The losses of a split by step. Every step must be logged once."""
    rows = [row for row in run.metrics() if row["split"] == split]
    by_step = {row["step"]: row["loss"] for row in rows}
    assert len(by_step) == len(rows), f"a step was logged twice: {[row['step'] for row in rows]}"
    return by_step


def at_step(step: int, act: Callable[[], None]) -> Callable[[Event], None]:
    """An event handler that calls ``act`` when a training row of this step is logged."""

    def on_event(event: Event) -> None:
        if isinstance(event, Logged) and event.row["step"] == step:
            act()

    return on_event


def interrupt() -> None:
    """Raise an error that Penna does not catch."""
    raise InterruptedByTest


def python(*arguments: str) -> subprocess.Popen[str]:
    """A separate Python process with one thread and without a GPU."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )
