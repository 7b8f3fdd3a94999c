"""Hugging Face model folders: download from the hub, read, write.

A folder holds config.json (`penna.interop.hf_config`), weights (`hf_weights`, `hf_files`) and tokenizer files. The
formats are plain, so ``transformers`` is not imported.
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

HUB_PREFIX = "hf://"
_HUB_NAME = re.compile(r"hf://([\w.-]+(?:/[\w.-]+)?)")
_HUB_FILES = ("*.json", "*.safetensors", "vocab.txt", "merges.txt", "*.model", "*.jinja")  # no pickles


def download_from_hub(target: str) -> Path:
    """The local folder of ``hf://owner/name``, downloaded if it is not in the cache of ``huggingface_hub``.

    Raises InteropError, with the way to download by hand, if the library or the hub is not available.
    """
    match = _HUB_NAME.fullmatch(target)
    if match is None:
        raise InteropError(
            f"{target!r} is not a model of the Hugging Face hub.",
            "The form is hf://owner/name, for example hf://openai-community/gpt2.",
            "Check the spelling.",
        )
    try:
        library: Any = importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise _download_error(match[1], "the library huggingface_hub is not installed") from error
    try:
        return Path(library.snapshot_download(match[1], allow_patterns=list(_HUB_FILES)))
    except Exception as error:  # the library raises the exceptions of its own dependencies
        reason = str(error).strip().splitlines() or [""]
        raise _download_error(match[1], f"{type(error).__name__}: {reason[0]}") from error


def _download_error(name: str, reason: str) -> InteropError:
    folder = name.rpartition("/")[2]
    return InteropError(
        f"{HUB_PREFIX}{name} cannot be downloaded: {reason}.",
        "This needs the library huggingface_hub and a connection to the hub.",
        f"Or run `hf download {name} --local-dir {folder}` on a machine with a connection, copy the folder here, and "
        f"give its path instead of {HUB_PREFIX}{name}.",
    )


@dataclass(frozen=True)
class HFModel:
    """The content of a Hugging Face folder: ``build_model(config)`` can load ``weights`` (in float32)."""

    config: ModelConfig
    weights: dict[str, Tensor]
    tokenizer: Tokenizer | None
    labels: tuple[str, ...] = ()  # of a classifier, in the order of its head's rows

    @property
    def task(self) -> TaskConfig:
        """The task of the model: classify if it has labels, else pretrain."""
        return ClassifyTask(labels=list(self.labels), lm_weight=0) if self.labels else PretrainTask()


def read_hf(folder: Path, *, allow_pickle: bool = False) -> HFModel:
    """Read a folder of a GPT2LMHeadModel, OpenAIGPTLMHeadModel, Qwen3ForCausalLM or their classifiers.

    Weights are safetensors, as one file or in shards, or a pytorch_model.bin with ``allow_pickle``. Raises InteropError
    for anything that is missing, damaged or unsupported.
    """
    config_file = folder / "config.json"
    if not config_file.is_file():
        problem = "is not a folder" if not folder.is_dir() else "has no config.json"
        raise InteropError(
            f"{folder} {problem}.",
            "A Hugging Face model folder is needed: config.json and weights.",
            "Give the folder that the model was downloaded to or saved in.",
        )
    hf_class, config, labels = config_from_json(read_json_object(config_file), config_file)
    weights = weights_from_hf(read_weights(folder, allow_pickle), config, hf_class, str(folder))
    tokenizer = Tokenizer.load(folder) if has_tokenizer(folder) else None
    if tokenizer is not None:
        _check_tokenizer(tokenizer, config)
    return HFModel(config, weights, tokenizer, labels)


def hf_class_name(config: ModelConfig) -> str:
    """The Hugging Face class that supports this model. Raises InteropError naming fields that no class supports."""
    return choose_hf_class(config).architecture_name(config)


def write_hf(
    config: ModelConfig,
    weights: Mapping[str, Tensor],
    output: Path,
    *,
    tokenizer: Tokenizer | None,
    task: TaskConfig | None = None,
) -> str:
    """Write the model as a Hugging Face folder, atomically; returns the name of its class.

    ``weights`` is Penna's state dict. Sinusoidal positions are written as learned ones. A model with a classification
    head becomes a ``…ForSequenceClassification`` with the labels of ``task``. ``output`` must not exist or be empty.
    """
    hf_class = choose_hf_class(config)
    if tokenizer is not None:
        _check_tokenizer(tokenizer, config)
    output = output.resolve()
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InteropError(
            f"{output} exists and is not an empty folder.",
            "A new or empty folder is needed, so that nothing is overwritten.",
            "Choose another folder, or remove this one first.",
        )
    if config.positions == "sinusoidal":
        table = sinusoidal_table(config.block_size, config.n_embd, config.position_scale)
        config, weights = config.model_copy(update={"positions": "learned"}), {**weights, "wpe.weight": table}
    fields: dict[str, Any] = {}
    if config.n_class is not None:
        export = export_classifier(config, weights, tokenizer, task or PretrainTask(), hf_class.classifier_name)
        config, weights, tokenizer, fields = export.config, export.weights, export.tokenizer, export.fields
    tensors = weights_to_hf(weights, config, hf_class)
    separator = None if tokenizer is None else tokenizer.separator_id
    temporary = output.parent / f".{output.name}.{uuid.uuid4().hex}.partial"
    try:
        temporary.mkdir(parents=True)
        write_json_object(temporary / "config.json", {**config_to_json(config, hf_class, separator), **fields})
        if config.n_class is None:
            write_json_object(
                temporary / "generation_config.json",
                {"_from_model_config": True, "bos_token_id": separator, "eos_token_id": separator},
            )
        save_file(tensors, temporary / SINGLE, metadata={"format": "pt"})
        # safetensors makes the file readable by its owner only; give it the permissions of the other files.
        (temporary / SINGLE).chmod((temporary / "config.json").stat().st_mode & 0o777)
        if tokenizer is not None:
            tokenizer.save(temporary)
        if output.exists():
            output.rmdir()
        temporary.rename(output)
    except (OSError, SafetensorError) as error:
        raise InteropError(
            f"{output} cannot be written: {error}.",
            "A writable folder with enough space for the model is needed.",
            "Choose another folder, or free some space.",
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return hf_class.architecture_name(config)


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds the files of a tokenizer."""
    names = {file.name for file in folder.iterdir() if file.is_file()}
    is_complete = not names.isdisjoint((TOKENIZER_FILE, WORDPIECE_FILE)) or {VOCAB_FILE, MERGES_FILE} <= names
    return is_complete or any(name.endswith(MODEL_SUFFIX) for name in names)


def _check_tokenizer(tokenizer: Tokenizer, config: ModelConfig) -> None:
    """Every token id must have a row in the embedding."""
    if tokenizer.vocab_size > config.rows:
        raise InteropError(
            f"The tokenizer has {tokenizer.vocab_size:,} tokens, but the model has embeddings for {config.rows:,}.",
            "Every token needs an embedding.",
            "Use the tokenizer that this model was trained with.",
        )
