"""Cost of a training batch: the time to read one as a share of the training step that it feeds.

    python benchmarks/loader.py

The step is measured in a run with 4 layers × 128, context 64 and batch 12 on all cores, trained on Python's
documentation. Then batches are read alone: from the same run, and from 24 million tokens in several shard files.
Medians of several rounds are printed.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Generator, Mapping
from pathlib import Path

import numpy as np

TARGET = 0.02
BLOCK, BATCH, STEPS = 64, 12, 100
TURNS = 3
MANY_TOKENS, DOCUMENT = 24_000_000, 1000

OVERRIDES = {
    "tokenizer.kind": "char",
    "model.preset": "gpt2",
    "model.n_layer": 4,
    "model.n_head": 4,
    "model.n_embd": 128,
    "model.block_size": BLOCK,
    "optim.kind": "adamw",
    "schedule.kind": "constant",
    "train.steps": STEPS,
    "train.batch_size": BATCH,
    "train.log_every": STEPS // 4,
    "train.evaluate_every": 10**6,
    "train.checkpoint_every": 10**6,
    "train.sample_tokens": 0,
    "train.device": "cpu",
    "train.compile": "off",
    "train.threads": os.cpu_count(),
}


def write_text(file: Path) -> None:
    """Part of the built-in text."""
    from penna.data.sources.python_text import python_documents

    file.write_text("\n".join(python_documents())[:300_000], encoding="utf-8")


def step_seconds(text: Path, folder: Path) -> float:
    """Seconds per training step, without the first quarter of the run."""
    from penna import api
    from penna.train.events import Event, Logged

    logged: list[dict[str, float]] = []

    def on_event(event: Event) -> None:
        if isinstance(event, Logged):
            logged.append(event.row)

    api.train([str(text)], OVERRIDES, runs_dir=folder, on_event=on_event)
    first, last = logged[0], logged[-1]
    return (last["seconds"] - first["seconds"]) / (last["step"] - first["step"])


def batch_seconds(shards: Path) -> float:
    """Seconds per batch, over as many batches as the run has steps."""
    from penna.data.batches import TrainingWindows
    from penna.data.shards import TokenStream

    windows = TrainingWindows(TokenStream(shards, "train"), BLOCK, seed=0)
    windows.batch(0, range(BATCH))  # draws the order of the epoch, once
    begun = time.perf_counter()
    for step in range(1, STEPS + 1):
        windows.batch(0, range(step * BATCH, (step + 1) * BATCH))
    return (time.perf_counter() - begun) / STEPS


def many_shards(folder: Path) -> Path:
    """Shards of random tokens in several files."""
    from penna.data.encode import EncodedChunks
    from penna.data.shards import write_shards

    def source(_: Mapping[str, int]) -> Generator[EncodedChunks]:
        random = np.random.default_rng(0)
        chunks = 1000
        ones = np.ones(chunks, dtype=np.int64)
        for _chunk in range(MANY_TOKENS // (DOCUMENT * chunks)):
            ids = random.integers(0, 256, DOCUMENT * chunks, dtype=np.uint32)
            yield EncodedChunks("train", ids, np.cumsum(ones * DOCUMENT), ones, ones * DOCUMENT, ones)

    write_shards(folder, source, ["train"], vocab_size=256, tokenizer_hash="", content_hash="")
    return folder


def main() -> None:
    from penna.config.recipe import load_recipe
    from penna.data.prepare import prepare

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["PENNA_CACHE"] = str(folder / "cache")
        text = folder / "text.txt"
        write_text(text)
        recipe = load_recipe("default", {**OVERRIDES, "data.path": [str(text)]})
        shards = {
            "the run's own shards": prepare(recipe.data, recipe.tokenizer).folder,
            f"{MANY_TOKENS // 10**6} million tokens": many_shards(folder / "many"),
        }
        steps: list[float] = []
        batches: dict[str, list[float]] = {shape: [] for shape in shards}
        for turn in range(TURNS):
            steps.append(step_seconds(text, folder / f"runs-{turn}"))
            for shape, place in shards.items():
                batches[shape].append(batch_seconds(place))
        step = statistics.median(steps)
        print(f"a training step: {step * 1e3:.2f} ms (4 x 128, block {BLOCK}, batch {BATCH})")
        for shape, measured in batches.items():
            seconds = statistics.median(measured)
            share = f"{seconds / step:.2%} of it (target below {TARGET:.0%})"
            print(f"a batch from {shape}: {seconds * 1e6:.0f} us, {share}")


if __name__ == "__main__":
    main()
