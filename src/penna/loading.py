"""Any model at hand: a run, a checkpoint, a Hugging Face folder or hub name in; a model ready to be used out."""

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
    """A model ready to be used, where it came from, and its tokenizer."""

    model: GPT
    tokenizer: Tokenizer | None
    source: Path
    run: RunFolder | None  # whose it is, where it is a run's
    default_task: TaskConfig = PretrainTask()  # noqa: RUF009 - frozen; the task of a model that is not a run's

    @property
    def task(self) -> TaskConfig:
        """What it learned to do."""
        return self.default_task if self.run is None else self.run.recipe().task

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes it tells, in the order of its head's rows; none where it learned to do something else."""
        task = self.task
        return tuple(task.labels) if isinstance(task, ClassifyTask) else ()

    @property
    def starts_documents(self) -> bool:
        """Whether all it has ever read began with the document separator, so that a prompt should, too."""
        return self.run is not None and self.run.recipe().data.windows == "documents"

    def require_run(self) -> RunFolder:
        """The run. Raises RunError where the model is not a run's."""
        if self.run is None:
            raise RunError(
                f"{self.source} is not a run: it has no text of its own.",
                "A run folder, or one of its checkpoints.",
                "Name the text: --data.path FILE.",
            )
        return self.run

    def require_tokenizer(self) -> Tokenizer:
        """The tokenizer. Raises RunError where the model came without one."""
        if self.tokenizer is None:
            raise RunError(
                f"{self.source} has no tokenizer.",
                "Text can be read and written only through one.",
                "Put its tokenizer.json (or vocab.json and merges.txt) into the folder and import it again.",
            )
        return self.tokenizer


def load_model(target: str, *, runs_dir: Path, device: torch.device, dtype: Dtype = "float32") -> LoadedModel:
    """The model of a run (its best checkpoint), of one checkpoint, or of a Hugging Face folder or hub name.

    It is to be used, not trained. Raises DeviceError for int8 on anything but a CPU.
    """
    path = hf_folder(target)
    if path is not None:
        foreign = read_hf(path)
        model = _ready(foreign.config, foreign.weights, device, dtype)
        return LoadedModel(model, foreign.tokenizer, path, None, foreign.task)
    run, checkpoint = find_run_and_checkpoint(target, runs_dir)
    checkpoint = checkpoint or run.default_checkpoint()
    if checkpoint is None:
        raise RunError(
            f"The run {run.path} has no checkpoint yet.",
            "A checkpoint is written before the first step.",
            f"Go on with it: `penna resume {run.path}`.",
        )
    verify_checkpoint(checkpoint)
    tokenizer = Tokenizer.load(run.tokenizer) if run.tokenizer.exists() else None
    model = _ready(run.recipe().model, read_tensors(checkpoint / MODEL), device, dtype)
    return LoadedModel(model, tokenizer, checkpoint, run)


def load_task(target: str, runs_dir: Path) -> TaskConfig:
    """What the model of a run, a checkpoint or a Hugging Face folder learned to do."""
    path = hf_folder(target)
    return find_run_and_checkpoint(target, runs_dir)[0].recipe().task if path is None else read_hf(path).task


def _ready(config: ModelConfig, weights: Mapping[str, torch.Tensor], device: torch.device, dtype: Dtype) -> GPT:
    model = build_model(config)
    model.load_state_dict(weights)
    model.use_matmul(fastest_matmul(device))
    model = model.to(device).eval().requires_grad_(False)
    convert_weights(model, dtype)
    return model


def hf_folder(target: str) -> Path | None:
    """The folder, where a Hugging Face model's is meant: one at hand, or of the hub (``hf://owner/name``)."""
    if target.startswith(HUB_PREFIX):
        return download_from_hub(target)
    path = expand_path(target)
    return path if (path / "config.json").is_file() and not (path / "recipe.toml").is_file() else None


def find_run_and_checkpoint(target: str, runs_dir: Path) -> tuple[RunFolder, Path | None]:
    """A run by name or path, or the run and checkpoint of a checkpoint's path."""
    path = Path(target)
    if path.is_dir() and path.resolve().parent.name == "checkpoints":
        return find_run(str(path.resolve().parent.parent), runs_dir), path.resolve()
    return find_run(target, runs_dir), None
