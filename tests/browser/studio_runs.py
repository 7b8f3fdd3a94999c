"""Runs for the browser tests: one of every task, trained for a few seconds on simple sentences."""

from __future__ import annotations

import json
import random
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penna.api.train import train_recipe
from penna.config.recipe import build_recipe, merge
from penna.train.events import Event, Logged

ANIMALS = ("cat", "dog", "bird", "fox", "hare", "owl")
PLACES = ("river", "garden", "house", "forest", "bridge")
VERBS = ("sleeps", "waits", "sings", "runs", "hides")
GOOD, BAD = ("warm", "bright", "lovely", "funny"), ("cold", "dull", "boring", "sad")
MODEL = {"n_layer": 2, "n_head": 2, "n_embd": 32, "block_size": 64}
LONG = 40_000  # steps of a run that a test stops; minutes of training otherwise


@dataclass(frozen=True)
class Served:
    """A running studio."""

    address: str
    runs_dir: Path
    data_dir: Path


class Stop(Exception):  # noqa: N818 - no error: how a run is ended before its time
    """Ends a training from its event callback."""


def story(draw: random.Random, sentences: int = 4) -> str:
    """A few sentences about animals in places."""
    return " ".join(
        f"The {draw.choice(ANIMALS)} {draw.choice(VERBS)} by the {draw.choice(PLACES)}." for _ in range(sentences)
    )


def write_data(folder: Path, count: int = 160) -> dict[str, Path]:
    """Write a text file for every task; return the files by task."""
    draw = random.Random(7)
    files = {task: folder / name for task, name in {
        "pretrain": "stories.txt", "chat": "talks.jsonl", "classify": "reviews.jsonl", "complete": "summaries.jsonl",
    }.items()}  # fmt: skip
    files["pretrain"].write_text("\n".join(story(draw) for _ in range(count)), encoding="utf-8")
    rows: dict[str, list[dict[str, Any]]] = {"chat": [], "classify": [], "complete": []}
    for _ in range(count):
        animal, place, label = draw.choice(ANIMALS), draw.choice(PLACES), draw.choice(("good", "bad"))
        rows["chat"].append(
            {"messages": [
                {"role": "user", "content": f"What does the {animal} do by the {place}?"},
                {"role": "assistant", "content": f"The {animal} {VERBS[ANIMALS.index(animal) % len(VERBS)]} by the {place}."},
            ]}
        )  # fmt: skip
        word = draw.choice(GOOD if label == "good" else BAD)
        rows["classify"].append({"text": f"A {word} film about the {animal} by the {place}.", "label": label})
        source = story(draw, 2)
        rows["complete"].append({"prompt": source, "completion": source.split(". ")[0].rstrip(".") + "."})
    for task, records in rows.items():
        files[task].write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    return files


def recipe_table(file: Path, task: str, steps: int) -> dict[str, Any]:
    """A recipe as a dictionary: one thread, frequent logging."""
    return {
        "data": {"path": [str(file)], "valid_fraction": 0.15},
        "tokenizer": {"kind": "bpe", "vocab_size": 340},
        "model": MODEL,
        "task": {"kind": task},
        "optim": {"learning_rate": 5e-3},
        "train": {
            "device": "cpu", "threads": 1, "matmul": "blas", "compile": "off", "steps": steps, "batch_size": 8,
            "log_every": 5, "evaluate_every": 20, "checkpoint_every": 20, "sample_tokens": 24,
        },
    }  # fmt: skip


def make_runs(runs_dir: Path, data_dir: Path) -> None:
    """Train ``stories``, ``talks``, ``reviews`` and ``summaries``, and ``tales``, which is interrupted."""
    files = write_data(data_dir)
    for task, file in files.items():
        table = recipe_table(file, task, 120)
        if task == "pretrain":
            table = merge(table, {"data.document": "line"})
        train_recipe(build_recipe(table), name=file.stem, runs_dir=runs_dir)
    table = merge(recipe_table(files["pretrain"], "pretrain", LONG), {"data.document": "line"})

    def on_event(event: Event) -> None:
        if isinstance(event, Logged) and event.row["step"] >= 40:
            raise Stop

    with suppress(Stop):
        train_recipe(build_recipe(table), name="tales", runs_dir=runs_dir, on_event=on_event)
