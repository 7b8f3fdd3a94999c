"""Hugging Face model folders, read and written: config.json, safetensors, tokenizer files.

``read_hf`` turns a folder into values (configuration, weights under Penna's names, tokenizer); ``write_hf`` turns
values into a folder that ``transformers`` and its relatives load. Nothing of ``transformers`` is imported: the formats
are plain. What a class can hold is in ``classes``, how its weights are laid out in ``layouts``, its files in
``tensors``.
"""

from __future__ import annotations

import importlib
import re
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from penna.config.sections import ModelConfig
from penna.config.tasks import ClassifyTask, PretrainTask, TaskConfig
from penna.errors import InteropError
from penna.interop.hf_classifier import export_classifier
from penna.interop.hf_config import choose_hf_class, config_from_json, config_to_json
from penna.interop.hf_files import SINGLE, read_json_object, read_weights, write_json_object
from penna.interop.hf_weights import weights_from_hf, weights_to_hf
from penna.model.gpt import sinusoidal_table
from penna.tokenizer.files import TOKENIZER_FILE
from penna.tokenizer.load import MERGES_FILE, MODEL_SUFFIX, VOCAB_FILE, WORDPIECE_FILE
from penna.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class HFModel:
    """A foreign model as values: ``GPT(config).load_state_dict(weights)`` is that model, in float32."""

    config: ModelConfig
    weights: dict[str, Tensor]
    tokenizer: Tokenizer | None
    labels: tuple[str, ...] = ()  # a classifier's, in the order of its head's rows

    @property
    def task(self) -> TaskConfig:
        """What it was made for: to classify where it has labels, else to go on with text."""
        return ClassifyTask(labels=list(self.labels), lm_weight=0) if self.labels else PretrainTask()


def read_hf(folder: Path, *, allow_pickle: bool = False) -> HFModel:
    """Read a Hugging Face folder of a GPT2LMHeadModel, OpenAIGPTLMHeadModel or Qwen3ForCausalLM, or of the class with a
    head for classes (``…ForSequenceClassification``) beside each.

    Weights may be safetensors, whole or in shards, or, with ``allow_pickle``, a pytorch_model.bin. ``ExchangeError``
    says what is missing, damaged, or more than Penna's model can do.
    """
    description = folder / "config.json"
    if not description.is_file():
        there = "is not a folder" if not folder.is_dir() else "holds no config.json"
        raise InteropError(
            f"{folder} {there}.",
            "Expected a Hugging Face model folder: config.json beside its weights.",
            "Give the folder that the model was downloaded to or saved in.",
        )
    foreign, config, labels = config_from_json(read_json_object(description), description)
    weights = weights_from_hf(read_weights(folder, allow_pickle), config, foreign, str(folder))
    tokenizer = Tokenizer.load(folder) if has_tokenizer(folder) else None
    if tokenizer is not None:
        _check_tokenizer(tokenizer, config)
    return HFModel(config, weights, tokenizer, labels)


def hf_class(config: ModelConfig) -> str:
    """The Hugging Face class that holds this model; ``ExchangeError`` names the fields that none holds."""
    return choose_hf_class(config).architecture_name(config)


def write_hf(
    config: ModelConfig,
    weights: Mapping[str, Tensor],
    output: Path,
    *,
    tokenizer: Tokenizer | None,
    task: TaskConfig | None = None,
) -> str:
    """Write the model as a Hugging Face folder, whole or not at all, and give back the class's name.

    ``weights`` is Penna's state dict. Sinusoidal positions are written as the learned ones they equal. A model with a
    head for classes (``n_class``) goes to ``…ForSequenceClassification``, with the labels of ``task``. ``output`` must
    not exist, or be an empty folder.
    """
    foreign = choose_hf_class(config)
    if tokenizer is not None:
        _check_tokenizer(tokenizer, config)
    output = output.resolve()
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InteropError(
            f"{output} exists and is not an empty folder.",
            "Expected a new or empty folder, so that nothing is overwritten or mixed.",
            "Choose another one, or remove it first.",
        )
    if config.positions == "sinusoidal":
        table = sinusoidal_table(config.block_size, config.n_embd, config.position_scale)
        config, weights = config.model_copy(update={"positions": "learned"}), {**weights, "wpe.weight": table}
    fields: dict[str, Any] = {}
    if config.n_class is not None:
        made = export_classifier(config, weights, tokenizer, task or PretrainTask(), foreign.classifier_name)
        config, weights, tokenizer, fields = made.config, made.weights, made.tokenizer, made.fields
    tensors = weights_to_hf(weights, config, foreign)
    separator = None if tokenizer is None else tokenizer.separator_id
    staging = output.parent / f".{output.name}.{uuid.uuid4().hex}.partial"
    try:
        staging.mkdir(parents=True)
        write_json_object(staging / "config.json", {**config_to_json(config, foreign, separator), **fields})
        if config.n_class is None:
            write_json_object(
                staging / "generation_config.json",
                {"_from_model_config": True, "bos_token_id": separator, "eos_token_id": separator},
            )
        save_file(tensors, staging / SINGLE, metadata={"format": "pt"})
        # safetensors lets only its owner read a file; whoever may read the one may read the other.
        (staging / SINGLE).chmod((staging / "config.json").stat().st_mode & 0o777)
        if tokenizer is not None:
            tokenizer.save(staging)
        if output.exists():
            output.rmdir()
        staging.rename(output)
    except (OSError, SafetensorError) as error:
        raise InteropError(
            f"{output} cannot be written: {error}.",
            "Expected a place to write to, with room for the model.",
            "Choose another folder, or make room.",
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return foreign.architecture_name(config)


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds a tokenizer in a form that stands by itself."""
    names = {file.name for file in folder.iterdir() if file.is_file()}
    whole = not names.isdisjoint((TOKENIZER_FILE, WORDPIECE_FILE)) or {VOCAB_FILE, MERGES_FILE} <= names
    return whole or any(name.endswith(MODEL_SUFFIX) for name in names)


def _check_tokenizer(tokenizer: Tokenizer, config: ModelConfig) -> None:
    """Every id the tokenizer gives must have a row in the embedding."""
    if tokenizer.vocab_size > config.rows:
        raise InteropError(
            f"The tokenizer has {tokenizer.vocab_size:,} tokens, the model embeds {config.rows:,}.",
            "Expected a row for every token.",
            "Use the tokenizer this model was trained with.",
        )


# MERGED interop.hub
#
# What has been downloaded once is found in the hub's own cache from then on, also where the hub cannot be reached. Only
# what Penna reads is asked for, and no pickles. The library ``huggingface_hub`` is not Penna's own: where it or the hub
# is missing, the error says how the same files come as a folder.


HUB_PREFIX = "hf://"
_NAME = re.compile(r"hf://([\w.-]+(?:/[\w.-]+)?)")
_WANTED = ("*.json", "*.safetensors", "vocab.txt", "merges.txt", "*.model", "*.jinja")


def download_from_hub(target: str) -> Path:
    """The local folder of a model of the hub. Raises ExchangeError where its files cannot be had."""
    match = _NAME.fullmatch(target)
    if match is None:
        raise InteropError(
            f"{target!r} names no model of the Hugging Face hub.",
            "hf://owner/name, as in hf://openai-community/gpt2.",
            "Check the spelling.",
        )
    try:
        library: Any = importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise _not_at_hand(match[1], "the library huggingface_hub is not installed") from error
    try:
        return Path(library.snapshot_download(match[1], allow_patterns=list(_WANTED)))
    except Exception as error:  # the library raises whatever its own libraries raise
        reason = str(error).strip().splitlines() or [""]
        raise _not_at_hand(match[1], f"{type(error).__name__}: {reason[0]}") from error


def _not_at_hand(name: str, reason: str) -> InteropError:
    folder = name.rpartition("/")[2]
    return InteropError(
        f"{HUB_PREFIX}{name} cannot be fetched: {reason}.",
        "A model of the hub is fetched with the library huggingface_hub, where the hub can be reached.",
        f"Without it, download the model where there is a network (hf download {name} --local-dir {folder}), copy the "
        f"folder here and give its path in place of {HUB_PREFIX}{name}.",
    )
