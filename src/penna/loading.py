"""Load a model for inference from a run, a checkpoint, a Hugging Face folder or the hub."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from penna.config.recipe import expand_path
from penna.config.sections import ModelConfig
from penna.config.tasks import ClassifyTask, PretrainTask, TaskConfig
from penna.errors import RunError
from penna.interop.hf_folder import HUB_PREFIX, download_from_hub, read_hf
from penna.model.gpt import GPT
from penna.model.linear import fastest_matmul
from penna.model.precision import Dtype, convert_weights
from penna.model.seq2seq import build_model
from penna.runs.checkpoint import MODEL, read_tensors, verify_checkpoint
from penna.runs.folder import RunFolder, find_run
from penna.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode, its tokenizer and its origin."""

    model: GPT
    tokenizer: Tokenizer | None
    source: Path
    run: RunFolder | None  # None for a Hugging Face model
    default_task: TaskConfig = PretrainTask()  # noqa: RUF009 - frozen; the task if there is no run

    @property
    def task(self) -> TaskConfig:
        """The task that the model was trained for."""
        return self.default_task if self.run is None else self.run.recipe().task

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of a classifier, in the order of its head's rows; empty for other models."""
        task = self.task
        return tuple(task.labels) if isinstance(task, ClassifyTask) else ()

    @property
    def starts_documents(self) -> bool:
        """Whether all training sequences started with the document separator, so that prompts should, too."""
        return self.run is not None and self.run.recipe().data.windows == "documents"

    def require_run(self) -> RunFolder:
        """The run. Raises RunError if the model is not from a run."""
        if self.run is None:
            raise RunError(
                f"{self.source} is not a run, so it has no data of its own.",
                "A run folder or one of its checkpoints is needed.",
                "Or name the text: --data.path FILE.",
            )
        return self.run

    def require_tokenizer(self) -> Tokenizer:
        """The tokenizer. Raises RunError if the model has none."""
        if self.tokenizer is None:
            raise RunError(
                f"{self.source} has no tokenizer.",
                "Texts can only be processed with the model's tokenizer.",
                "Put its tokenizer.json (or vocab.json and merges.txt) into the folder, and import it again.",
            )
        return self.tokenizer


def load_model(target: str, *, runs_dir: Path, device: torch.device, dtype: Dtype = "float32") -> LoadedModel:
    """Load a run (its best checkpoint), a checkpoint, a Hugging Face folder or a model of the hub, for inference.

    Raises DeviceError for int8 on other devices than a CPU.
    """
    folder = hf_folder(target)
    if folder is not None:
        hf_model = read_hf(folder)
        model = _build(hf_model.config, hf_model.weights, device, dtype)
        return LoadedModel(model, hf_model.tokenizer, folder, None, hf_model.task)
    run, checkpoint = find_run_and_checkpoint(target, runs_dir)
    checkpoint = checkpoint or run.default_checkpoint()
    if checkpoint is None:
        raise RunError(
            f"The run {run.path} has no checkpoint yet.",
            "The first checkpoint is written before the first step.",
            f"Resume the run: `penna resume {run.path}`.",
        )
    verify_checkpoint(checkpoint)
    tokenizer = Tokenizer.load(run.tokenizer) if run.tokenizer.exists() else None
    model = _build(run.recipe().model, read_tensors(checkpoint / MODEL), device, dtype)
    return LoadedModel(model, tokenizer, checkpoint, run)


def load_task(target: str, runs_dir: Path) -> TaskConfig:
    """The task of a run, a checkpoint or a Hugging Face folder."""
    folder = hf_folder(target)
    return find_run_and_checkpoint(target, runs_dir)[0].recipe().task if folder is None else read_hf(folder).task


def _build(config: ModelConfig, weights: Mapping[str, torch.Tensor], device: torch.device, dtype: Dtype) -> GPT:
    model = build_model(config)
    model.load_state_dict(weights)
    model.use_matmul(fastest_matmul(device))
    model = model.to(device).eval().requires_grad_(False)
    convert_weights(model, dtype)
    return model


def hf_folder(target: str) -> Path | None:
    """The folder if the target is a Hugging Face model: a local folder, or ``hf://owner/name``; otherwise None."""
    if target.startswith(HUB_PREFIX):
        return download_from_hub(target)
    path = expand_path(target)
    return path if (path / "config.json").is_file() and not (path / "recipe.toml").is_file() else None


def find_run_and_checkpoint(target: str, runs_dir: Path) -> tuple[RunFolder, Path | None]:
    """The run of a name or path, and the checkpoint if the path is that of a checkpoint."""
    path = Path(target)
    if path.is_dir() and path.resolve().parent.name == "checkpoints":
        return find_run(str(path.resolve().parent.parent), runs_dir), path.resolve()
    return find_run(target, runs_dir), None
