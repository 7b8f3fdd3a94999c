"""Models that tell classes, as Hugging Face keeps them: the labels in config.json, the pad token, what frames a text.

Reading, in comes the content of a config.json and out come the labels. Writing, in comes a model with a head for
classes and out comes what its folder is to hold. ``transformers`` reads the classes behind the last token that is not
``pad_token_id``. Penna's ids end in the separator, so the separator must not be that token; it is a control token of
its own, the tokenizer's, or ``<|pad|>``, added with a row of zeros. Since what frames a text is part of what was
learned, the tokenizer is written so that ``transformers`` puts the separators around a text, and between a pair, too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import tokenizers
import torch
from tokenizers import processors
from torch import Tensor

from penna.config.sections import ModelConfig
from penna.config.tasks import ClassifyTask, TaskConfig
from penna.errors import InteropError
from penna.tokenizer.special_tokens import with_special_tokens
from penna.tokenizer.tokenizer import Tokenizer

_LM_HEAD = "lm_head.weight"
_PAD = "<|pad|>"
_PAD_NAMES = (_PAD, "<pad>", "[PAD]")
_PROBLEMS = (None, "single_label_classification")


def labels_from_json(given: Mapping[str, Any]) -> tuple[str, ...]:
    """The labels of a classifier's config.json, in the order of its head's rows.

    Those of a file that names none are ``transformers``' own, LABEL_0 and on, two unless it says how many. Raises
    ValueError, which names the field, where they are not labels of which each text has one.
    """
    if given.get("problem_type") not in _PROBLEMS:
        raise ValueError(f"problem_type = {_shown(given['problem_type'])}: a text has one of several labels here")
    named: Any = given.get("id2label")
    if named is None:
        count: Any = given.get("num_labels", 2)
        named = {str(index): f"LABEL_{index}" for index in range(count if isinstance(count, int) else 0)}
    by_id = cast("dict[str, Any]", named) if isinstance(named, dict) else {}
    labels = [by_id.get(str(index)) for index in range(len(by_id))]
    if not all(isinstance(label, str) for label in labels) or len(set(labels)) != len(labels):
        raise ValueError(f"id2label = {_shown(named)}: only one name for each id from 0 on is understood")
    if len(labels) < 2:
        raise ValueError(f"{len(labels)} labels: only two or more are understood")
    return tuple(map(str, labels))


@dataclass(frozen=True)
class ClassifierExport:
    """What the folder of a classifier holds."""

    config: ModelConfig
    weights: dict[str, Tensor]
    tokenizer: Tokenizer | None
    fields: dict[str, Any]  # of config.json


def export_classifier(
    config: ModelConfig, weights: Mapping[str, Tensor], tokenizer: Tokenizer | None, task: TaskConfig, name: str
) -> ClassifierExport:
    """A model with a head for classes as the class ``name`` holds it.

    That class predicts no tokens: an LM head of its own (``tie`` off) is left out. A task other than classify has no
    labels; they are then LABEL_0 and on. Raises ExchangeError where the classes are read from more than the last token.
    """
    if isinstance(task, ClassifyTask) and task.pooling != "last":
        raise InteropError(
            f"This model reads the classes from all tokens: task.pooling = {_shown(task.pooling)}.",
            f'{name} reads them from the last token alone: pooling = "last".',
            "Train with --task.pooling last to export it; this one stays usable in Penna as it is.",
        )
    labels = list(task.labels) if isinstance(task, ClassifyTask) else [f"LABEL_{n}" for n in range(config.n_class or 0)]
    if len(labels) != config.n_class:
        raise InteropError(
            f"The model tells {config.n_class} classes, and the task names {len(labels)}.",
            "Expected a label for each row of the head.",
            "Export the run as it was trained, with its recipe.toml.",
        )
    pad_id = config.rows
    if tokenizer is not None:
        tokenizer, pad_id = _framing(tokenizer, config.block_size)
    rows = max(config.rows, pad_id + 1)
    embedding = weights["wte.weight"]
    zeros = torch.zeros(rows - len(embedding), embedding.shape[1], dtype=embedding.dtype, device=embedding.device)
    return ClassifierExport(
        config.model_copy(update={"vocab_size": rows, "tie": True}),
        {
            **{weight: tensor for weight, tensor in weights.items() if weight != _LM_HEAD},
            "wte.weight": torch.cat((embedding, zeros)),
        },
        tokenizer,
        {
            "id2label": {str(index): label for index, label in enumerate(labels)},
            "label2id": {label: index for index, label in enumerate(labels)},
            "problem_type": "single_label_classification",
            "pad_token_id": pad_id,
        },
    )


def _framing(tokenizer: Tokenizer, block_size: int) -> tuple[Tokenizer, int]:
    """A tokenizer that, outside of Penna, puts separators around texts and fills up behind them; its pad id."""
    separator = tokenizer.separator_id
    there = [name for name in _PAD_NAMES if tokenizer.special_tokens.get(name, separator) != separator]
    pad = there[0] if there else _PAD
    padding = with_special_tokens(tokenizer, [pad])
    inner = tokenizers.Tokenizer.from_str(padding._inner.to_str())
    if separator is not None:
        between = inner.id_to_token(separator)
        inner.post_processor = processors.TemplateProcessing(
            single=[between, "$A", between],
            pair=[between, "$A", between, "$B", between],
            special_tokens=[(between, separator)],
        )
    settings = {**padding._settings, "pad_token": pad, "padding_side": "right", "model_max_length": block_size}
    return Tokenizer(inner, settings), padding.special_tokens[pad]


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
