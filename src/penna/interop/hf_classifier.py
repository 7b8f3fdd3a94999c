"""Classifiers in Hugging Face's format: labels in config.json, the padding token, and separators around texts.

``transformers`` classifies from the last token that is not ``pad_token_id``. Penna's texts end with the separator, so
padding must be another control token: the tokenizer's own, or ``<|pad|>``, added with an embedding of zeros. The
exported tokenizer puts separators around texts and between pairs, as in training.
"""

from __future__ import annotations

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
from penna.interop.hf_files import format_json
from penna.tokenizer.special_tokens import with_special_tokens
from penna.tokenizer.tokenizer import Tokenizer

_LM_HEAD = "lm_head.weight"
_PAD = "<|pad|>"
_PAD_NAMES = (_PAD, "<pad>", "[PAD]")
_PROBLEM_TYPES = (None, "single_label_classification")


def labels_from_json(content: Mapping[str, Any]) -> tuple[str, ...]:
    """The labels in the config.json of a classifier, in the order of its head's rows.

    Without names they are LABEL_0 and so on, two by default, as in ``transformers``. Raises ValueError naming the field
    if the model does not assign one of several labels.
    """
    if content.get("problem_type") not in _PROBLEM_TYPES:
        problem_type = format_json(content["problem_type"])
        raise ValueError(f"problem_type = {problem_type}: only one label per text is supported")
    names: Any = content.get("id2label")
    if names is None:
        count: Any = content.get("num_labels", 2)
        names = {str(index): f"LABEL_{index}" for index in range(count if isinstance(count, int) else 0)}
    by_id = cast("dict[str, Any]", names) if isinstance(names, dict) else {}
    labels = [by_id.get(str(index)) for index in range(len(by_id))]
    if not all(isinstance(label, str) for label in labels) or len(set(labels)) != len(labels):
        raise ValueError(f"id2label = {format_json(names)}: every id from 0 on needs a name of its own")
    if len(labels) < 2:
        raise ValueError(f"{len(labels)} labels: at least two are needed")
    return tuple(map(str, labels))


@dataclass(frozen=True)
class ClassifierExport:
    """The content of an exported classifier's folder."""

    config: ModelConfig
    weights: dict[str, Tensor]
    tokenizer: Tokenizer | None
    fields: dict[str, Any]  # of config.json


def export_classifier(
    config: ModelConfig, weights: Mapping[str, Tensor], tokenizer: Tokenizer | None, task: TaskConfig, name: str
) -> ClassifierExport:
    """Convert a model with a classification head for the Hugging Face class ``name``.

    An LM head of its own (``tie`` off) is dropped, because the class has none. For a task other than classify the
    labels are LABEL_0 and so on. Raises InteropError if the model classifies from other tokens than the last.
    """
    if isinstance(task, ClassifyTask) and task.pooling != "last":
        raise InteropError(
            f"This model classifies from all tokens: task.pooling = {format_json(task.pooling)}.",
            f'{name} classifies from the last token only: pooling = "last".',
            "To export a model, train it with --task.pooling last. This model remains usable in Penna.",
        )
    labels = list(task.labels) if isinstance(task, ClassifyTask) else [f"LABEL_{n}" for n in range(config.n_class or 0)]
    if len(labels) != config.n_class:
        raise InteropError(
            f"The model has {config.n_class} classes, but the task has {len(labels)} labels.",
            "Every row of the head needs a label.",
            "Export the run with its original recipe.toml.",
        )
    pad_id = config.rows
    if tokenizer is not None:
        tokenizer, pad_id = _add_padding_and_separators(tokenizer, config.block_size)
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


def _add_padding_and_separators(tokenizer: Tokenizer, block_size: int) -> tuple[Tokenizer, int]:
    """A tokenizer that, in transformers, puts separators around texts and pads on the right; and its padding id."""
    separator = tokenizer.separator_id
    existing = [name for name in _PAD_NAMES if tokenizer.special_tokens.get(name, separator) != separator]
    pad = existing[0] if existing else _PAD
    padded = with_special_tokens(tokenizer, [pad])
    inner = tokenizers.Tokenizer.from_str(padded._inner.to_str())
    if separator is not None:
        token = inner.id_to_token(separator)
        inner.post_processor = processors.TemplateProcessing(
            single=[token, "$A", token],
            pair=[token, "$A", token, "$B", token],
            special_tokens=[(token, separator)],
        )
    settings = {**padded._settings, "pad_token": pad, "padding_side": "right", "model_max_length": block_size}
    return Tokenizer(inner, settings), padded.special_tokens[pad]
