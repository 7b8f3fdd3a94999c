"""Load, import and export models."""

from __future__ import annotations

from pathlib import Path

from penna.config.schema import Recipe
from penna.interop.hf_folder import read_hf, write_hf
from penna.loading import LoadedModel, hf_folder, load_model
from penna.model.precision import Dtype
from penna.model.seq2seq import build_model
from penna.runs.checkpoint import Checkpoint, write_checkpoint
from penna.runs.folder import RUNS, RunFolder, check_name_is_free, new_run
from penna.runs.provenance import provenance
from penna.train.device import resolve_device


def load(target: str, *, runs_dir: Path = RUNS, device: str = "auto", dtype: Dtype = "float32") -> LoadedModel:
    """Load a run (its best checkpoint), a checkpoint, a Hugging Face folder or a model of the hub, for inference."""
    return load_model(target, runs_dir=runs_dir, device=resolve_device(device), dtype=dtype)


def import_model(
    source: str, *, name: str, runs_dir: Path = RUNS, overwrite: bool = False, allow_pickle: bool = False
) -> RunFolder:
    """Turn a Hugging Face folder or hub model into a run."""
    check_name_is_free(runs_dir, name, overwrite)
    hf_model = read_hf(hf_folder(source) or Path(source), allow_pickle=allow_pickle)
    model = build_model(hf_model.config)
    model.load_state_dict(hf_model.weights)
    recipe = Recipe(description=f"imported from {source}", model=hf_model.config, task=hf_model.task)
    with new_run(runs_dir, name, recipe, overwrite=overwrite) as run:
        if hf_model.tokenizer is not None:
            hf_model.tokenizer.save(run.tokenizer)
        checkpoint = Checkpoint(model.state_dict(), {}, {"step": 0, "imported_from": source})
        path = write_checkpoint(run.checkpoints, 0, checkpoint)
        run.set_checkpoint("last", path)
        run.set_checkpoint("best", path)
        run.update_info(state="imported", **provenance(recipe))
    return RunFolder(runs_dir / name)


def export_model(loaded: LoadedModel, output: Path) -> str:
    """Write a model as a Hugging Face folder; returns the name of its class."""
    return write_hf(
        loaded.model.config, loaded.model.state_dict(), output, tokenizer=loaded.tokenizer, task=loaded.task
    )
