"""Models at hand: loading them, taking them in from other tools and handing them out."""

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
    """The model of a run (its best checkpoint), of one checkpoint, or of a Hugging Face folder, ready to be used."""
    return load_model(target, runs_dir=runs_dir, device=resolve_device(device), dtype=dtype)


def import_model(
    source: str, *, name: str, runs_dir: Path = RUNS, overwrite: bool = False, allow_pickle: bool = False
) -> RunFolder:
    """Make a run of a Hugging Face folder, to be used or trained further like any other."""
    check_name_is_free(runs_dir, name, overwrite)
    foreign = read_hf(hf_folder(source) or Path(source), allow_pickle=allow_pickle)
    model = build_model(foreign.config)
    model.load_state_dict(foreign.weights)
    recipe = Recipe(description=f"imported from {source}", model=foreign.config, task=foreign.task)
    with new_run(runs_dir, name, recipe, overwrite=overwrite) as run:
        if foreign.tokenizer is not None:
            foreign.tokenizer.save(run.tokenizer)
        content = Checkpoint(model.state_dict(), {}, {"step": 0, "imported_from": source})
        path = write_checkpoint(run.checkpoints, 0, content)
        run.set_checkpoint("last", path)
        run.set_checkpoint("best", path)
        run.update_info(state="imported", **provenance(recipe))
    return RunFolder(runs_dir / name)


def export_model(loaded: LoadedModel, output: Path) -> str:
    """Write a model as a Hugging Face folder; the name of the class that reads it."""
    return write_hf(
        loaded.model.config, loaded.model.state_dict(), output, tokenizer=loaded.tokenizer, task=loaded.task
    )
