"""A recipe of every task, with rows of very unequal lengths. A run takes a tenth of a second.

Thirteen records make an epoch of 8 rows and one of 5 (with an encoder, 19 replies: 8, 8 and 3), so its last step has an
odd number of rows. The validation part is scored in several batches.
"""

import json
from pathlib import Path
from typing import Any

from tiny_runs import tiny_recipe, words

from penna.config.recipe import build_recipe, merge
from penna.config.schema import Recipe

RECORDS, VALID_RECORDS = 13, 11
ENCODER = {"model.arch": "seq2seq", "model.source_size": 512, "model.n_encoder_layer": 1}
SUBWORDS = {"tokenizer.kind": "unigram", "tokenizer.vocab_size": 300, "task.subword_sampling": 0.2}

TASKS: dict[str, dict[str, Any]] = {
    "pretrain": {"task.kind": "pretrain", "data.document": "line", "data.windows": "documents"},
    "classify": {"task.kind": "classify", "task.lm_weight": 0.5},
    "classify-label-alone": {
        "task.kind": "classify",
        "task.lm_weight": 0.0,
        "task.class_weights": "balanced",
        "model.tie": False,
    },
    "classify-subwords-drawn": {"task.kind": "classify", "task.pooling": "mean", **SUBWORDS},
    "chat": {"task.kind": "chat"},
    "chat-seq2seq": {"task.kind": "chat", **ENCODER},
    "complete": {"task.kind": "complete"},
    "complete-seq2seq": {"task.kind": "complete", **ENCODER},
}


def task_recipe(folder: Path, case: str, overrides: dict[str, Any] | None = None) -> Recipe:
    """The recipe of one of ``TASKS``, its records written to ``folder``: without dropout, logging every step."""
    fields = TASKS[case]
    kind = fields["task.kind"]
    files = {part: folder / f"{kind}-{part}.{'txt' if kind == 'pretrain' else 'jsonl'}" for part in ("train", "valid")}
    files["train"].write_text("\n".join(_lines(kind, range(RECORDS), 1)), encoding="utf-8")
    # Classification evaluates in batches of up to 8192 tokens: make more than one.
    longer = 24 if kind == "classify" else 1
    files["valid"].write_text("\n".join(_lines(kind, range(90, 90 + VALID_RECORDS), longer)), encoding="utf-8")
    table = tiny_recipe(folder).model_dump()
    data = {"path": [str(files["train"])], "valid_path": [str(files["valid"])]}
    # Language is scored 8192 // block_size rows at a time: here 4, so 11 rows are three batches.
    base = {"data": data, "model": {"n_layer": 1, "n_head": 2, "n_embd": 16, "block_size": 2048, "dropout": 0.0}}
    train = {**{name: value for name, value in table["train"].items() if value is not None}, "steps": 5}
    return build_recipe(
        merge(
            {**base, "tokenizer": {"kind": "char"}, "optim": {"kind": "adamw", "learning_rate": 1e-3}, "train": train},
            {**fields, **(overrides or {})},
        )
    )


def _lines(kind: str, numbers: range, longer: int) -> list[str]:
    if kind == "pretrain":
        return [_text(number) for number in numbers]
    return [json.dumps(_record(kind, number, longer)) for number in numbers]


def _record(kind: str, number: int, longer: int) -> dict[str, Any]:
    if kind == "classify":
        return {"text": words(number, longer * (number % 7 * 2)), "label": "even" if number % 3 else "odd"}
    if kind == "complete":
        return {"prompt": _text(number), "completion": words(number + 500, 1 + number * 5 % 9)}
    turns = [
        {"role": role, "content": words(10 * number + place, 1 + (3 * number + place) % 6)}
        for place, role in enumerate(["user", "assistant"] * (1 + number % 2))
    ]
    return {"messages": turns}


def _text(number: int) -> str:
    return words(number, 1 + number % 6 * 3)
